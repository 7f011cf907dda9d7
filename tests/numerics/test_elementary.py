"""Elementary functions against decimal arithmetic of 60 digits; the full proof is scripts/prove_elementary.py."""

import decimal
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from refmoe import jit
from refmoe.numerics import elementary
from refmoe.numerics.elementary import exp32, sigmoid32, silu32, sincos32

CONTEXT = decimal.Context(prec=60)
LN2 = Decimal("0.693147180559945309417232121458176568075500134360255254120680009493393621969694716")
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620900")


def bits(value):
    return int(np.float32(value).view(np.uint32))


def from_bits(pattern):
    return np.uint32(pattern).view(np.float32)


def nearest32(value):
    """The f32 nearest to a Decimal, chosen among neighbours by exact comparison, ties to even."""
    guess = np.float32(float(value))
    exact = Fraction(value)
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    finite = [v for v in around if np.isfinite(v)]
    return min(finite, key=lambda v: (abs(Fraction(float(v)) - exact), bits(v) & 1))


def exp_oracle(x):
    with decimal.localcontext(CONTEXT):
        return nearest32(Decimal(float(x)).exp())


def sincos_oracle(x):
    """Taylor series after subtracting the nearest multiple of pi / 2."""
    with decimal.localcontext(CONTEXT):
        quarter = PI / 2
        k = int((Decimal(float(x)) / quarter).to_integral_value())
        r = Decimal(float(x)) - k * quarter
        sums, term = [Decimal(0), Decimal(0)], Decimal(1)
        for n in range(50):
            sums[n % 2] += term * (-1) ** (n // 2)
            term = term * r / (n + 1)
        cosine, sine = sums
        for _ in range(k % 4):
            sine, cosine = cosine, -sine
        return nearest32(sine), nearest32(cosine)


def sample(low, high, count, seed):
    """f32 values whose bit patterns are uniform between those of low and high (both positive)."""
    patterns = np.random.default_rng(seed).integers(bits(low), bits(high), count, endpoint=True, dtype=np.uint32)
    return patterns.view(np.float32)


def test_constants_are_the_rounded_ones():
    with decimal.localcontext(CONTEXT):
        assert float(1 / LN2) == elementary.LOG2E
        assert float(LN2 - Decimal(elementary.LN2_HI)) == elementary.LN2_LO
        assert float(2 / PI) == elementary.TWO_OVER_PI
        rest = PI / 2 - Decimal(elementary.PIO2_1)
        assert 0 < rest < Decimal(2) ** -30
        rest -= Decimal(elementary.PIO2_2)
        assert 0 < rest < Decimal(2) ** -64
        assert float(rest) == elementary.PIO2_3
    assert (elementary.LN2_HI * 2**32).is_integer()
    assert (elementary.PIO2_1 * 2**30).is_integer()
    assert (elementary.PIO2_2 * 2**64).is_integer()
    powers = {elementary.EXP_COEFFICIENTS: range(13, 1, -1), elementary.SIN_COEFFICIENTS: range(17, 1, -2)}
    powers[elementary.COS_COEFFICIENTS] = range(18, 0, -2)
    for coefficients, degrees in powers.items():
        assert [abs(c) for c in coefficients] == [float(Fraction(1, math.factorial(n))) for n in degrees]
    assert elementary.SIN_COEFFICIENTS[-1] < 0 < elementary.SIN_COEFFICIENTS[-2]
    assert elementary.COS_COEFFICIENTS[-1] < 0 < elementary.COS_COEFFICIENTS[-2]


@pytest.mark.parametrize("sign", [1, -1])
def test_exp_is_correctly_rounded(sign):
    limit = 88.72283 if sign > 0 else 103.97208
    for x in np.concatenate([sample(2.0**-30, limit, 1500, 1), sample(1.0, limit, 1500, 2)]):
        value = np.float32(sign * x)
        assert bits(exp32(value)) == bits(exp_oracle(value)), f"x = {value!r}"


def test_exp_subnormal_results_are_rounded_once():
    for x in -sample(87.33654, 103.97207, 1000, 3):
        assert bits(exp32(x)) == bits(exp_oracle(x)), f"x = {x!r}"


@pytest.mark.parametrize(
    ("x", "want"),
    [
        (0x00000000, 0x3F800000),
        (0x80000000, 0x3F800000),
        (0x00000001, 0x3F800000),
        (0x7F800000, 0x7F800000),
        (0xFF800000, 0x00000000),
        (0x42B17217, 0x7F7FFF84),  # the largest finite result
        (0x42B17218, 0x7F800000),
        (0xC2AEAC4F, 0x00800026),  # the last normal result
        (0xC2AEAC50, 0x007FFFE6),
        (0xC2CFF1B4, 0x00000001),
        (0xC2CFF1B5, 0x00000000),
        (0xC2D00001, 0x00000000),
    ],
)
def test_exp_special_values(x, want):
    assert bits(exp32(from_bits(x))) == want


def test_nan_gives_nan():
    x = np.float32(np.nan)
    assert all(np.isnan(y) for y in (exp32(x), sigmoid32(x), silu32(x), *sincos32(x)))


def test_sigmoid_and_silu_round_every_operation():
    one = np.float32(1)
    with np.errstate(over="ignore"):
        for x in np.concatenate([sample(2.0**-20, 88.0, 300, 4), -sample(2.0**-20, 88.0, 300, 5)]):
            below = np.float32(one + exp_oracle(-x))
            assert bits(sigmoid32(x)) == bits(np.float32(one / below))
            assert bits(silu32(x)) == bits(np.float32(x / below))


def test_sigmoid_and_silu_special_values():
    inf = np.float32(np.inf)
    assert (bits(sigmoid32(inf)), bits(sigmoid32(-inf)), bits(sigmoid32(np.float32(0)))) == (bits(1), 0, bits(0.5))
    assert bits(silu32(inf)) == bits(inf)
    assert bits(silu32(np.float32(-0.0))) == bits(silu32(np.float32(-89))) == bits(-0.0)
    with np.errstate(invalid="ignore"):
        assert np.isnan(silu32(-inf))


def test_sincos_is_correctly_rounded():
    multiples = [np.float32(k * math.pi / 2) for k in (1, 2, 3, 4, 5, 355, 710, 1000, 104348, 2670176)]
    for x in [*sample(2.0**-14, 2.0**22 - 1, 1200, 6), *sample(1.0, 131072.0, 800, 7), *multiples]:
        got, want = sincos32(x), sincos_oracle(x)
        assert [bits(v) for v in got] == [bits(v) for v in want], f"x = {x!r}"
        mirrored = sincos32(np.float32(-x))
        assert [bits(v) for v in mirrored] == [bits(-want[0]), bits(want[1])], f"x = {-x!r}"


def test_sincos_of_the_sine_that_binary64_cannot_decide():
    x = from_bits(0x46199998)
    assert [bits(v) for v in sincos_oracle(x)] == [bits(v) for v in sincos32(x)]
    assert bits(sincos32(x)[0]) == 0xBEB1FA5D
    assert bits(sincos32(-x)[0]) == 0x3EB1FA5D


def test_sincos_special_values():
    assert [bits(v) for v in sincos32(np.float32(-0.0))] == [0x80000000, 0x3F800000]
    assert [bits(v) for v in sincos32(from_bits(1))] == [1, 0x3F800000]
    for x in (2.0**22, -(2.0**22), np.inf, -np.inf):
        assert all(np.isnan(v) for v in sincos32(np.float32(x)))


@pytest.mark.skipif(not jit.ENABLED, reason="the JIT is off: there is only the Python side")
def test_compiled_equals_python():
    values = np.concatenate([sample(2.0**-30, 120.0, 300, 8), -sample(2.0**-30, 120.0, 300, 9)])
    with np.errstate(all="ignore"):
        for kernel in (exp32, sigmoid32, silu32):
            for x in values:
                assert bits(kernel(x)) == bits(kernel.py_func(x)), f"{kernel.__name__}({x!r})"
        for x in np.concatenate([values, sample(1.0, 2.0**22 - 1, 300, 10)]):
            assert [bits(v) for v in sincos32(x)] == [bits(v) for v in sincos32.py_func(x)], f"sincos32({x!r})"
