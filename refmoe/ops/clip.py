"""clip - values limited in size.

Signature   x f32[T,H], limit f32 -> y f32[T,H]
Semantics   y = limit where x > limit, -limit where x < -limit, x elsewhere
Order       exact
Special     inf becomes limit, -inf becomes -limit; nan stays nan; -0 stays -0
Errors      limit <= 0 and nan are refused by the config
Golden      clip: both_sides, special_values
Origin      OLMoE, clip_qkv (on q, k and v; before the head split, after the norms of q and k); null in published files
"""

import numpy as np

from refmoe.jit import kernel


@kernel
def clip(x, limit, y):
    """Plain kernel: x f32[T,H] -> y f32[T,H]."""
    for t in range(x.shape[0]):
        for h in range(x.shape[1]):
            y[t, h] = limit if x[t, h] > limit else -limit if x[t, h] < -limit else x[t, h]


def plain(x, limit):
    """The op through the plain kernel; see Signature."""
    y = np.empty_like(x)
    clip(x, np.float32(limit), y)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,H] -> f32[T,H]; the plain kernel is fast enough."""
    limit = attrs["limit"]
    return lambda x: plain(x, limit)
