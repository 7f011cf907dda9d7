"""expert_linear_bias_a8 - the matrices of the chosen experts as codes times codes, and the bias of each of them.

Signature   x f32[T,I], ids i64[T,K], w matrix[E][F,I], b f32[E,F] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], w matrix[E][F,I], b f32[E,F] -> y f32[T,K,F]
            | x f32[T,I], ids i64[T,K], q i64[E,F,I], scale f32[E,F,U], minimum f32[E,F,U], b f32[E,F] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], q i64[E,F,I], scale f32[E,F,U], minimum f32[E,F,U], b f32[E,F]
              -> y f32[T,K,F]
Semantics   y[t,j] = (the product of expert_linear_a8) + b[ids[t,j]]
Order       the product as in expert_linear_a8; then the bias is added once, rounded once
Special     as expert_linear_a8
Errors      as expert_linear_a8
Golden      expert_linear_bias_a8: bias_after_tree, row_per_choice
Origin      as linear_a8, for gpt-oss
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics.activation_codes import products

if jit.ENABLED:
    from refmoe.kernels.grouped import expert_products


@kernel
def add_biases(y, ids, b):
    """In place: y f32[T,K,F] += b f32[E,F] of the experts ids i64[T,K]."""
    for t in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            row, bias = y[t, j], b[ids[t, j]]
            for f in range(row.shape[0]):
                row[f] = np.float32(row[f] + bias[f])


def plain(x, ids, q, scale, minimum, b):
    """The op through the plain kernel of activation_codes, choice by choice; see Signature."""
    y = np.empty((*ids.shape, q.shape[1]), np.float32)
    for t, j in np.ndindex(ids.shape):
        expert, row = ids[t, j], x[t] if x.ndim == 2 else x[t, j]
        products(row[None], q[expert], scale[expert], minimum[expert], y[t, j:j + 1])
    add_biases(y, ids, b)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, ids) -> f32[T,K,F]."""
    experts, b = weights
    operands = formats.operands([experts], int8=True) if jit.ENABLED else None

    def call(x, ids):
        y = expert_products(operands, x, ids, parts)[0] if jit.ENABLED else _plain_experts(x, ids, experts)
        add_biases(y, ids, b)
        return y

    return call


def _plain_experts(x, ids, experts):
    y, calls = np.empty((*ids.shape, experts[0].rows), np.float32), {}
    for t, j in np.ndindex(ids.shape):
        expert = int(ids[t, j])
        calls[expert] = calls.get(expert) or formats.plain_a8(experts[expert])
        y[t, j] = calls[expert]((x[t] if x.ndim == 2 else x[t, j])[None])[0]
    return y
