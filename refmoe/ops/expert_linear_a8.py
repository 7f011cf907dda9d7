"""expert_linear_a8 - the matrices of the chosen experts, as codes of the weights times codes of the rows.

Signature   x f32[T,I], ids i64[T,K], w matrix[E][F,I] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], w matrix[E][F,I] -> y f32[T,K,F]
            | x f32[T,I], ids i64[T,K], q i64[E,F,I], scale f32[E,F,U], minimum f32[E,F,U] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], q i64[E,F,I], scale f32[E,F,U], minimum f32[E,F,U] -> y f32[T,K,F]
Semantics   y[t,j] = the matrix of expert ids[t,j] times x[t], or x[t,j], as in linear_a8: with integer codes of w, and
            of x for groups of 32 columns; experts in formats that state no codes as in expert_linear
Order       activation_codes for every pair of rows, R1 to R9
Special     as linear_a8; an expert that nobody chose is not read
Errors      ids outside 0..E-1 cannot arise: routing writes them
Golden      expert_linear_a8: idle_experts, minima, permuted_experts, row_per_choice, several_units, units_of_16
Origin      as linear_a8. x is quantised once, whoever reads it
"""

import numpy as np

from refmoe import formats, jit
from refmoe.numerics.activation_codes import products

if jit.ENABLED:
    from refmoe.kernels.grouped import expert_products


def plain(x, ids, q, scale, minimum):
    """The op through the plain kernel of activation_codes, choice by choice; see Signature."""
    y = np.empty((*ids.shape, q.shape[1]), np.float32)
    for t, j in np.ndindex(ids.shape):
        expert, row = ids[t, j], x[t] if x.ndim == 2 else x[t, j]
        products(row[None], q[expert], scale[expert], minimum[expert], y[t, j:j + 1])
    return y


def bind(weights, attrs, parts):
    """Engine call (x, ids) -> f32[T,K,F]."""
    call = bind_many([weights], parts)
    return lambda x, ids: call(x, ids)[0]


def bind_many(together, parts):
    """Engine call (x, ids) -> list of f32[T,K,F]: several matrices per expert (gate and up) in one launch."""
    kinds = [experts for (experts,) in together]
    if not jit.ENABLED:
        return lambda x, ids: [_plain_experts(x, ids, experts) for experts in kinds]
    operands = formats.operands(kinds, int8=True)
    return lambda x, ids: expert_products(operands, x, ids, parts)


def _plain_experts(x, ids, experts):
    y, calls = np.empty((*ids.shape, experts[0].rows), np.float32), {}
    for t, j in np.ndindex(ids.shape):
        expert = int(ids[t, j])
        calls[expert] = calls.get(expert) or formats.plain_a8(experts[expert])
        y[t, j] = calls[expert]((x[t] if x.ndim == 2 else x[t, j])[None])[0]
    return y
