"""expert_linear_bias - the matrices of the chosen experts, and the bias of each of them.

Signature   x f32[T,I], ids i64[T,K], w matrix[E][F,I], b f32[E,F] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], w matrix[E][F,I], b f32[E,F] -> y f32[T,K,F]
Semantics   y[t,j,f] = (sum over i of W_eff[ids[t,j]][f,i] * x[t,i]) + b[ids[t,j],f]; with the second signature
            x[t,j,i] for x[t,i]
Order       R1 the sum by the one reduction, as in expert_linear; R2 the bias added once, after the tree, rounded once,
            and so before the routing weight
Special     as expert_linear
Errors      as expert_linear
Golden      expert_linear_bias: bias_after_tree, bias_before_routing_weight, permuted_experts, row_per_choice
Origin      gpt-oss: gate and up in one matrix, and down. Dissent: engines that add the bias after weighing the experts
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.grouped import expert_products


@kernel
def expert_linear_bias(x, ids, w, b, y):
    """Plain kernel: x f32[T,J,I], J = 1 (shared row) or K, ids i64[T,K], w f32[E,F,I], b f32[E,F] -> y f32[T,K,F]."""
    for t in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            for f in range(w.shape[1]):
                dot = reduce.dot(w[ids[t, j], f], x[t, min(j, x.shape[1] - 1)])  # R1
                y[t, j, f] = np.float32(dot + b[ids[t, j], f])  # R2


@kernel
def add_biases(y, ids, b):
    """R2 in place: y f32[T,K,F] += b f32[E,F] of the experts ids i64[T,K]."""
    for t in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            row, bias = y[t, j], b[ids[t, j]]
            for f in range(row.shape[0]):
                row[f] = np.float32(row[f] + bias[f])


def plain(x, ids, w, b):
    """The op through the plain kernel; w f32[E,F,I]; see Signature."""
    y = np.empty((*ids.shape, w.shape[1]), np.float32)
    expert_linear_bias(x if x.ndim == 3 else x[:, None, :], ids, w, b, y)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, ids) -> f32[T,K,F]."""
    experts, b = weights
    if not jit.ENABLED:
        stack = np.stack([formats.decode(weight) for weight in experts])
        return lambda x, ids: plain(x, ids, stack, b)
    operands = formats.operands([experts])

    def call(x, ids):
        (y,) = expert_products(operands, x, ids, parts)
        add_biases(y, ids, b)
        return y

    return call
