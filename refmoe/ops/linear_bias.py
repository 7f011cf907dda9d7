"""linear_bias - one matrix applied to every row, and a vector added.

Signature   x f32[T,K], w matrix[N,K], b f32[N] -> y f32[T,N]
Semantics   y[t,n] = (sum over k of W_eff[n,k] * x[t,k]) + b[n]
Order       R1 the sum by the one reduction, as in linear; R2 the bias added once, after the tree, rounded once
Special     as linear
Errors      as linear
Golden      linear_bias: bias_after_tree, partial_lanes
Origin      Qwen1.5, Qwen2 (q, k, v). Dissent: engines that start the accumulator with the bias round differently
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.matmul import product


@kernel
def linear_bias(x, w, b, y):
    """Plain kernel: x f32[T,K], w f32[N,K], b f32[N] -> y f32[T,N]."""
    for t in range(x.shape[0]):
        for n in range(w.shape[0]):
            y[t, n] = np.float32(reduce.dot(w[n], x[t]) + b[n])  # R1, R2


@kernel
def add_bias(y, b):
    """R2 in place: y f32[T,N] += b f32[N]."""
    for t in range(y.shape[0]):
        for n in range(y.shape[1]):
            y[t, n] = np.float32(y[t, n] + b[n])


def plain(x, w, b):
    """The op through the plain kernel; see Signature."""
    y = np.empty((x.shape[0], w.shape[0]), np.float32)
    linear_bias(x, w, b, y)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,K] -> f32[T,N]."""
    weight, b = weights
    if not jit.ENABLED:
        matrix = formats.decode(weight)
        return lambda x: plain(x, matrix, b)
    multiply = product(formats.operands([[weight]]), parts)

    def call(x):
        (y,) = multiply(x)
        add_bias(y, b)
        return y

    return call
