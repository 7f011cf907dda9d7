"""Products with the matrices of chosen experts: the choices sorted by expert, one launch of kernels.matmul."""

import numpy as np

from refmoe.jit import kernel
from refmoe.kernels.matmul import matmul


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


def expert_products(operands, x, ids, parts):
    """List of f32[T,K,rows[m]], one for each kind of `operands` (a set for each expert), for ids i64[T,K].

    x f32[T,I] (a row for all choices of a token) or f32[T,K,I]; `parts` shares, any number gives the same bits
    """
    share = ids.shape[1] if x.ndim == 2 else 1  # choices that read the same row of x
    starts, choice, row = by_expert(ids.reshape(-1), operands.descriptors.shape[1], share)
    outs = matmul(operands, x.reshape(-1, x.shape[-1]), row, starts, choice, parts)
    return [out.reshape(*ids.shape, out.shape[1]) for out in outs]
