"""small_codes - number codes of 8 bits and fewer (e4m3, e8m0, e2m1), and the types of scales, to binary32.

Signature   e4m3_to_f32(codes u8[...]) -> f32[...];  e8m0_to_f32(codes u8[...]) -> f32[...]
            e2m1_to_f32(codes u8[...], 0..15) -> f32[...];  nibbles(bytes u8[..., n]) -> u8[..., 2n]
            scales_to_f32(dtype, stored u8[n * size]) -> f32[n] for the safetensors dtypes of SCALES
            bit_fields(bytes u8[n, m], bits, count) -> i16[n, count]; spread(scales, ...) -> one scale for each element
Semantics   e4m3 (OCP, "fn"): s eeee mmm, bias 7: (-1)^s * 2^(e-7) * (1 + m/8), for e = 0 (-1)^s * 2^-6 * m/8; no inf;
            0x7F and 0xFF are nan; the largest value is 448 (0x7E), the smallest above 0 is 2^-9
            e8m0 (OCP): 2^(code - 127); 255 is nan; there is no zero and no sign; code 0 is the subnormal 2^-127
            e2m1 (OCP): s ee m, bias 1: 0, 0.5, 1, 1.5, 2, 3, 4, 6, and negated with bit 3 set (8 is -0)
            nibbles: the low half of each byte first, then its high half; bit_fields: field i of a row is its bits
            i * bits .. i * bits + bits - 1, the lowest bit of the first byte first
Order       no rounding: every value is a binary32
Special     the nan of a code is a nan; -0 stays -0
Origin      OCP 8-bit floating point, OCP microscaling formats 1.0. Dissent: hardware with "fnuz" codes reads 0x80 as
            nan and everything else at half its value; such bits are never published
"""

import numpy as np

from refmoe.numerics.codecs import bf16_to_f32, f16_to_f32


def e4m3_to_f32(codes):
    """f32[...] of e4m3 codes u8[...]."""
    return E4M3[codes]


def e8m0_to_f32(codes):
    """f32[...] of e8m0 codes u8[...]."""
    return E8M0[codes]


def e2m1_to_f32(codes):
    """f32[...] of e2m1 codes 0..15."""
    return E2M1[codes]


def nibbles(stored):
    """u8[..., 2n] of bytes u8[..., n], low half first."""
    pairs = np.stack([stored & 15, stored >> 4], axis=-1)
    return pairs.reshape(*stored.shape[:-1], 2 * stored.shape[-1])


def scales_to_f32(dtype, stored):
    """f32[n] of the bytes of n scales of a safetensors dtype."""
    return SCALES[dtype](stored)


def _e4m3_table():
    code = np.arange(256, dtype=np.uint32)
    exponent, fraction = (code >> 3) & 15, code & 7
    normal = ((exponent + 120) << 23 | fraction << 20).view(np.float32)
    small = fraction.astype(np.float32) * np.float32(2.0**-9)
    size = np.where(exponent == 0, small, normal).astype(np.float32)
    size[(code & 127) == 127] = np.nan
    return np.where(code & 128, -size, size).astype(np.float32)


def _e8m0_table():
    bits = np.arange(256, dtype=np.uint32) << 23
    bits[0], bits[255] = 1 << 22, 0x7FC00000
    return bits.view(np.float32)


E4M3, E8M0 = _e4m3_table(), _e8m0_table()
E2M1 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0], np.float32)
SCALES = {
    "F32": lambda stored: stored.view(np.float32),
    "BF16": lambda stored: bf16_to_f32(stored.view(np.uint16)),
    "F16": lambda stored: f16_to_f32(stored.view(np.uint16)),
    "F8_E4M3": e4m3_to_f32,
    "F8_E8M0": e8m0_to_f32,
    "U8": e8m0_to_f32,  # as compressed-tensors and gpt-oss store e8m0
}


def spread(scales, rows, cols, block_rows, block_cols):
    """f32[n, cols]: each element's scale, of one for each block, row-major, ends partial; rows: a number or i64[n]."""
    rows = np.arange(rows) if isinstance(rows, int) else rows
    per_row = -(-cols // block_cols)
    table = scales.reshape(-1, per_row)
    return table[rows[:, None] // block_rows, np.arange(cols) // block_cols]


def scales_problem(dtype, stored):
    """What is wrong with stored scales, in one line, or None: every scale must be finite."""
    scales = scales_to_f32(dtype, stored)
    bad = ~np.isfinite(scales)
    if not bad.any():
        return None
    index = int(np.argmax(bad))
    return f"scale number {index}: expected a finite number, found {scales[index]}"


def bit_fields(stored, bits, count):
    """i16[n, count] of bytes u8[n, m]: each row is a stream of `bits`-bit fields, the lowest bit first."""
    if bits == 8:
        return stored[:, :count].astype(np.int16)
    if bits == 4:
        return nibbles(stored)[:, :count].astype(np.int16)
    single = np.unpackbits(stored, axis=1, bitorder="little")[:, : count * bits].reshape(-1, count, bits)
    found = np.zeros((stored.shape[0], count), np.int16)
    for bit in range(bits):
        found |= single[:, :, bit].astype(np.int16) << bit
    return found
