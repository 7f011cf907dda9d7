"""route_softmax_topk - softmax over all experts, the k best, their probabilities as they are.

Signature   logits f32[T,E], k i64 -> ids i64[T,k], weights f32[T,k]
Semantics   p = softmax(logits[t]); ids[t] = the k experts with the largest p, best first; weights[t,j] = p[ids[t,j]]
Order       R1 m = max of the row, exact; R2 e = exp(logits - m): the difference rounded, exp correctly rounded;
            R3 z = sum of e in 16 lanes (expert mod 16) and the halving tree; R4 p = e / z
Special     nan never beats a number, in R1 and in the choice; with a nan or +inf in the row all p are nan:
            then the k lowest ids are chosen, with weight nan
Ties        compared by p after R4: the larger first, then the lower id; also at the cut
Errors      k > E is refused by the program check
Golden      route_softmax_topk: all_equal, all_negative, choose_all, experts_128_choose_8, experts_60_choose_4,
            experts_64_choose_6, experts_64_choose_8, experts_8_choose_2, infinite_logits, large_logits, many_rows,
            nan_row, near_tie_at_cut, one_choice, rows_of_different_level, tie_at_cut, tie_made_by_rounding,
            unnormalised_weights, wide_256_plus
Origin      norm_topk_prob false (OLMoE, Qwen1.5-MoE, Qwen2-57B; the class default of Qwen3-MoE). Dissent: softmax of
            the chosen only
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.select import choose, softmax_row


@kernel
def route_softmax_topk(logits, ids, weights):
    """Plain kernel: logits f32[T,E] -> ids i64[T,k], weights f32[T,k]."""
    p = np.empty(logits.shape[1], np.float32)
    for t in range(logits.shape[0]):
        softmax_row(logits[t], p)  # R1-R4
        choose(p, ids[t])
        for j in range(ids.shape[1]):
            weights[t, j] = p[ids[t, j]]


def plain(logits, k):
    """The op through the plain kernel; see Signature."""
    ids, weights = np.empty((logits.shape[0], int(k)), np.int64), np.empty((logits.shape[0], int(k)), np.float32)
    route_softmax_topk(logits, ids, weights)
    return ids, weights


def bind(weights, attrs, parts):
    """Engine call logits f32[T,E] -> (ids, weights); the plain kernel is fast enough."""
    return lambda logits: plain(logits, attrs["k"])
