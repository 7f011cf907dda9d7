"""scale_by_sigmoid - each row multiplied by the sigmoid of one number of its own.

Signature   x f32[T,H], g f32[T,1] -> y f32[T,H]
Semantics   y[t,h] = x[t,h] / (1 + exp(-g[t]))
Order       R1 e = exp(-g), correctly rounded; R2 d = 1 + e; R3 s = 1 / d, once for the row; R4 y = s * x
Special     g = -inf and g < -88.73 give s = +0, so zeros with the sign of x, and nan where x is inf or nan; g = +inf
            gives x; a nan in g makes its row nan
Errors      none
Golden      scale_by_sigmoid: both_signs, gates_differ_by_row, saturation, special_values
Origin      Qwen1.5-MoE, Qwen2-57B: the shared expert's output. Dissent: x / d rounds once less
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.elementary import sigmoid32


@kernel
def scale_by_sigmoid(x, g, y):
    """Plain kernel: x f32[T,H], g f32[T,1] -> y f32[T,H]."""
    for t in range(x.shape[0]):
        scale = sigmoid32(g[t, 0])  # R1-R3
        for h in range(x.shape[1]):
            y[t, h] = np.float32(scale * x[t, h])  # R4


def plain(x, g):
    """The op through the plain kernel; see Signature."""
    y = np.empty_like(x)
    scale_by_sigmoid(x, g, y)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, g) -> f32[T,H]; the plain kernel is fast enough."""
    return plain
