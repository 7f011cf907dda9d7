"""linear_a8 - one matrix applied to every row, as codes of the weights times codes of the row.

Signature   x f32[T,K], w matrix[N,K] -> y f32[T,N]
            | x f32[T,K], q i64[N,K], scale f32[N,U], minimum f32[N,U] -> y f32[T,N]
Semantics   y[t,n] = sum over k of W[n,k] * x'[t,k], x' the row as 8-bit codes in groups of 32 columns, W given by the
            integer codes q, scale and minimum that the clause of w's format states (section Codes). With a format, or
            settings, for which it states none the op is linear
Order       activation_codes for every pair of rows, R1 to R9
Special     a row with inf or nan gives nan everywhere, unless the op is linear
Errors      as linear
Golden      linear_a8: group_of_zeros, half_ties, large_and_tiny_groups, lane_order, many_rows, minima, not_finite,
            one_row, partial_unit, units_of_16
Origin      what llama.cpp does for every quantised matrix, in an order of its own; see activation_codes
"""

import numpy as np

from refmoe import formats, jit
from refmoe.numerics.activation_codes import products

if jit.ENABLED:
    from refmoe.kernels.matmul import product


def plain(x, q, scale, minimum):
    """The op through the plain kernel; see Signature."""
    y = np.empty((x.shape[0], q.shape[0]), np.float32)
    products(x, q, scale, minimum, y)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,K] -> f32[T,N]."""
    call = bind_many([weights], parts)
    return lambda x: call(x)[0]


def bind_many(operands, parts):
    """Engine call x f32[T,K] -> list of f32[T,N]: several matrices applied to the same rows in one launch."""
    matrices = [weight for (weight,) in operands]
    if not jit.ENABLED:
        calls = [formats.plain_a8(weight) for weight in matrices]
        return lambda x: [call(x) for call in calls]
    return product(formats.operands([[weight] for weight in matrices], int8=True), parts)
