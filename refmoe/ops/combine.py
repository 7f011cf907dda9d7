"""combine - the weighted sum of the chosen experts' outputs.

Signature   x f32[T,K,H], weights f32[T,K] -> y f32[T,H]
Semantics   y[t,h] = sum over j of weights[t,j] * x[t,j,h]
Order       j ascending (the order of route_ids, best expert first), acc = fma(weights[t,j], x[t,j,h], acc) from +0
Special     inf and nan follow IEEE 754
Errors      none
Golden      combine: cancellation, factor_in_the_weights, many_rows, rank_order_not_id_order, special_values,
            weights_applied_once
Origin      Mixtral. Dissent: transformers adds in ascending expert id, in the activation dtype
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.fma import fma


@kernel
def combine(x, weights, y):
    """Plain kernel: x f32[T,K,H], weights f32[T,K] -> y f32[T,H]."""
    for t in range(x.shape[0]):
        for h in range(x.shape[2]):
            y[t, h] = np.float32(0.0)
        for j in range(x.shape[1]):
            for h in range(x.shape[2]):
                y[t, h] = fma(weights[t, j], x[t, j, h], y[t, h])


def plain(x, weights):
    """The op through the plain kernel; see Signature."""
    y = np.empty((x.shape[0], x.shape[2]), np.float32)
    combine(x, weights, y)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, weights) -> f32[T,H]; the plain kernel is fast enough."""
    return plain
