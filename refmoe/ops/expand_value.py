"""expand_value - outputs of latent attention expanded: the value half of the expanding matrix, applied per head.

Signature   x f32[T,N*R], w matrix[N*W,R], width i64 -> y f32[T,N*width]
Semantics   y[t, n*width + u] = sum over r of W_eff[n*W + W - width + u, r] * x[t, n*R + r]: the last `width` of the W
            rows of head n
Order       the one reduction over r, as in linear
Special     inf and nan follow IEEE 754
Errors      shapes that do not fit are refused by the program check; width above W is refused with the config
Golden      expand_value: heads_have_their_own_rows, lane_order, many_rows, odd_sizes, special_values, value_rows_only
Origin      the absorbed form of latent attention (arXiv:2405.04434): the sum over positions is taken on latents, then
            expanded once. Dissent: values expanded for every position, equal in real arithmetic (OK3)
"""

from functools import lru_cache

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.matmul import matmul


@kernel
def expand_value(x, w, y):
    """Plain kernel: x f32[T,N,R], w f32[N,W,R] -> y f32[T,N,width]."""
    first = w.shape[1] - y.shape[2]
    for t in range(x.shape[0]):
        for n in range(x.shape[1]):
            for u in range(y.shape[2]):
                y[t, n, u] = reduce.dot(w[n, first + u], x[t, n])


def plain(x, w, width, heads):
    """The op through the plain kernel; see Signature."""
    tokens, rank = x.shape[0], w.shape[1]
    y = np.empty((tokens, heads, width), np.float32)
    expand_value(x.reshape(tokens, heads, rank), w.reshape(heads, -1, rank), y)
    return y.reshape(tokens, heads * width)


def bind(weights, attrs, parts):
    """Engine call x f32[T,N*R] -> f32[T,N*width]."""
    (weight,), heads, width = weights, attrs["heads"], attrs["width"]
    if not jit.ENABLED:
        decoded = formats.decode(weight)
        return lambda x: plain(x, decoded, width, heads)
    rows = weight.rows // heads
    operands = formats.row_blocks(weight, [(n + 1) * rows - width for n in range(heads)], width)

    def call(x):
        places, starts = _by_head(x.shape[0], heads)
        (y,) = matmul(operands, x.reshape(-1, weight.cols), places, starts, places, parts)
        return y.reshape(x.shape[0], heads * width)

    return call


@lru_cache(64)
def _by_head(tokens, heads):
    """Rows (token, head) in the order of heads, and where each head begins: one set of kernels.matmul for each."""
    places = np.arange(tokens * heads).reshape(tokens, heads).T.reshape(-1).copy()
    return places, np.arange(0, tokens * heads + 1, tokens)
