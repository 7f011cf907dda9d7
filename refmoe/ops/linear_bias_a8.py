"""linear_bias_a8 - one matrix applied to every row as codes times codes, and a vector added.

Signature   x f32[T,K], w matrix[N,K], b f32[N] -> y f32[T,N]
            | x f32[T,K], q i64[N,K], scale f32[N,U], minimum f32[N,U], b f32[N] -> y f32[T,N]
Semantics   y[t,n] = (the product of linear_a8) + b[n]
Order       the product as in linear_a8; then the bias is added once, rounded once
Special     as linear_a8
Errors      as linear
Golden      linear_bias_a8: bias_after_tree, partial_unit
Origin      as linear_a8, for the families that have a bias (Qwen2: q, k, v)
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics.activation_codes import products

if jit.ENABLED:
    from refmoe.kernels.matmul import product


@kernel
def add_bias(y, b):
    """In place: y f32[T,N] += b f32[N]."""
    for t in range(y.shape[0]):
        for n in range(y.shape[1]):
            y[t, n] = np.float32(y[t, n] + b[n])


def plain(x, q, scale, minimum, b):
    """The op through the plain kernel; see Signature."""
    y = np.empty((x.shape[0], q.shape[0]), np.float32)
    products(x, q, scale, minimum, y)
    add_bias(y, b)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,K] -> f32[T,N]."""
    weight, b = weights
    many = product(formats.operands([[weight]], int8=True), parts) if jit.ENABLED else None
    one = None if jit.ENABLED else formats.plain_a8(weight)

    def call(x):
        y = many(x)[0] if jit.ENABLED else one(x)
        add_bias(y, b)
        return y

    return call
