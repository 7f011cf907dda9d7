"""swiglu - the gated activation: silu(gate) * up.

Signature   gate f32[...], up f32[...] -> y f32[...]
Semantics   y = gate / (1 + exp(-gate)) * up, element by element
Order       R1 e = exp(-gate), correctly rounded; R2 d = 1 + e; R3 s = gate / d; R4 y = s * up
Special     gate = -inf gives nan (-inf / inf); gate < -88.73 gives -0 * up; nan stays nan
Errors      none
Golden      swiglu: both_signs, exchanged_operands, many_rows, saturation, special_values
Origin      arXiv:2002.05202; hidden_act "silu". Dissent: x * sigmoid(x) rounds once more
"""

import numpy as np

from refmoe import jit
from refmoe.jit import kernel
from refmoe.numerics.elementary import silu32

if jit.ENABLED:
    from refmoe.kernels.elementwise import swiglu_rows


@kernel
def swiglu(gate, up, y):
    """Plain kernel: flat gate f32[S], up f32[S] -> y f32[S]."""
    for i in range(gate.shape[0]):
        y[i] = np.float32(silu32(gate[i]) * up[i])  # R1-R3, R4


def plain(gate, up):
    """The op through the plain kernel; see Signature."""
    y = np.empty_like(gate)
    swiglu(gate.reshape(-1), up.reshape(-1), y.reshape(-1))
    return y


def bind(weights, attrs, parts):
    """Engine call (gate, up) -> f32 of the same shape."""
    if not jit.ENABLED:
        return plain

    def call(gate, up):
        y = np.empty_like(gate)
        swiglu_rows(gate.reshape(-1), up.reshape(-1), y.reshape(-1), parts)
        return y

    return call
