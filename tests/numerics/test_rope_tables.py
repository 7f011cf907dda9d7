"""RoPE tables: float64 formulas, numbers that transformers 5.23 computes, and the properties of every scaling kind."""

import decimal
import math
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from refmoe.errors import ConfigError
from refmoe.numerics import rope_tables
from refmoe.numerics.rope_tables import default, from_spec, linear, llama3, round32, yarn

LLAMA31 = {
    "kind": "llama3",
    "head_dim": 128,
    "base": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
KIMI_K2 = {
    "kind": "yarn",
    "head_dim": 64,
    "base": 50000.0,
    "factor": 32.0,
    "beta_fast": 1.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096,
}
GPT_OSS = {
    "kind": "yarn",
    "head_dim": 64,
    "base": 150000,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
QWEN3 = {"kind": "yarn", "head_dim": 128, "base": 1000000, "factor": 4.0, "original_max_position_embeddings": 32768}
BASES = [1e4, 5e4, 500000, 1e6, 1e7, 150000]


def close(got, want, units):
    """Within `units` in the last place of the wanted f32 values."""
    assert got.dtype == np.float32
    want = np.asarray(want, np.float64)
    assert np.all(np.abs(got - want) <= units * np.spacing(want.astype(np.float32)).astype(np.float64))


def frequencies(head_dim, base):
    return [float(base) ** (-2 * i / head_dim) for i in range(head_dim // 2)]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("head_dim", [2, 16, 64, 80, 128, 256])
def test_default(head_dim, base):
    table = default(head_dim, base)
    assert table.shape == (head_dim // 2,)
    assert table[0] == 1
    assert np.all(np.diff(table) < 0)
    close(table, frequencies(head_dim, base), 8)  # x_i is rounded first, which ln(base) magnifies
    exponents = (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)).astype(np.float64)
    close(table, 1 / (float(base) ** exponents).astype(np.float32).astype(np.float64), 1.01)


def test_linear():
    assert np.array_equal(linear(128, 1e4, 1.0), default(128, 1e4))
    assert np.array_equal(linear(128, 1e4, 4.0) * 4, default(128, 1e4))
    close(linear(128, 1e4, 3.0), np.array(frequencies(128, 1e4)) / 3, 8)


def test_llama3_bands():
    table, amplitude = from_spec(LLAMA31)
    plain = default(128, 500000.0)
    turns = 8192 * plain.astype(np.float64) / (2 * math.pi)
    fast, slow = turns > 4, turns < 1
    assert amplitude == 1 and type(amplitude) is np.float32
    assert (fast.sum(), slow.sum()) == (29, 29)
    assert np.array_equal(table[fast], plain[fast])
    assert np.array_equal(table[slow] * 8, plain[slow])
    smooth = (turns - 1) / 3
    between = ~fast & ~slow
    close(table[between], (plain * ((1 - smooth) / 8 + smooth))[between], 3)  # plain is rounded and enters squared


def test_yarn_hard_step_of_kimi_k2():
    """beta_fast = beta_slow = 1: the bounds 19.16 are cut to 19 and 20."""
    table, amplitude = from_spec(KIMI_K2)
    plain = default(64, 50000.0)
    assert np.array_equal(table[:20], plain[:20])
    assert np.array_equal(table[20:] * 32, plain[20:])
    assert amplitude == 1


@pytest.mark.parametrize(("base", "low", "high"), [(50000.0, 8, 20), (10000.0, 10, 23)])
def test_yarn_ramp_of_deepseek_and_kimi_k25(base, low, high):
    table = yarn(64, base, 40.0, 4096)
    plain = default(64, base).astype(np.float64)
    share = np.clip((np.arange(32) - low) / (high - low), 0, 1)
    assert np.array_equal(table[: low + 1], plain[: low + 1].astype(np.float32))
    assert np.array_equal(table[high:], linear(64, base, 40.0)[high:])
    close(table, plain * (1 - share) + plain / 40 * share, 1.01)


def test_yarn_without_truncation():
    table, amplitude = from_spec(GPT_OSS)
    low, high = (64 * math.log(4096 / (b * 2 * math.pi)) / (2 * math.log(150000)) for b in (32, 1))
    assert (round(low, 2), round(high, 2)) == (8.09, 17.4)
    share = np.clip((np.arange(32) - low) / (high - low), 0, 1)
    close(table, default(64, 150000) * ((1 - share) + share / 32), 1.01)
    assert amplitude == np.float32(0.1 * math.log(32) + 1)


def test_yarn_with_equal_bounds():
    """An original context of 4 positions: both bounds are clamped to 0, and 0.001 keeps the ramp finite."""
    table = yarn(16, 10000.0, 4.0, 4)
    assert table[0] == 1
    assert np.array_equal(table[1:], linear(16, 10000.0, 4.0)[1:])


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        (GPT_OSS, {1: 0.6890442967414856, 13: 0.0038603590801358223, 19: 2.6396468456368893e-05}),
        (
            QWEN3,
            {7: 0.22067339718341827, 25: 0.004131738096475601, 31: 0.000802959781140089, 61: 4.777382400789065e-07},
        ),
        (LLAMA31, {1: 0.8146172165870667, 31: 0.0008567514596506953, 37: 6.341514381347224e-05}),
    ],
)
def test_numbers_of_transformers(spec, published):
    table, _ = from_spec(spec)
    for i, value in published.items():
        close(table[i : i + 1], [value], 3)


@pytest.mark.parametrize(
    ("keys", "amplitude"),
    [
        ({"factor": 1.0}, 1.0),
        ({"factor": 4.0}, 1.138629436111989),
        ({"factor": 40.0, "mscale": 0.8, "mscale_all_dim": 0.707}, 1.0272101),
        ({"factor": 40.0, "mscale": 0.8}, 1.3688879),
        ({"factor": 40.0, "mscale": 0.8, "mscale_all_dim": 0}, 1.3688879),
        ({"factor": 40.0, "mscale": 0.707, "mscale_all_dim": 0.707}, 1.0),
        ({"factor": 40.0, "attention_factor": 1.25, "mscale": 0.8}, 1.25),
    ],
)
def test_yarn_amplitude(keys, amplitude):
    _, got = from_spec({"kind": "yarn", "head_dim": 64, "base": 1e4, "original_max_position_embeddings": 4096} | keys)
    assert type(got) is np.float32
    close(np.array([got]), [amplitude], 1)


def test_two_pi_by_machin():
    def arctan_of_inverse(n):
        return sum(Decimal((-1) ** k) / ((2 * k + 1) * Decimal(n) ** (2 * k + 1)) for k in range(70))

    with decimal.localcontext(decimal.Context(prec=90)):
        two_pi = 32 * arctan_of_inverse(5) - 8 * arctan_of_inverse(239)
        assert abs(two_pi - rope_tables._TWO_PI) < Decimal(10) ** -78


def test_round32_rounds_once():
    """Values whose binary64 rounding sits on a midpoint of binary32, so that rounding twice goes wrong."""
    one, unit = Fraction(1), Fraction(1, 2**23)
    tiny = Fraction(1, 2**80)
    for k in (1, 2):
        middle = one + k * unit - unit / 2
        below, above = np.float32(1 + (k - 1) * 2.0**-23), np.float32(1 + k * 2.0**-23)
        assert round32(middle - tiny) == below
        assert round32(middle + tiny) == above
        assert round32(middle) == (above if k % 2 == 0 else below)
    assert round32(Fraction(1, 2**149) * Fraction(3, 2)) == np.float32(2.0**-148)
    assert round32(Fraction(1, 2**150)) == 0
    assert round32(Fraction(1, 2**150) + tiny**3) == np.float32(2.0**-149)
    assert round32(Fraction(2**128) - 2**103) == np.inf
    assert round32(Fraction(2**128) - 2**103 - 1) == np.finfo(np.float32).max
    rng = np.random.default_rng(0)
    for value in rng.random(300) * 10.0 ** rng.integers(-44, 38, 300):
        assert round32(value) == np.float32(value)


def test_the_global_context_is_neither_used_nor_changed():
    want = from_spec(QWEN3)[0]
    with decimal.localcontext() as context:
        context.prec, context.rounding = 5, decimal.ROUND_UP
        assert np.array_equal(from_spec(QWEN3)[0], want)
        assert (decimal.getcontext().prec, decimal.getcontext().rounding) == (5, decimal.ROUND_UP)


def test_a_table_takes_milliseconds():
    began = time.process_time()
    llama3(128, 500000.0, 8.0, 1.0, 4.0, 8192)
    assert time.process_time() - began < 0.2


def without(spec, key):
    return {k: v for k, v in spec.items() if k != key}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"kind": "dynamic", "head_dim": 64, "base": 1e4},
            "kind: expected one of default, linear, llama3, yarn, found 'dynamic'",
        ),
        ({"head_dim": 64, "base": 1e4}, "kind: expected one of"),
        (without(KIMI_K2, "factor"), "factor: expected for kind yarn, found nothing"),
        (KIMI_K2 | {"factor": None}, "factor: expected for kind yarn, found nothing"),
        (KIMI_K2 | {"low_freq_factor": 1.0}, "low_freq_factor: not a key of kind yarn, found 1.0"),
        ({"kind": "default", "head_dim": 64, "base": 1e4, "factor": 2.0}, "factor: not a key of kind default"),
        (KIMI_K2 | {"head_dim": 63}, "head_dim: expected an even integer"),
        (KIMI_K2 | {"head_dim": 64.0}, "head_dim: expected an even integer"),
        (KIMI_K2 | {"base": 1.0}, "base: expected a number above 1, found 1.0"),
        (KIMI_K2 | {"base": "10000"}, "base: expected a number above 1, found '10000'"),
        (KIMI_K2 | {"base": math.inf}, "base: expected"),
        (KIMI_K2 | {"factor": math.nan}, "factor: expected a number of at least 1, found nan"),
        (KIMI_K2 | {"factor": 0.5}, "factor: expected a number of at least 1"),
        (KIMI_K2 | {"factor": True}, "factor: expected a number of at least 1"),
        (KIMI_K2 | {"truncate": 1}, "truncate: expected true or false"),
        (KIMI_K2 | {"beta_slow": 2.0}, "beta_slow: expected at most beta_fast, found 2.0 and 1.0"),
        (KIMI_K2 | {"attention_factor": -1.0}, "attention_factor: expected a number above 0"),
        (KIMI_K2 | {"mscale": -1.0}, "mscale: expected a number of at least 0"),
        (
            KIMI_K2 | {"original_max_position_embeddings": 0},
            "original_max_position_embeddings: expected a number above 0",
        ),
        (LLAMA31 | {"low_freq_factor": 4.0}, "low_freq_factor: expected less than high_freq_factor, found 4.0 and 4.0"),
    ],
)
def test_bad_specs_are_refused_in_one_line(spec, message):
    with pytest.raises(ConfigError) as caught:
        from_spec(spec)
    assert str(caught.value).startswith("rope: " + message)
    assert "\n" not in str(caught.value)
