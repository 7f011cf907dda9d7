"""select - softmax of one row and the choice of its k best entries, as the routing ops specify them.

Signature   softmax_row(row f32[E], p f32[E]);  choose(p f32[E], ids i64[k])
Semantics   p = exp(row - max) / sum;  ids = the k largest p, best first
Order       softmax: m exact; e = exp(row - m), difference rounded, exp correctly rounded; z = sum of e in 16 lanes and
            the halving tree (numerics.reduce); p = e / z
Special     nan never wins the maximum; a nan in the row makes z and every p nan
Ties        the larger p first, then the lower id; a row of nan gives the k lowest ids
Origin      shared by route_softmax_topk and route_softmax_topk_renorm
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics import reduce
from refmoe.numerics.elementary import exp32


@kernel
def softmax_row(row, p):
    """Softmax of row f32[E] into p f32[E]."""
    top = np.float32(-np.inf)
    for e in range(row.shape[0]):
        if row[e] > top:
            top = row[e]
    for e in range(row.shape[0]):
        p[e] = exp32(np.float32(row[e] - top))
    total = reduce.lane_sum(p)
    for e in range(row.shape[0]):
        p[e] = np.float32(p[e] / total)


@kernel
def choose(p, ids):
    """The ids.shape[0] largest of p f32[E], best first; ties go to the lower id."""
    taken = np.zeros(p.shape[0], np.bool_)
    for j in range(ids.shape[0]):
        best = -1
        for e in range(p.shape[0]):
            if not taken[e] and (best < 0 or p[e] > p[best]):
                best = e
        taken[best] = True
        ids[j] = best
