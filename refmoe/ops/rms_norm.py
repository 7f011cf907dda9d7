"""rms_norm - scale each row by the reciprocal of its root mean square.

Signature   x f32[T,H], w f32[H], eps f32 -> y f32[T,H]
Semantics   y[t,h] = x[t,h] * s[t] * w[h],  s[t] = 1 / sqrt(mean(x[t]^2) + eps)
Order       R1 q = sum of x*x by the one reduction (numerics.reduce); R2 m = q / f32(H); R3 a = m + eps;
            R4 r = sqrt(a), correctly rounded; R5 s = 1 / r; R6 v = x * s; R7 y = v * w
Special     a row with nan gives nan; an inf gives nan at its place and zeros elsewhere (s = 0), and so does a finite
            row whose squares overflow, without the nan; a row of zeros gives zeros
Errors      H = 0 is refused by the program check
Golden      rms_norm: eps_dominates, eps_one_millionth, many_rows, one_large, padding_lane, special_values,
            subnormal_row, weights_near_zero_and_one, wide_row
Origin      arXiv:1910.07467. Dissent: models run in bfloat16 round v to bfloat16 before R7 (Llama) or y after it
            (gpt-oss)
"""

import numpy as np

from refmoe import jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.elementwise import norm_rows


@kernel
def rms_norm(x, w, eps, y):
    """Plain kernel: x f32[T,H], w f32[H] -> y f32[T,H]."""
    one = np.float32(1.0)
    for t in range(x.shape[0]):
        mean = np.float32(reduce.dot(x[t], x[t]) / np.float32(x.shape[1]))  # R1, R2
        scale = np.float32(one / np.float32(np.sqrt(np.float32(mean + eps))))  # R3-R5
        for h in range(x.shape[1]):
            y[t, h] = np.float32(np.float32(x[t, h] * scale) * w[h])  # R6, R7


def plain(x, w, eps):
    """The op through the plain kernel; see Signature."""
    y = np.empty_like(x)
    rms_norm(x, w, np.float32(eps), y)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,H] -> f32[T,H]."""
    (w,), eps = weights, np.float32(attrs["eps"])
    run = norm_rows if jit.ENABLED else rms_norm

    def call(x):
        y = np.empty_like(x)
        run(x, w, eps, y)
        return y

    return call
