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
    from refmoe.kernels.matmul import matmul


@kernel
def expert_linear(x, ids, w, y):
    """Plain kernel: x f32[T,J,I] with J = 1 (shared row) or K, ids i64[T,K], w f32[E,F,I] -> y f32[T,K,F]."""
    for t in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            for f in range(w.shape[1]):
                y[t, j, f] = reduce.dot(w[ids[t, j], f], x[t, min(j, x.shape[1] - 1)])


@kernel
def by_expert(ids, experts, share):
    """Choices ids i64[S] sorted by expert, order kept: starts i64[E+1], choice i64[S], row i64[S] = choice // share."""
    starts = np.zeros(experts + 1, np.int64)
    for s in range(ids.shape[0]):
        starts[ids[s] + 1] += 1
    for e in range(experts):
        starts[e + 1] += starts[e]
    fill, choice, row = starts.copy(), np.empty(ids.shape[0], np.int64), np.empty(ids.shape[0], np.int64)
    for s in range(ids.shape[0]):
        choice[fill[ids[s]]] = s
        row[fill[ids[s]]] = s // share
        fill[ids[s]] += 1
    return starts, choice, row


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
    operands, experts = formats.operands(kinds), len(kinds[0])

    def call(x, ids):
        share = ids.shape[1] if x.ndim == 2 else 1  # choices that read the same row of x
        starts, choice, row = by_expert(ids.reshape(-1), experts, share)
        outs = matmul(operands, x.reshape(-1, x.shape[-1]), row, starts, choice, parts)
        return [out.reshape(*ids.shape, out.shape[1]) for out in outs]

    return call
