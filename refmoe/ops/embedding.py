"""embedding - the row of a matrix that belongs to each token id.

Signature   ids i64[T], w matrix[V,H] -> y f32[T,H]
Semantics   y[t] = W_eff[ids[t]]
Order       no rounding: W_eff is exact for every format of the embedding
Special     inf and nan are copied
Errors      ids outside 0..V-1 are refused before the engine runs
Golden      embedding: first_and_last_row, repeated_ids
Origin      the models are published with tied or separate heads; the embedding is never scaled here
"""

import numpy as np

from refmoe import formats
from refmoe.jit import kernel


@kernel
def gather(ids, w, y):
    """Plain kernel: ids i64[T], w f32[V,H] -> y f32[T,H]."""
    for t in range(ids.shape[0]):
        for h in range(w.shape[1]):
            y[t, h] = w[ids[t], h]


def plain(ids, w):
    """The op through the plain kernel; see Signature."""
    y = np.empty((ids.shape[0], w.shape[1]), np.float32)
    gather(ids, w, y)
    return y


def bind(weights, attrs, parts):
    """Engine call ids i64[T] -> f32[T,H]; only the rows asked for are decoded."""
    (weight,) = weights
    return lambda ids: formats.decode_rows(weight, ids)
