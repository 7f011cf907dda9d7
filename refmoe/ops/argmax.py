"""argmax - the id of the largest logit: greedy decoding.

Signature   logits f32[T,V] -> ids i64[T]
Semantics   ids[t] = the smallest v with logits[t,v] = max over all v
Order       exact comparisons in ascending v; a later value wins only if strictly larger
Special     nan never wins against a number; a row of nothing but nan gives 0, and the sampler reports it; -0 = +0
Ties        the lower id
Errors      none
Golden      argmax: all_negative, nan_never_wins, negative_zero, tie_lowest_id
Origin      this specification. Dissent: torch.argmax leaves ties open and lets nan win
"""

import numpy as np

from refmoe.jit import kernel


@kernel
def argmax(logits, ids):
    """Plain kernel: logits f32[T,V] -> ids i64[T]."""
    for t in range(logits.shape[0]):
        best, at, found = np.float32(0.0), 0, False
        for v in range(logits.shape[1]):
            value = logits[t, v]
            if value == value and (not found or value > best):
                best, at, found = value, v, True
        ids[t] = at


def plain(logits):
    """The op through the plain kernel; see Signature."""
    ids = np.empty(logits.shape[0], np.int64)
    argmax(logits, ids)
    return ids


def bind(weights, attrs, parts):
    """Engine call logits f32[T,V] -> i64[T]; the plain kernel is fast enough."""
    return plain
