"""absorb_query - queries carried into the latent space: the key half of the expanding matrix, applied to them.

Signature   x f32[T,N*P], w matrix[N*W,R] -> y f32[T,N*R]
Semantics   y[t, n*R + r] = sum over p < P of W_eff[n*W + p, r] * x[t, n*P + p]. W_eff[n*W + p] are the P rows that
            would expand a latent into the key of head n; the sum runs down a column
Order       the one reduction over p: lane p mod 16
Special     inf and nan follow IEEE 754; nothing is skipped
Errors      shapes that do not fit are refused by the program check
Golden      absorb_query: heads_have_their_own_rows, key_rows_only, lane_order, odd_sizes, special_values, square
Origin      the absorbed form of latent attention (arXiv:2405.04434, 2.1.2): (W c) . q = c . (W^T q), so keys are never
            expanded; one form for prefill and decode. Dissent: the expanded form, equal in real arithmetic (OK3)
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.absorb import absorb


@kernel
def absorb_query(x, w, y):
    """Plain kernel: x f32[T,N,P], w f32[N,W,R] -> y f32[T,N,R]."""
    size, column = x.shape[2], np.empty(x.shape[2], np.float32)
    for n in range(x.shape[1]):
        for r in range(w.shape[2]):
            for p in range(size):
                column[p] = w[n, p, r]
            for t in range(x.shape[0]):
                y[t, n, r] = reduce.dot(column, x[t, n])


def plain(x, w, heads):
    """The op through the plain kernel; see Signature."""
    tokens, rank = x.shape[0], w.shape[1]
    y = np.empty((tokens, heads, rank), np.float32)
    absorb_query(x.reshape(tokens, heads, -1), w.reshape(heads, -1, rank), y)
    return y.reshape(tokens, heads * rank)


def bind(weights, attrs, parts):
    """Engine call x f32[T,N*P] -> f32[T,N*R]."""
    (weight,), heads = weights, attrs["heads"]
    if not jit.ENABLED:
        decoded = formats.decode(weight)
        return lambda x: plain(x, decoded, heads)
    operands = formats.row_blocks(weight, [0], weight.rows)  # owns the bytes the descriptor points into
    return lambda x: absorb(x, operands.descriptors[0, 0], heads, weight.rows // heads, weight.cols, parts)
