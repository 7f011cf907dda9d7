"""fma: one rounding, against rational arithmetic; compiled and interpreted alike."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmoe import jit
from refmoe.jit import kernel
from refmoe.numerics.fma import fma
from tests.oracles import arithmetic

FLOATS = st.floats(width=32)


@kernel
def fma_rows(a, b, c, y):
    for i in range(a.shape[0]):
        y[i] = fma(a[i], b[i], c[i])


def bits(x):
    return int(np.float32(x).view(np.uint32))


def assert_fma(a, b, c):
    """Both versions against the oracle."""
    with np.errstate(all="ignore"):
        want = np.float32(arithmetic.fma(float(a), float(b), float(c)))
        y = np.empty(1, np.float32)
        fma_rows(*(np.array([v], np.float32) for v in (a, b, c)), y)
        for found in (fma(a, b, c), y[0]):
            both_nan = math.isnan(found) and math.isnan(want)
            assert both_nan or bits(found) == bits(want), f"fma({a!r}, {b!r}, {c!r}) = {found!r}, expected {want!r}"


@given(FLOATS, FLOATS, FLOATS)
@settings(max_examples=300, deadline=None)
def test_any_three_numbers(a, b, c):
    assert_fma(np.float32(a), np.float32(b), np.float32(c))


@pytest.mark.parametrize("scale", [0, -60, -74, 60])
def test_sums_that_nearly_cancel_or_nearly_tie(scale):
    """c close to -ab, or far enough below ab that only a sticky bit of it is left."""
    rng = np.random.default_rng(scale + 100)
    for _ in range(300):
        a = np.float32(np.ldexp(rng.uniform(1, 2), scale))
        b = np.float32(np.ldexp(rng.uniform(-2, 2), scale))
        product = float(a) * float(b)
        for shift in (0, 23, 24, 25, 26, 48, 60):
            with np.errstate(all="ignore"):
                c = np.float32(-product * 2.0**-shift)
            for near in (c, np.nextafter(c, np.float32(0)), -c):
                assert_fma(a, b, near)


def test_a_product_on_a_midpoint_is_decided_by_the_addend():
    """Rounding to binary64 first would lose the last bit of c: the double rounding that a naive version has."""
    a, b = np.float32(1 + 2.0**-12), np.float32(1 + 2.0**-12)  # ab = 1 + 2^-11 + 2^-24: a tie in binary32
    tiny = np.float32(2.0**-100)
    assert fma(a, b, tiny) == np.float32(1 + 2.0**-11 + 2.0**-23)
    assert fma(a, b, -tiny) == np.float32(1 + 2.0**-11)
    assert fma(a, b, np.float32(0)) == np.float32(1 + 2.0**-11)
    for c in (tiny, -tiny, np.float32(0)):
        assert_fma(a, b, c)


@pytest.mark.parametrize(("a", "b", "c"), [
    (np.inf, 0.0, 1.0), (np.inf, 1.0, -np.inf), (np.nan, 1.0, 1.0), (0.0, -1.0, 0.0), (0.0, -1.0, -0.0),
    (1e-30, -1e-30, 0.0), (1e-45, 0.5, 0.0), (1e-45, 0.5, 1e-45), (2e-45, 0.75, -0.0), (3e38, 1.0, 3e38),
    (3.4028235e38, 1.0, 1.0141204e31), (3.4028235e38, 1.0, 1.0141205e31), (1e20, 1e20, -np.inf), (-1e30, 1e30, 3e38),
])  # fmt: skip
def test_special_values(a, b, c):
    assert_fma(*(np.float32(v) for v in (a, b, c)))


def test_the_oracle_rounds_as_python_does():
    """The rational rounding of the oracles against the conversion int and Fraction to float, then to binary32."""
    rng = np.random.default_rng(1)
    for value in rng.integers(0, 1 << 32, 500, dtype=np.uint64).astype(np.uint32).view(np.float32):
        if np.isfinite(value):
            assert arithmetic.rn32(Fraction(float(value)), float(value)) == value
    assert arithmetic.rn32(Fraction(2) ** 128 - Fraction(2) ** 103) == math.inf
    assert arithmetic.rn32(Fraction(2) ** 128 - Fraction(2) ** 103 - 1) == float(np.finfo(np.float32).max)
    assert arithmetic.rn32(Fraction(1, 2**150)) == 0.0 and arithmetic.rn32(Fraction(3, 2**151)) == 2.0**-149


@pytest.mark.skipif(not jit.ENABLED, reason="the JIT is off: there is only the Python side")
def test_compiled_equals_python_on_random_bits():
    patterns = np.random.default_rng(2).integers(0, 1 << 32, (3, 20000), dtype=np.uint64).astype(np.uint32)
    a, b, c = patterns.view(np.float32)
    y = np.empty(20000, np.float32)
    fma_rows(a, b, c, y)
    with np.errstate(all="ignore"):
        for i in range(0, 20000, 10):
            found = fma(a[i], b[i], c[i])
            assert bits(found) == bits(y[i]) or (found != found and y[i] != y[i])
