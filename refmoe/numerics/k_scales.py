"""k_scales - the 6-bit scales of the blocks of 256 elements (GGUF types Q3_K, Q4_K, Q5_K), packed in 12 bytes.

Eight scales S and eight minima M (Q4_K, Q5_K), byte by byte; S0 is six bits, S4.3210 are its lower four:
    bytes 0..3    bits 5..0 S0..S3, bits 7..6 the upper two of S4..S7
    bytes 4..7    bits 5..0 M0..M3, bits 7..6 the upper two of M4..M7
    bytes 8..11   bits 3..0 the lower four of S4..S7, bits 7..4 the lower four of M4..M7
Sixteen scales (Q3_K):
    bytes 0..7    bits 3..0 the lower four of scales 0..7, bits 7..4 those of 8..15
    bytes 8..11   byte 8 + i, bits 2k+1..2k: the upper two of scale 4k + i
"""

import numpy as np

from refmoe import jit
from refmoe.jit import kernel

if jit.ENABLED:
    from refmoe.numerics.vec import splat, vmul
    from refmoe.numerics.vec_bytes import b_sub, join_words, load_short, load_word, signed, splat_half, unsigned
    from refmoe.numerics.vec_unpack import lower_halves, upper_halves


def scales_and_minima(packed):
    """u8[n,12] -> u8[n,8] scales, u8[n,8] minima."""
    s, m, low = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([s & 63, (low & 15) | (s >> 6 << 4)], axis=1)
    return scales, np.concatenate([m & 63, (low >> 4) | (m >> 6 << 4)], axis=1)


def sixteen_scales(packed):
    """u8[n,12] -> u8[n,16]."""
    low = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], axis=1)
    upper = np.concatenate([packed[:, 8:] >> 2 * k & 3 for k in range(4)], axis=1)
    return low | (upper << 4)


@kernel
def load_scales_and_minima(where):
    """The twelve bytes at address `where` as a vector of bytes: lanes 0..7 scales, 8..15 minima."""
    s, m, low = load_word(where), load_word(where + 4), load_word(where + 8)
    scales = (s & 0x3F3F3F3F) | (((low & 0x0F0F0F0F) | (s >> 2 & 0x30303030)) << 32)
    return join_words(scales, (m & 0x3F3F3F3F) | (((low >> 4 & 0x0F0F0F0F) | (m >> 2 & 0x30303030)) << 32))


@kernel
def load_sixteen_scales(where):
    """The twelve bytes at address `where` as a vector of sixteen bytes."""
    low, high, upper = load_word(where), load_word(where + 4), load_word(where + 8)
    first = low & 0x0F0F0F0F | (upper << 4 & 0x30303030) | ((high & 0x0F0F0F0F | (upper << 2 & 0x30303030)) << 32)
    last = (low >> 4 & 0x0F0F0F0F) | (upper & 0x30303030)
    return join_words(first, last | (((high >> 4 & 0x0F0F0F0F) | (upper >> 2 & 0x30303030)) << 32))


@kernel
def scales_of_two(first, second):
    """d * scale of two blocks of Q4_K or Q5_K, sixteen lanes."""
    both = lower_halves(unsigned(load_scales_and_minima(first + 4)), unsigned(load_scales_and_minima(second + 4)))
    return vmul(lower_halves(splat_half(first), splat_half(second)), both)


@kernel
def minima_of_two(first, second):
    """-(dmin * minimum) of two blocks of Q4_K or Q5_K, sixteen lanes."""
    both = upper_halves(unsigned(load_scales_and_minima(first + 4)), unsigned(load_scales_and_minima(second + 4)))
    factors = lower_halves(splat_half(first + 2), splat_half(second + 2))
    return vmul(vmul(splat(np.float32(-1.0)), factors), both)


@kernel
def uneven_scales(where):
    """d * (scale - 32) of a block of IQ4_XS, eight lanes twice; upper two bits at `where` + 2, the others at + 4."""
    low, upper, words = load_word(where + 4), load_short(where + 2), np.int64(0)
    for p in range(8):
        words |= ((low >> 4 * p & 15) | ((upper >> 2 * p & 3) << 4)) << 8 * p
    return vmul(splat_half(where), signed(b_sub(join_words(words, words), 32)))
