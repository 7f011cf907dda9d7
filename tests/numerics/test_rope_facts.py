"""golden/published/rope_tables.json: our frequencies and errors of 19 published tables, once more and in another way.

Frequencies as exponentials of exact rationals and logarithms; sines and cosines by doubling the angle 24 times. What
the file says about transformers is not recomputed here: scripts/compare_rope.py does that where PyTorch is installed.
"""

import decimal
import json
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from refmoe.config import Config, rope
from refmoe.numerics import rope_tables
from tests.oracles.arithmetic import PI, rn32

FACTS = json.loads((Path(__file__).parents[2] / "golden" / "published" / "rope_tables.json").read_text("utf-8"))
TABLES = {one["name"]: one for one in FACTS["tables"]}
CONTEXT = decimal.Context(prec=60, Emin=-999999, Emax=999999)
each = pytest.mark.parametrize("one", TABLES.values(), ids=TABLES)


def table_of(spec, rounded):
    """Frequencies as decimals: with R1-R3 of the clause, or with no rounding at all."""
    def step(value):
        return Decimal(rn32(Fraction(value))) if rounded else Decimal(value)

    size, log = spec["head_dim"], Decimal(spec["base"]).ln()
    factor, result = Decimal(spec.get("factor", 1)), []
    for i in range(size // 2):
        period = step((log * step(Decimal(2 * i) / size)).exp())
        keep = share_kept(spec, i, period, log)
        result.append(step(keep / period + (1 - keep) / (period * factor)))
    return result


def share_kept(spec, i, period, log):
    """How much of the unscaled frequency pair i keeps."""
    if spec["kind"] in ("default", "linear"):
        return Decimal(0)  # a factor of 1 for default
    context = Decimal(spec["original_max_position_embeddings"])
    if spec["kind"] == "llama3":
        low, high = (Decimal(spec[f"{side}_freq_factor"]) for side in ("low", "high"))
        return max(Decimal(0), min(Decimal(1), (context / period / (2 * PI) - low) / (high - low)))
    first, last = (spec["head_dim"] * (context.ln() - (2 * PI * Decimal(spec[key])).ln()) / log / 2
                   for key in ("beta_fast", "beta_slow"))
    if spec["truncate"]:
        first, last = first.to_integral(ROUND_FLOOR), last.to_integral(ROUND_CEILING)
    first, last = max(first, Decimal(0)), min(last, Decimal(spec["head_dim"] - 1))
    assert first < last
    return max(Decimal(0), min(Decimal(1), (last - i) / (last - first)))


def amplitude_of(spec):
    """YaRN's factor of cos and sin; no published config states attention_factor."""
    if spec["kind"] != "yarn":
        return Decimal(1)
    grown = Decimal(spec["factor"]).ln() / 10
    if "mscale" in spec:
        return (1 + grown * Decimal(spec["mscale"])) / (1 + grown * Decimal(spec["mscale_all_dim"]))
    return 1 + grown


def turned(angle):
    """(cos, sin) of a Decimal of at most some 10^7, to some 40 digits."""
    small = angle.remainder_near(2 * PI) / 2**24
    square = small * small
    versine = square / 2 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56)))  # 1 - cos
    sine = small * (1 - square / 6 * (1 - square / 20 * (1 - square / 42)))
    for _ in range(24):
        sine, versine = 2 * sine * (1 - versine), 2 * sine * sine
    return 1 - versine, sine


@each
def test_spec_is_what_the_config_says(one):
    values = dict(one["config"])
    size = values.pop("qk_rope_head_dim", None) or values.get("head_dim") or (
        values["hidden_size"] // values["num_attention_heads"])
    config, partial = Config(values, "config.json"), "partial_rotary_factor" in values
    size = rope.rotated(config, size, 0.5) if partial else size
    assert rope.read(config, size, values["max_position_embeddings"], partial=partial) == one["spec"]


@each
def test_frequencies(one):
    with decimal.localcontext(CONTEXT):
        expected = np.array([float(f) for f in table_of(one["spec"], True)], np.float32)
        amplitude = rn32(Fraction(amplitude_of(one["spec"])))
    assert "".join(f"{bits:08x}" for bits in expected.view(np.uint32)) == one["inv_freq_bits"]
    assert one["amplitude"] == amplitude
    found, factor = rope_tables.from_spec(one["spec"])
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32)) and factor == np.float32(amplitude)


@each
@pytest.mark.parametrize("position", [1, 4095, 131071, 262143, 1048575])
def test_errors(one, position):
    with decimal.localcontext(CONTEXT):
        spec, amplitude, stated = one["spec"], Decimal(one["amplitude"]), one["errors"][str(position)]
        true_amplitude = amplitude_of(spec)
        ours, unrounded = Decimal(0), Decimal(0)
        for stored, ideal in zip(table_of(spec, True), table_of(spec, False), strict=True):
            angle = Decimal(rn32(Fraction(position) * Fraction(stored)))
            exact = [true_amplitude * v for v in turned(position * ideal)]
            for value, want in zip(turned(angle), exact, strict=True):
                once = Decimal(rn32(Fraction(value)))
                ours = max(ours, abs(Decimal(rn32(Fraction(once * amplitude))) - want))
            for value, want in zip(turned(position * stored), exact, strict=True):
                unrounded = max(unrounded, abs(true_amplitude * value - want))
    assert (float(f"{ours:.3e}"), float(f"{unrounded:.3e}")) == (stated["ours"], stated["unrounded"])


def test_what_the_file_claims_in_words():
    """The sentences of the clauses rope_tables and rope_half that rest on these figures."""
    units = [abs(n) for one in TABLES.values() for n in one["differs"].values()]
    assert max(units) == 3 and len(TABLES) == 19
    for one in TABLES.values():
        for row in one["errors"].values():
            assert row["ours"] <= 5 * row["unrounded"] + 1.5e-7  # the angle costs what the frequencies cost
            assert abs(row["ours"] - row["float32"]) <= 1e-3 * row["ours"] + 1.5e-7
            assert row["bfloat16"] <= row["ours"] + 2.0**-8 * one["amplitude"]
    assert max(one["errors"]["131071"]["ours"] for one in TABLES.values()) < 0.006
    assert max(one["errors"]["1048575"]["ours"] for one in TABLES.values()) < 0.08


def test_kimi_k2_is_a_hard_step():
    one = TABLES["Kimi-K2-Base, Kimi-K2-Instruct"]
    table, plain = rope_tables.from_spec(one["spec"])[0], rope_tables.default(64, 50000.0)
    assert np.array_equal(table[:20], plain[:20]) and np.array_equal(table[20:], plain[20:] / np.float32(32))
