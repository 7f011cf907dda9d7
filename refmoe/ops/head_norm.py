"""head_norm - RMSNorm of every head on its own, one weight vector shared by all heads.

Signature   x f32[T,N*D], w f32[D], eps f32 -> y f32[T,N*D]
Semantics   each run x[t, n*D : n*D+D] is normalised like a row of rms_norm with weights w
Order       R1 q = sum of x*x over the D values by the one reduction; R2 m = q / f32(D); R3 a = m + eps;
            R4 r = sqrt(a); R5 s = 1 / r; R6 v = x * s; R7 y = v * w
Special     as rms_norm, per head
Errors      a width that is no multiple of D is refused by the program check
Golden      head_norm: eps_dominates, eps_one_millionth, heads_differ, odd_width, weights_not_uniform
Origin      Qwen3 (q_norm and k_norm, before RoPE). Dissent: OLMoE normalises the full width before the head split
"""

import numpy as np

from refmoe import jit
from refmoe.jit import kernel
from refmoe.numerics import reduce

if jit.ENABLED:
    from refmoe.kernels.elementwise import norm_rows


@kernel
def head_norm(x, w, eps, y):
    """Plain kernel: x f32[T,N*D], w f32[D] -> y f32[T,N*D]."""
    one = np.float32(1.0)
    size = w.shape[0]
    for t in range(x.shape[0]):
        for start in range(0, x.shape[1], size):
            head = x[t, start:start + size]
            mean = np.float32(reduce.dot(head, head) / np.float32(size))  # R1, R2
            scale = np.float32(one / np.float32(np.sqrt(np.float32(mean + eps))))  # R3-R5
            for d in range(size):
                y[t, start + d] = np.float32(np.float32(head[d] * scale) * w[d])  # R6, R7


def plain(x, w, eps):
    """The op through the plain kernel; see Signature."""
    y = np.empty_like(x)
    head_norm(x, w, np.float32(eps), y)
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,N*D] -> f32[T,N*D]."""
    (w,), eps = weights, np.float32(attrs["eps"])
    run = norm_rows if jit.ENABLED else head_norm

    def call(x):
        y = np.empty_like(x)
        run(x, w, eps, y)
        return y

    return call
