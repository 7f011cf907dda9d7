"""swiglu_clamped - the gated activation of gpt-oss: interleaved, clamped, with up + 1.

Signature   x f32[T,K,2*M], limit f32, alpha f32 -> y f32[T,K,M]
Semantics   gate = min(x[2i], limit), up = min(max(x[2i+1], -limit), limit);
            y[i] = (up + 1) * gate / (1 + exp(-alpha * gate))
Order       R1 a = alpha * gate; R2 e = exp(-a), correctly rounded; R3 d = 1 + e; R4 s = gate / d; R5 v = up + 1;
            R6 y = v * s. The clamps are exact
Special     gate is limited from above only; gate = -inf gives nan (-inf / inf), a very negative one -0 * (up + 1); an
            infinite up is clamped; a nan in either gives nan
Errors      limit and alpha must be numbers above 0 (refused with the config)
Golden      swiglu_clamped: around_the_limit, both_signs, other_alpha, saturation, special_values, up_and_gate_differ
Origin      gpt-oss: limit 7, alpha 1.702, rows 2i of the stored matrix gate and 2i+1 up. Dissent: gate * sigmoid rounds
            once more; halves instead of interleaved rows need another order of the rows
"""

import numpy as np

from refmoe import jit
from refmoe.jit import kernel
from refmoe.numerics.elementary import exp32

if jit.ENABLED:
    from refmoe.kernels.elementwise import clamped_rows


@kernel
def swiglu_clamped(x, limit, alpha, y):
    """Plain kernel: flat x f32[2*S] -> y f32[S]."""
    one = np.float32(1.0)
    for i in range(y.shape[0]):
        gate, up = x[2 * i], x[2 * i + 1]
        gate = limit if gate > limit else gate
        up = limit if up > limit else -limit if up < -limit else up
        e = exp32(np.float32(-np.float32(alpha * gate)))  # R1, R2
        s = np.float32(gate / np.float32(one + e))  # R3, R4
        y[i] = np.float32(np.float32(up + one) * s)  # R5, R6


def plain(x, limit, alpha):
    """The op through the plain kernel; see Signature."""
    y = np.empty((*x.shape[:-1], x.shape[-1] // 2), np.float32)
    swiglu_clamped(x.reshape(-1), np.float32(limit), np.float32(alpha), y.reshape(-1))
    return y


def bind(weights, attrs, parts):
    """Engine call x f32[T,K,2*M] -> f32[T,K,M]."""
    limit, alpha = np.float32(attrs["limit"]), np.float32(attrs["alpha"])
    if not jit.ENABLED:
        return lambda x: plain(x, limit, alpha)

    def call(x):
        y = np.empty((*x.shape[:-1], x.shape[-1] // 2), np.float32)
        clamped_rows(x.reshape(-1), limit, alpha, y.reshape(-1), parts)
        return y

    return call
