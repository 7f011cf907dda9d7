"""codecs - the 16-bit floating-point codes bf16 and f16, to and from binary32, by integer operations only.

Signature   bf16_to_f32(codes u16[...]) -> f32[...];  f32_to_bf16(values f32[...]) -> u16[...]
            f16_to_f32(codes u16[...]) -> f32[...];   f32_to_f16(values f32[...]) -> u16[...]
            kernels for one value: widen_bf16(code) -> f32;  bf16_bits(x f32) -> i64;  round_bf16(x f32) -> f32;
            widen_f16(code) -> f32
Semantics   bf16: seee eeee emmm mmmm, the upper half of a binary32.  f16: seee eemm mmmm mmmm, IEEE-754 binary16.
            Widening is exact. Narrowing rounds to nearest, ties to even, subnormals kept; what rounds past the largest
            finite value gives inf (f16: |x| >= 65520). round_bf16(x) = widen_bf16(bf16_bits(x)).
Special     +-0 and +-inf keep their sign. nan stays nan with its sign and the upper bits of its payload, and its quiet
            bit is set; only bf16_to_f32 and widen_bf16, which move bits, leave the quiet bit as it was.
Origin      IEEE 754-2019 section 3.6 and 4.3.1 for f16; bf16 as in Intel document 338302 with subnormals kept
"""

import numpy as np

from refmoe.jit import kernel


def bf16_to_f32(codes):
    """f32[...] with the exact values of bf16 codes u16[...]."""
    return (codes.astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(values):
    """u16[...] bf16 codes of f32[...], rounded to nearest even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(nan, (bits >> 16) | 0x40, rounded).astype(np.uint16)


def f16_to_f32(codes):
    """f32[...] with the exact values of f16 codes u16[...]."""
    codes = codes.astype(np.uint32)
    sign, exponent, fraction = (codes & 0x8000) << 16, (codes >> 10) & 31, codes & 0x3FF
    bits = (codes & 0x7FFF) << 13
    normal = bits + (112 << 23)  # exponent bias 15 becomes 127
    special = np.where(fraction == 0, 0x7F800000, bits | 0x7FC00000)
    subnormal = (fraction.astype(np.float32) * np.float32(2.0**-24)).view(np.uint32)
    wide = np.where(exponent == 0, subnormal, np.where(exponent == 31, special, normal))
    return (wide | sign).astype(np.uint32).view(np.float32)


def f32_to_f16(values):
    """u16[...] f16 codes of f32[...], rounded to nearest even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    sign, size = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    normal = (size - (112 << 23) + 0xFFF + ((size >> 13) & 1)) >> 13
    # below 2^-14 the code counts units of 2^-24: the significand is shifted right until its last bit is worth that
    shift = np.clip(126 - (size >> 23).astype(np.int32), 1, 31).astype(np.uint32)
    significand = (size & 0x7FFFFF) | 0x800000
    whole, rest, half = significand >> shift, significand & ((1 << shift) - 1), np.uint32(1) << (shift - 1)
    subnormal = whole + ((rest > half) | ((rest == half) & (whole & 1 == 1)))
    code = np.where(size < 0x38800000, subnormal, normal)
    code = np.where(size >= 0x477FF000, 0x7C00, code)  # 65520, halfway between the largest finite value and 2^16
    code = np.where(size > 0x7F800000, 0x7E00 | ((bits >> 13) & 0x3FF), code)
    return (code | sign).astype(np.uint16)


@kernel
def widen_bf16(code):
    """f32 of one bf16 code."""
    return np.uint32(np.int64(code) << 16).view(np.float32)


@kernel
def bf16_bits(x):
    """The bf16 code of an f32, as i64."""
    bits = np.int64(np.float32(x).view(np.uint32))
    if (bits & 0x7FFFFFFF) > 0x7F800000:
        return (bits >> 16) | 0x40
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


@kernel
def round_bf16(x):
    """The f32 x rounded to the nearest bf16 value, ties to even."""
    return widen_bf16(bf16_bits(x))


@kernel
def widen_f16(code):
    """f32 of one f16 code."""
    code = np.int64(code)
    sign, exponent, fraction = (code & 0x8000) << 16, (code >> 10) & 31, code & 0x3FF
    if exponent == 0:
        bits = np.int64(np.float32(fraction * 2.0**-24).view(np.uint32))
    elif exponent == 31:
        bits = 0x7F800000 if fraction == 0 else 0x7FC00000 | (fraction << 13)
    else:
        bits = ((code & 0x7FFF) << 13) + (112 << 23)
    return np.uint32(bits | sign).view(np.float32)
