"""route_softmax_groups - softmax over all experts, groups for the choice, probabilities times a factor as weights.

Signature   logits f32[T,E], k i64, groups i64, open_groups i64, factor f32 -> ids i64[T,k], weights f32[T,k]
Semantics   p = softmax(logits[t]). The score of a group of E / groups neighbours is its largest p; the open_groups
            groups with the largest scores are open. ids[t] = the k experts of open groups with the largest p, best
            first; weights[t,j] = p[ids[t,j]] * factor
Order       R1 m = max of the row, exact; R2 e = exp(logits - m): the difference rounded, exp correctly rounded;
            R3 z = sum of e in 16 lanes (expert mod 16) and the halving tree; R4 p = e / z; R5 weight = p * factor
Special     an expert of a closed group is never chosen. nan never beats a number, in R1 and in the choice; with a nan
            or +inf in the row all p are nan: then the lowest groups are open, their k lowest ids chosen, weights nan
Ties        compared by p after R4: the larger first, then the lower id; for groups and experts, also at the cut
Errors      E must be a multiple of groups, and the open groups must hold k experts (refused with the config)
Golden      route_softmax_groups: all_equal, all_negative, choose_all, closed_group_beats_zeros,
            experts_160_groups_8_choose_6, experts_60_groups_5_choose_4, experts_64_choose_6, groups_by_best,
            groups_differ_by_row, infinite_logits, nan_row, near_tie_at_cut, one_choice, tie_at_cut,
            tie_between_groups, tie_made_by_rounding, wide_groups_above_255
Origin      DeepSeek-V2 (topk_method group_limited_greedy; greedy is one group), norm_topk_prob false. Dissent: the
            model code and transformers fill closed groups with 0, so that a closed expert may be chosen among
            probabilities that underflowed to 0, with weight 0
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.select import best_of_groups, choose_open, softmax_row


@kernel
def route_softmax_groups(logits, open_groups, factor, scores, ids, weights):
    """Plain kernel: logits f32[T,E], room for scores f32[groups] -> ids i64[T,k], weights f32[T,k]."""
    p = np.empty(logits.shape[1], np.float32)
    for t in range(logits.shape[0]):
        softmax_row(logits[t], p)  # R1-R4
        best_of_groups(p, scores)
        choose_open(p, scores, open_groups, ids[t])
        for j in range(ids.shape[1]):
            weights[t, j] = np.float32(p[ids[t, j]] * factor)  # R5


def plain(logits, k, groups, open_groups, factor):
    """The op through the plain kernel; see Signature."""
    ids, weights = np.empty((logits.shape[0], int(k)), np.int64), np.empty((logits.shape[0], int(k)), np.float32)
    scores = np.empty(int(groups), np.float32)
    route_softmax_groups(logits, int(open_groups), np.float32(factor), scores, ids, weights)
    return ids, weights


def bind(weights, attrs, parts):
    """Engine call logits f32[T,E] -> (ids, weights); the plain kernel is fast enough."""
    return lambda logits: plain(logits, **attrs)
