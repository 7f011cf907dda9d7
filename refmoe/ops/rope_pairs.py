"""rope_pairs - rotate pairs by an angle that grows with the position; pairs are neighbours.

Signature   x f32[T,N*D], positions i64[T], inv_freq f32[D/2], amplitude f32 -> y f32[T,N*D]
Semantics   for every head and d < D/2, with a = positions[t] * inv_freq[d]:
            y[2d] = x[2d] cos a - x[2d+1] sin a,  y[2d+1] = x[2d+1] cos a + x[2d] sin a;
            cos a and sin a are both multiplied by the amplitude (1 unless YaRN sets it)
Order       R1 p = f32(position), exact below 2^24; R2 a = p * inv_freq; R3 c = cos a, s = sin a, correctly rounded;
            R4 c = c * amplitude, s = s * amplitude; R5 the two products of each output; R6 their difference or sum
Special     inf and nan follow IEEE 754; position 0 with amplitude 1 returns x
Errors      positions at or above 4194304 (2^22) are refused by the engine; inv_freq is computed as
            numerics.rope_tables says
Golden      rope_pairs: amplitude, base_one_million, every_pair_turns, far_position, last_positions_of_a_million,
            linear_scaling, llama3_scaling, pairing_is_adjacent, position_zero_is_identity, several_heads,
            yarn_hard_step, yarn_without_amplitude, yarn_without_truncation
Origin      the original formulation (arXiv:2104.09864); DeepSeek and Kimi checkpoints, GGUF files of Llama. Dissent:
            rope_half
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.elementary import sincos32


@kernel
def rope_pairs(x, positions, inv_freq, amplitude, y):
    """Plain kernel: x f32[T,N*D], positions i64[T], inv_freq f32[D/2] -> y f32[T,N*D]."""
    half = inv_freq.shape[0]
    c, s = np.empty(half, np.float32), np.empty(half, np.float32)
    for t in range(x.shape[0]):
        for d in range(half):
            sine, cosine = sincos32(np.float32(np.float32(positions[t]) * inv_freq[d]))  # R1-R3
            s[d], c[d] = np.float32(sine * amplitude), np.float32(cosine * amplitude)  # R4
        for start in range(0, x.shape[1], 2 * half):
            for d in range(half):
                a, b = x[t, start + 2 * d], x[t, start + 2 * d + 1]
                y[t, start + 2 * d] = np.float32(np.float32(a * c[d]) - np.float32(b * s[d]))  # R5, R6
                y[t, start + 2 * d + 1] = np.float32(np.float32(b * c[d]) + np.float32(a * s[d]))


def plain(x, positions, inv_freq, amplitude):
    """The op through the plain kernel; see Signature."""
    y = np.empty_like(x)
    rope_pairs(x, positions, inv_freq, np.float32(amplitude), y)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, positions) -> f32[T,N*D]; the plain kernel is fast enough."""
    inv_freq, amplitude = attrs["inv_freq"], np.float32(attrs["amplitude"])
    return lambda x, positions: plain(x, positions, inv_freq, amplitude)
