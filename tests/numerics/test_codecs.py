"""bf16 and f16 codecs: every code, midpoints and random bit patterns, against other implementations and fractions."""

from fractions import Fraction

import numpy as np
import pytest

from refmoe import jit
from refmoe.numerics import codecs

CODES = np.arange(65536, dtype=np.uint16)


def random_values(seed, count=200_000):
    return np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)


def around_midpoints(widen, infinity):
    """The f32 midpoints between neighbouring codes of both signs, and the f32 just below and above each."""
    codes = np.arange(infinity - 1, dtype=np.uint16)
    low, high = widen(codes).astype(np.float64), widen(codes + 1).astype(np.float64)
    middle = ((low + high) / 2).astype(np.float32)  # exact: one bit more than the code has
    bits = middle.view(np.uint32)
    bits = np.concatenate([bits, np.maximum(bits, 1) - 1, bits + 1])
    return np.concatenate([bits, bits | 0x80000000]).view(np.float32)


def same(got, want):
    """Equal bits, all nan taken as one."""
    nan = np.isnan(got)
    assert np.array_equal(nan, np.isnan(want))
    integers = np.uint32 if got.dtype.itemsize == 4 else np.uint16
    assert np.array_equal(got[~nan].view(integers), want[~nan].view(integers))


def test_bf16_of_every_code():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    same(codecs.bf16_to_f32(CODES), CODES.view(ml_dtypes.bfloat16).astype(np.float32))


def test_f16_of_every_code():
    same(codecs.f16_to_f32(CODES), CODES.view(np.float16).astype(np.float32))


@pytest.mark.parametrize("values", [random_values(1), around_midpoints(codecs.bf16_to_f32, 0x7F80)])
def test_to_bf16_rounds_to_even(values):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.errstate(all="ignore"):
        want = values.astype(ml_dtypes.bfloat16)
    same(codecs.f32_to_bf16(values).view(ml_dtypes.bfloat16).astype(np.float32), want.astype(np.float32))


@pytest.mark.parametrize("values", [random_values(2), around_midpoints(codecs.f16_to_f32, 0x7C00)])
def test_to_f16_rounds_to_even(values):
    with np.errstate(all="ignore"):
        want = values.astype(np.float16)
    same(codecs.f32_to_f16(values).view(np.float16), want)


@pytest.mark.parametrize(
    ("narrow", "widen", "infinity"),
    [(codecs.f32_to_bf16, codecs.bf16_to_f32, 0x7F80), (codecs.f32_to_f16, codecs.f16_to_f32, 0x7C00)],
)
def test_narrowing_takes_the_nearest_code(narrow, widen, infinity):
    """Exact distances, without any other implementation."""
    largest = float(widen(np.array([infinity - 1], np.uint16))[0])
    values = np.abs(random_values(3, 4000))
    values = np.concatenate([values[values <= largest], np.float32(largest / 64) * np.arange(1, 64, dtype=np.float32)])
    codes = narrow(values).astype(np.int64)
    for value, code in zip(values, codes, strict=True):
        near = np.array([max(code - 1, 0), code, min(code + 1, infinity - 1)], np.uint16)
        distances = [abs(Fraction(float(v)) - Fraction(float(value))) for v in widen(near)]
        assert distances[1] == min(distances)
        if any(v != code and d == distances[1] for v, d in zip(near, distances, strict=True)):
            assert code % 2 == 0


def test_every_code_survives_the_round_trip():
    for narrow, widen, quiet in (
        (codecs.f32_to_bf16, codecs.bf16_to_f32, 0x40),
        (codecs.f32_to_f16, codecs.f16_to_f32, 0x200),
    ):
        wide = widen(CODES)
        want = np.where(np.isnan(wide), CODES | quiet, CODES)
        assert np.array_equal(narrow(wide), want)


def test_nan_keeps_sign_and_payload_and_becomes_quiet():
    bits = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFC12345], np.uint32)
    assert codecs.f32_to_bf16(bits.view(np.float32)).tolist() == [0x7FC0, 0xFFC0, 0x7FFF, 0xFFC1]
    assert codecs.f32_to_f16(bits.view(np.float32)).tolist() == [0x7E00, 0xFE00, 0x7FFF, 0xFE09]
    assert codecs.f16_to_f32(np.array([0x7C01], np.uint16)).view(np.uint32)[0] == 0x7FC02000


def test_overflow_limits():
    values = np.array([65519.996, 65520.0, -65520.0, 3.4e38, 2.0**-25, 2.0**-24 * 0.75, -1e-40], np.float32)
    assert codecs.f32_to_f16(values).tolist() == [0x7BFF, 0x7C00, 0xFC00, 0x7C00, 0, 1, 0x8000]
    largest = np.array([0x7F7F7FFF, 0x7F7F8000], np.uint32).view(np.float32)
    assert codecs.f32_to_bf16(largest).tolist() == [0x7F7F, 0x7F80]


def test_shapes_are_kept():
    assert codecs.f32_to_bf16(np.zeros((2, 3), np.float32)[:, ::2]).shape == (2, 2)
    assert codecs.f16_to_f32(np.zeros((0, 4), np.uint16)).shape == (0, 4)


def test_kernels_for_one_value_equal_the_arrays():
    step = 1 if jit.ENABLED else 97
    for code, b, h in zip(
        CODES[::step], codecs.bf16_to_f32(CODES)[::step], codecs.f16_to_f32(CODES)[::step], strict=True
    ):
        same(np.array([codecs.widen_bf16(code), codecs.widen_f16(code)], np.float32), np.array([b, h]))
    values = np.concatenate([random_values(4, 2000), around_midpoints(codecs.bf16_to_f32, 0x7F80)[::301]])
    for value, code in zip(values, codecs.f32_to_bf16(values), strict=True):
        assert codecs.bf16_bits(value) == code
        same(np.array([codecs.round_bf16(value)], np.float32), codecs.bf16_to_f32(np.array([code])))
