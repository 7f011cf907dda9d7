"""route_sigmoid_groups_renorm - as route_sigmoid_groups, the scores of the chosen divided by their sum.

Signature   logits f32[T,E], bias f32[E], k i64, groups i64, open_groups i64, factor f32
            -> ids i64[T,k], weights f32[T,k]
Semantics   s = sigmoid(logits[t]), b = s + bias. The score of a group of E / groups neighbours is the sum of its two
            largest b; the open_groups groups with the largest scores are open. ids[t] = the k experts of open groups
            with the largest b, best first (rank order is by b, not by s);
            weights[t,j] = s[ids[t,j]] / (sum over i of s[ids[t,i]] + 1e-20) * factor
Order       R1 e = exp(-logit), correctly rounded; R2 d = 1 + e; R3 s = 1 / d; R4 b = s + bias; R5 score = largest b +
            second largest b (a group of one expert: its b); R6 n = sum of the chosen s in rank order, from the best on,
            each sum rounded; R7 n = n + RN32(1e-20), which is 0x1E3CE508; R8 q = s / n; R9 weight = q * factor
Special     an expert of a closed group is never chosen, however low the others are. A nan never beats a number: neither
            in R5, nor among groups, nor among experts; with one chosen nan all weights of the row are nan
Ties        the larger first, then the lower id: for groups by R5, for experts by R4, also at the cut
Errors      E must be a multiple of groups, and the open groups must hold k experts (refused with the config)
Golden      route_sigmoid_groups_renorm: all_equal, all_negative, all_scores_zero, bias_beyond_bf16,
            bias_for_choice_only, choose_all, closed_group_beats_negative_scores, experts_128_choose_8,
            experts_256_groups_8_choose_8, experts_384_choose_8, experts_60_groups_5_choose_4, experts_64_choose_6,
            groups_by_two_best, groups_differ_by_row, infinite_values, many_rows, nan_row, near_tie_at_cut,
            one_choice, tie_at_cut, tie_between_groups, tie_made_by_rounding, tiny_scores_large_bias,
            wide_groups_above_255
Origin      DeepSeek-V3, Kimi-K2, Moonlight, GLM-4.5 (norm_topk_prob true). Dissent: the model code beside the weights
            fills closed groups with 0, so that they win when all biased scores are negative; DeepSeek's inference code
            has no 1e-20 and rounds scores to bfloat16
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.select import choose_open, sigmoid_row, two_best_of_groups


@kernel
def route_sigmoid_groups_renorm(logits, bias, open_groups, factor, scores, ids, weights):
    """Plain kernel: logits f32[T,E], bias f32[E], room for scores f32[groups] -> ids i64[T,k], weights f32[T,k]."""
    s, b = np.empty(logits.shape[1], np.float32), np.empty(logits.shape[1], np.float32)
    for t in range(logits.shape[0]):
        sigmoid_row(logits[t], bias, s, b)  # R1-R4
        two_best_of_groups(b, scores)  # R5
        choose_open(b, scores, open_groups, ids[t])
        total = s[ids[t, 0]]
        for j in range(1, ids.shape[1]):
            total = np.float32(total + s[ids[t, j]])  # R6
        total = np.float32(total + np.float32(1e-20))  # R7
        for j in range(ids.shape[1]):
            weights[t, j] = np.float32(np.float32(s[ids[t, j]] / total) * factor)  # R8, R9


def plain(logits, bias, k, groups, open_groups, factor):
    """The op through the plain kernel; see Signature."""
    ids, weights = np.empty((logits.shape[0], int(k)), np.int64), np.empty((logits.shape[0], int(k)), np.float32)
    scores = np.empty(int(groups), np.float32)
    route_sigmoid_groups_renorm(logits, bias, int(open_groups), np.float32(factor), scores, ids, weights)
    return ids, weights


def bind(weights, attrs, parts):
    """Engine call logits f32[T,E] -> (ids, weights); the plain kernel is fast enough."""
    (bias,) = weights
    return lambda logits: plain(logits, bias, **attrs)
