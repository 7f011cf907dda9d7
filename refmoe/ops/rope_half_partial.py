"""rope_half_partial - rope_half on the first part of every head; the rest has no position.

Signature   x f32[T,N*D], positions i64[T], inv_freq f32[Q/2], amplitude f32, head_dim i64 -> y f32[T,N*D]
Semantics   for every head of head_dim = D numbers: the first Q are turned as rope_half turns a head of Q numbers (pairs
            Q/2 apart), the others are copied
Order       R1 to R6 of rope_half for the first Q numbers of a head
Special     as rope_half; the copied part keeps every bit, inf and nan too, whatever the amplitude
Errors      as rope_half; Q above D is refused with the config
Golden      rope_half_partial: amplitude_on_the_turned_part, far_position, pairs_in_the_turned_part, quarter,
            special_values
Origin      GLM-4.5, GLM-4.6: partial_rotary_factor 0.5. Dissent: pairs of neighbours in the turned part
            (the older GLM-4 dense models)
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.elementary import sincos32


@kernel
def rope_half_partial(x, positions, inv_freq, amplitude, size, y):
    """Plain kernel: x f32[T,N*D], positions i64[T], inv_freq f32[Q/2], size = D -> y f32[T,N*D]."""
    half = inv_freq.shape[0]
    c, s = np.empty(half, np.float32), np.empty(half, np.float32)
    for t in range(x.shape[0]):
        for d in range(half):
            sine, cosine = sincos32(np.float32(np.float32(positions[t]) * inv_freq[d]))  # R1-R3
            s[d], c[d] = np.float32(sine * amplitude), np.float32(cosine * amplitude)  # R4
        for start in range(0, x.shape[1], size):
            for d in range(half):
                a, b = x[t, start + d], x[t, start + d + half]
                y[t, start + d] = np.float32(np.float32(a * c[d]) - np.float32(b * s[d]))  # R5, R6
                y[t, start + d + half] = np.float32(np.float32(b * c[d]) + np.float32(a * s[d]))
            for d in range(2 * half, size):
                y[t, start + d] = x[t, start + d]


def plain(x, positions, inv_freq, amplitude, head_dim):
    """The op through the plain kernel; see Signature."""
    y = np.empty_like(x)
    rope_half_partial(x, positions, inv_freq, np.float32(amplitude), int(head_dim), y)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, positions) -> f32[T,N*D]; the plain kernel is fast enough."""
    inv_freq, amplitude, size = attrs["inv_freq"], np.float32(attrs["amplitude"]), attrs["head_dim"]
    return lambda x, positions: plain(x, positions, inv_freq, amplitude, size)
