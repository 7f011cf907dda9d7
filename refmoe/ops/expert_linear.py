"""expert_linear - the matrices of the chosen experts, one product per choice.

Signature   x f32[T,I], ids i64[T,K], w matrix[E][F,I] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], w matrix[E][F,I] -> y f32[T,K,F]
Semantics   y[t,j,f] = sum over i of W_eff[ids[t,j]][f,i] * x[t,i]; with the second signature x[t,j,i] for x[t,i]
Order       the one reduction over i, as in linear. Grouping rows by expert changes the order of work, not a bit
Special     inf and nan follow IEEE 754; an expert that nobody chose is not read
Errors      ids outside 0..E-1 cannot arise: routing writes them
Golden      expert_linear: every_row_one_expert, expert_ids_above_255, non_square, permuted_experts, permuted_tokens,
            repeated_expert, row_per_choice, square
Origin      gate and up use the first signature, down the second (Mixtral w1, w3, w2)
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.grouped import expert_products


@kernel
def expert_linear(x, ids, w, y):
    """Plain kernel: x f32[T,J,I] with J = 1 (shared row) or K, ids i64[T,K], w f32[E,F,I] -> y f32[T,K,F]."""
    for t in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            for f in range(w.shape[1]):
                y[t, j, f] = reduce.dot(w[ids[t, j], f], x[t, min(j, x.shape[1] - 1)])


def plain(x, ids, w):
    """The op through the plain kernel; w f32[E,F,I]; see Signature."""
    y = np.empty((*ids.shape, w.shape[1]), np.float32)
    expert_linear(x if x.ndim == 3 else x[:, None, :], ids, w, y)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, ids) -> f32[T,K,F]."""
    call = bind_many([weights], parts)
    return lambda x, ids: call(x, ids)[0]


def bind_many(together, parts):
    """Engine call (x, ids) -> list of f32[T,K,F]: several matrices per expert (gate and up) in one launch."""
    kinds = [experts for (experts,) in together]
    if not jit.ENABLED:
        stacks = [np.stack([formats.decode(weight) for weight in experts]) for experts in kinds]
        return lambda x, ids: [plain(x, ids, stack) for stack in stacks]
    operands = formats.operands(kinds)
    return lambda x, ids: expert_products(operands, x, ids, parts)
