"""Codes and scales of quantised matrices, one element at a time, from the layout texts; products by Fractions.

Values are Python floats (every code and scale is a binary64 number), `times` rounds a product once to binary32. A
format's oracle has `bits(rows, cols, params, **stored)`, the decoded matrix, and MUTANTS, {bug: the same with a bug}.
"""

import math
from fractions import Fraction

import numpy as np

from tests.oracles.arithmetic import rn32

LETTERS = {"F32": (4, 8, 23), "BF16": (2, 8, 7), "F16": (2, 5, 10)}  # bytes, bits of exponent and fraction


def ieee(code, exponent_bits, fraction_bits):
    """The value of an IEEE 754 pattern."""
    sign = -1.0 if code >> (exponent_bits + fraction_bits) & 1 else 1.0
    exponent, fraction = code >> fraction_bits & ((1 << exponent_bits) - 1), code & ((1 << fraction_bits) - 1)
    bias = (1 << (exponent_bits - 1)) - 1
    if exponent == (1 << exponent_bits) - 1:
        return math.nan if fraction else sign * math.inf
    if exponent == 0:
        return sign * math.ldexp(fraction, 1 - bias - fraction_bits)
    return sign * math.ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits)


def e4m3(code):
    """OCP e4m3: as IEEE with bias 7, but the largest exponent is ordinary and only 0x7F, 0xFF are nan."""
    sign, exponent, fraction = (-1.0 if code & 128 else 1.0), code >> 3 & 15, code & 7
    if code & 127 == 127:
        return math.nan
    return sign * (math.ldexp(fraction, -9) if exponent == 0 else math.ldexp(8 + fraction, exponent - 10))


def e4m3fnuz(code):
    """The other e4m3: bias 8, nan at 0x80 alone, no -0."""
    if code == 128:
        return math.nan
    sign, exponent, fraction = (-1.0 if code & 128 else 1.0), code >> 3 & 15, code & 7
    return sign * (math.ldexp(fraction, -10) if exponent == 0 else math.ldexp(8 + fraction, exponent - 11))


def e8m0(code):
    """A power of two."""
    return math.nan if code == 255 else math.ldexp(1.0, code - 127)


def e2m1(code):
    """The table of the OCP document."""
    return (-1.0 if code & 8 else 1.0) * (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)[code & 7]


def scale_of(dtype, array):
    """Values of stored scales, in their order."""
    codes = [int(code) for code in np.ascontiguousarray(array).reshape(-1).view(
        {4: np.uint32, 2: np.uint16, 1: np.uint8}[LETTERS[dtype][0] if dtype in LETTERS else 1])]
    if dtype in LETTERS:
        return [ieee(code, *LETTERS[dtype][1:]) for code in codes]
    return [(e4m3 if dtype == "F8_E4M3" else e8m0)(code) for code in codes]


def times(a, b):
    """RN32(a b)."""
    plain = a * b
    if math.isnan(plain) or math.isinf(a) or math.isinf(b) or a == 0 or b == 0:
        return np.float32(plain)
    with np.errstate(over="ignore"):
        return np.float32(rn32(Fraction(a) * Fraction(b)))


def each(rows, cols, value):
    """f32[rows, cols] of value(r, c)."""
    return np.array([[value(r, c) for c in range(cols)] for r in range(rows)], np.float32).reshape(rows, cols)


def words(array):
    """Unsigned 32-bit words as Python integers, nested like the array."""
    return np.ascontiguousarray(array).view(np.uint32).astype(object)


def rounded(dtype, value):
    """A value rounded to bf16 or f16, for mutants."""
    with np.errstate(over="ignore"):
        if dtype == "F16":
            return float(np.float16(value))
    from tests.oracles.arithmetic import bf16

    return float(bf16(np.array([value], np.float32))[0])


def fp4(rows, cols, codes, scales, group, *, half=None, code=e2m1, scale=lambda s: s, product=times):
    """A matrix of e2m1 codes, two to a byte, the low half first, with a scale value for each group of a row."""
    flat, groups = [int(byte) for byte in codes.reshape(-1)], cols // group

    def element(r, c):
        e = c % group
        byte, high = half(e, group) if half else (e // 2, e % 2)
        value = flat[(r * cols + c - e) // 2 + byte] >> 4 * high & 15
        return product(code(value), scale(scales[r * groups + c // group]))

    return each(rows, cols, element)


FP4_MUTANTS = {
    "Q06": {"half": lambda e, group: (e % (group // 2), e // (group // 2))},  # low halves first, then high halves
    "Q17": {"half": lambda e, group: (e // 2, 1 - e % 2)},
    "no_signs": {"code": lambda c: abs(e2m1(c))},
    "excess_8": {"code": lambda c: float(c - 8)},
}
