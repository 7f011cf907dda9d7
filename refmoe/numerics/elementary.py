"""elementary - the exponential and the circular functions in binary32, correctly rounded.

Signature   exp32(x f32) -> f32;  sigmoid32(x f32) -> f32;  silu32(x f32) -> f32;  sincos32(x f32) -> (sin f32, cos f32)
Semantics   RN32 is IEEE-754 binary32 round-to-nearest-even with subnormals. The definition names no algorithm:
            exp32(x) = RN32(e^x);  sincos32(x) = (RN32(sin x), RN32(cos x)) for |x| < 2^22.
Order       sigmoid32: R1 e = exp32(-x); R2 d = RN32(1 + e); R3 RN32(1 / d).
            silu32:    R1 e = exp32(-x); R2 d = RN32(1 + e); R3 RN32(x / d).
Special     exp32: +0 and -0 give 1; +inf gives inf; -inf gives +0; nan gives nan; x >= 0x42B17218 (88.72284) gives inf;
            results below 2^-126 are subnormal, x <= 0xC2CFF1B5 (-103.97208) gives +0.
            sigmoid32: -inf gives +0, +inf gives 1. silu32: -0 gives -0; x < -88.72284 gives -0; -inf gives nan.
            sincos32: |x| < 2^-13 gives (x, 1), so -0 gives (-0, 1); |x| >= 2^22, inf and nan give (nan, nan).
Errors      none here; a caller that forms angles refuses those not below SINCOS_LIMIT.
Algorithm   (not normative) binary64 inside, multiplications and additions only, no fma, no table, no libm.
            exp: k = rint(x / ln 2), r = (x - k LN2_HI) - k LN2_LO, Taylor polynomial of degree 13, k added to the
            exponent field, one rounding to f32. sin, cos: k = rint(x 2 / pi), r from three parts of pi / 2, Taylor
            polynomials of degree 17 and 18, quadrant from k mod 4, one rounding to f32. One result is stored: sin of
            SINE_HARD is 2^-54 (relative) from the midpoint of two neighbours, which binary64 cannot tell apart.
Proof       scripts/prove_elementary.py, run without options (every input, 200 s on one core): 0 misrounded.
            exp32: the 553,648,128 inputs 2^-26 <= |x| < 128 against x87 extended precision; all others against their
            constant. sincos32: the 293,601,280 inputs 2^-13 <= x < 2^22 likewise, their negatives against the symmetry,
            all others against (x, 1) or nan. The oracle's error was below 2^-63 on a sample; no value came within 2^-60
            of a midpoint. With the stored result taken out the same run reports exactly that one sine.
"""

from math import factorial

import numpy as np

from refmoe.jit import kernel

MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding, then subtracting it rounds |v| < 2^51 to an integer, ties to even
LOG2E = float.fromhex("0x1.71547652b82fep+0")
LN2_HI = float.fromhex("0x1.62e42ffp-1")  # ln 2 to 32 fraction bits: k * LN2_HI and x - k * LN2_HI are exact
LN2_LO = float.fromhex("-0x1.718432a1b0e26p-35")
EXP_MAX = float.fromhex("0x1.62e42ep+6")  # 0x42B17217, the largest x with a finite exp32(x)
EXP_MIN = -104.0  # below it e^x < 2^-150, half of the smallest subnormal
EXP_COEFFICIENTS = tuple(1.0 / factorial(n) for n in range(13, 1, -1))  # of r^13 .. r^2; n! is exact up to 18!

TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
PIO2_1 = float.fromhex("0x1.921fb544p+0")  # 31 bits, so that k * PIO2_1 is exact for k < 2^22
PIO2_2 = float.fromhex("0x1.0b4611a4p-34")  # the next 31 bits
PIO2_3 = float.fromhex("0x1.13198a2e03707p-65")  # 53 more
SIN_COEFFICIENTS = tuple((-1.0) ** (n // 2) / factorial(n) for n in range(17, 1, -2))  # of r^17, r^15 .. r^3
COS_COEFFICIENTS = tuple((-1.0) ** (n // 2) / factorial(n) for n in range(18, 0, -2))  # of r^18, r^16 .. r^2
SINCOS_LIMIT = 4194304.0  # 2^22
SINCOS_TINY = 2.0**-13
SINE_HARD = 9830.3984375  # 0x46199998
SINE_HARD_VALUE = float.fromhex("-0x1.63f4bap-2")  # 0xBEB1FA5D


@kernel
def exp32(x):
    """RN32(e^x) for any f32 x."""
    if np.isnan(x):
        return x
    if x > EXP_MAX:
        return np.float32(np.inf)
    if x < EXP_MIN:
        return np.float32(0.0)
    x64 = np.float64(x)
    k = (x64 * LOG2E + MAGIC) - MAGIC
    r = (x64 - k * LN2_HI) - k * LN2_LO
    p = 0.0
    for c in EXP_COEFFICIENTS:
        p = p * r + c
    y = 1.0 + (r + (r * r) * p)  # in (0.70, 1.42)
    bits = np.float64(y).view(np.int64) + np.int64(k) * 4503599627370496  # 2^52: the exponent field
    return np.float32(np.int64(bits).view(np.float64))


@kernel
def sigmoid32(x):
    """1 / (1 + exp32(-x)), each operation rounded to f32."""
    one = np.float32(1.0)
    return np.float32(one / np.float32(one + exp32(np.float32(-x))))


@kernel
def silu32(x):
    """x / (1 + exp32(-x)), each operation rounded to f32."""
    return np.float32(x / np.float32(np.float32(1.0) + exp32(np.float32(-x))))


@kernel
def sincos32(x):
    """(RN32(sin x), RN32(cos x)) for |x| < SINCOS_LIMIT, otherwise (nan, nan)."""
    if not abs(x) < SINCOS_LIMIT:
        return np.float32(np.nan), np.float32(np.nan)
    if abs(x) < SINCOS_TINY:  # x - sin x < x 2^-28 and 1 - cos x < 2^-26: less than half a unit in the last place
        return x, np.float32(1.0)
    x64 = np.float64(x)
    k = (x64 * TWO_OVER_PI + MAGIC) - MAGIC
    r = ((x64 - k * PIO2_1) - k * PIO2_2) - k * PIO2_3
    r2 = r * r
    p = 0.0
    for c in SIN_COEFFICIENTS:
        p = p * r2 + c
    q = 0.0
    for c in COS_COEFFICIENTS:
        q = q * r2 + c
    sine = r + r * (r2 * p)
    cosine = 1.0 + r2 * q
    quadrant = np.int64(k) & 3
    if quadrant & 1:
        sine, cosine = cosine, -sine
    if quadrant & 2:
        sine, cosine = -sine, -cosine
    if abs(x) == SINE_HARD:
        sine = SINE_HARD_VALUE if x > 0 else -SINE_HARD_VALUE
    return np.float32(sine), np.float32(cosine)
