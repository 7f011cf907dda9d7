"""route_topk_softmax - the k largest logits, weights by the softmax of these k alone.

Signature   logits f32[T,E], k i64 -> ids i64[T,k], weights f32[T,k]
Semantics   ids[t] = the k experts with the largest logits, best first; weights[t] = softmax of logits[t,ids[t]]
Order       R1 m = logits[t,ids[t,0]], exact; R2 e = exp(logit - m) of each chosen logit: the difference rounded, exp
            correctly rounded; R3 z = sum of the e in rank order, from the best on, each sum rounded; R4 weight = e / z
Special     in the choice every number, -inf too, comes before every nan; a chosen nan, a first choice of +inf, and a
            row of -inf make all k weights nan
Ties        compared as logits: the larger first, then the lower id; also at the cut
Errors      k > E is refused by the program check
Golden      route_topk_softmax: all_equal, all_negative, choose_all, experts_128_choose_4, experts_32_choose_4,
            infinite_logits, large_logits, many_rows, nan_row, near_tie_at_cut, one_choice, rows_of_different_level,
            sum_in_rank_order, tie_at_cut, wide_256_plus
Origin      gpt-oss. Dissent: softmax over all experts, then top-k and division by the sum (route_softmax_topk_renorm:
            equal in real arithmetic, other bits, and other ids where the softmax makes two logits equal)
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.elementary import exp32
from refmoe.numerics.select import choose


@kernel
def route_topk_softmax(logits, ids, weights):
    """Plain kernel: logits f32[T,E] -> ids i64[T,k], weights f32[T,k]."""
    for t in range(logits.shape[0]):
        choose(logits[t], ids[t])
        top = logits[t, ids[t, 0]]  # R1
        for j in range(ids.shape[1]):
            weights[t, j] = exp32(np.float32(logits[t, ids[t, j]] - top))  # R2
        total = weights[t, 0]
        for j in range(1, ids.shape[1]):
            total = np.float32(total + weights[t, j])  # R3
        for j in range(ids.shape[1]):
            weights[t, j] = np.float32(weights[t, j] / total)  # R4


def plain(logits, k):
    """The op through the plain kernel; see Signature."""
    ids, weights = np.empty((logits.shape[0], int(k)), np.int64), np.empty((logits.shape[0], int(k)), np.float32)
    route_topk_softmax(logits, ids, weights)
    return ids, weights


def bind(weights, attrs, parts):
    """Engine call logits f32[T,E] -> (ids, weights); the plain kernel is fast enough."""
    return lambda logits: plain(logits, attrs["k"])
