"""linear - one matrix applied to every row.

Signature   x f32[T,K], w matrix[N,K] -> y f32[T,N]
Semantics   y[t,n] = sum over k of W_eff[n,k] * x[t,k]
Order       the one reduction (numerics.reduce): 16 lanes, lane k mod 16, fma in ascending k from +0, K padded with +0;
            halving tree 8, 4, 2, 1. Nothing else is rounded. The order depends on K alone: not on T, threads or blocks
Special     inf and nan follow IEEE 754; no zero is skipped
Errors      K = 0 is refused by the program check
Golden      linear: cancellation, equal_row_alone, equal_rows, lane_order, many_rows, non_square_matrix, one_row,
            partial_lanes, router_near_tie, router_of_bf16_weights, special_values, square_matrix
Origin      y = x W^T as published ([out, in] storage). Dissent: every BLAS has its own order, often dependent on T
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.matmul import product


@kernel
def linear(x, w, y):
    """Plain kernel: x f32[T,K], w f32[N,K] -> y f32[T,N]."""
    for t in range(x.shape[0]):
        for n in range(w.shape[0]):
            y[t, n] = reduce.dot(w[n], x[t])


def plain(x, w):
    """The op through the plain kernel; see Signature."""
    y = np.empty((x.shape[0], w.shape[0]), np.float32)
    linear(x, w, y)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,K] -> f32[T,N]."""
    call = bind_many([weights], parts)
    return lambda x: call(x)[0]


def bind_many(operands, parts):
    """Engine call x f32[T,K] -> list of f32[T,N]: several matrices applied to the same rows in one launch."""
    matrices = [weight for (weight,) in operands]
    if not jit.ENABLED:
        decoded = [formats.decode(weight) for weight in matrices]
        return lambda x: [plain(x, w) for w in decoded]
    return product(formats.operands([[weight] for weight in matrices]), parts)
