"""select - softmax of one row and the choice of its k best entries, as the routing ops specify them.

Signature   softmax_row(row f32[E], p f32[E]);  choose(p f32[E], ids i64[k]);
            choose_open(p f32[E], scores f32[groups], open i64, ids i64[k])
Semantics   p = exp(row - max) / sum;  ids = the k largest p, best first; choose_open: of the groups of E / groups
            neighbours, only those with the `open` largest scores take part
Order       softmax: m exact; e = exp(row - m), difference rounded, exp correctly rounded; z = sum of e in 16 lanes and
            the halving tree (numerics.reduce); p = e / z
Special     nan never wins the maximum; a nan in the row makes z and every p nan. In a choice every number, -inf too,
            comes before every nan
Ties        the larger p first, then the lower id; nans by ascending id, so a row of nan gives the k lowest ids. Groups
            are chosen by the same rule
Origin      shared by the routing ops
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics import reduce
from refmoe.numerics.elementary import exp32, sigmoid32


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
def _best(p, taken):
    """The id of the largest entry that is not taken: numbers before nans, then the lower id. One must be free."""
    best = -1
    for e in range(p.shape[0]):
        if not taken[e] and (best < 0 or p[e] > p[best] or (p[best] != p[best] and p[e] == p[e])):
            best = e
    return best


@kernel
def choose(p, ids):
    """The ids.shape[0] largest of p f32[E], best first; ties go to the lower id."""
    taken = np.zeros(p.shape[0], np.bool_)
    for j in range(ids.shape[0]):
        ids[j] = _best(p, taken)
        taken[ids[j]] = True


@kernel
def choose_open(p, scores, open_groups, ids):
    """As choose, among the experts of the `open_groups` groups with the largest scores; they hold at least k."""
    size = p.shape[0] // scores.shape[0]
    taken, closed = np.ones(p.shape[0], np.bool_), np.zeros(scores.shape[0], np.bool_)
    for _ in range(open_groups):
        group = _best(scores, closed)
        closed[group] = True  # found: not to be found again
        taken[group * size:(group + 1) * size] = False
    for j in range(ids.shape[0]):
        ids[j] = _best(p, taken)
        taken[ids[j]] = True


@kernel
def sigmoid_row(row, bias, s, b):
    """s = sigmoid(row), b = s + bias, for f32[E]."""
    for e in range(row.shape[0]):
        s[e] = sigmoid32(row[e])
        b[e] = np.float32(s[e] + bias[e])


@kernel
def best_of_groups(p, scores):
    """scores f32[groups]: the largest entry of each group of neighbours of p f32[E]."""
    size = p.shape[0] // scores.shape[0]
    taken = np.zeros(size, np.bool_)
    for group in range(scores.shape[0]):
        members = p[group * size:(group + 1) * size]
        scores[group] = members[_best(members, taken)]


@kernel
def two_best_of_groups(p, scores):
    """scores f32[groups]: the sum of the two largest entries of each group; of one entry, that one."""
    size = p.shape[0] // scores.shape[0]
    taken = np.zeros(size, np.bool_)
    for group in range(scores.shape[0]):
        members = p[group * size:(group + 1) * size]
        first = _best(members, taken)
        scores[group] = members[first]
        if size > 1:
            taken[first] = True
            scores[group] = np.float32(members[first] + members[_best(members, taken)])
            taken[first] = False
