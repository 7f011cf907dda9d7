"""logits - the head matrix applied to the normalised residual stream.

Signature   x f32[T,H], w matrix[V,H] -> y f32[T,V]
Semantics   y[t,v] = sum over h of W_eff[v,h] * x[t,h]; W is the stored head, or the embedding matrix where the two are
            tied
Order       the one reduction, as in linear; no cap, no scale, no bias
Special     inf and nan follow IEEE 754
Errors      as linear
Golden      logits: many_rows, near_tie, tied_head
Origin      all families of this floor. A tied checkpoint that stores a head as well (Qwen3-0.6B) uses the embedding
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.matmul import product


@kernel
def logits(x, w, y):
    """Plain kernel: x f32[T,H], w f32[V,H] -> y f32[T,V]."""
    for t in range(x.shape[0]):
        for v in range(w.shape[0]):
            y[t, v] = reduce.dot(w[v], x[t])


def plain(x, w):
    """The op through the plain kernel; see Signature."""
    y = np.empty((x.shape[0], w.shape[0]), np.float32)
    logits(x, w, y)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,H] -> f32[T,V]."""
    (weight,) = weights
    if not jit.ENABLED:
        matrix = formats.decode(weight)
        return lambda x: plain(x, matrix)
    multiply = product(formats.operands([[weight]]), parts)
    return lambda x: multiply(x)[0]
