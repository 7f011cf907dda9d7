"""rope_tables - inverse frequencies of rotary position embedding, from decimal arithmetic, the same on every machine.

Signature   default(head_dim, base) -> f32[D/2];  linear(head_dim, base, factor) -> f32[D/2]
            llama3(head_dim, base, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings)
              -> f32[D/2]
            yarn(head_dim, base, factor, original_max_position_embeddings, beta_fast, beta_slow, truncate) -> f32[D/2]
            yarn_amplitude(factor, attention_factor, mscale, mscale_all_dim) -> f32
            from_spec(spec) -> (inv_freq f32[D/2], amplitude f32)
Semantics   D = head_dim (the rotated width), i = 0 .. D/2 - 1. A config number means the exact value of the integer or
            binary64 it was parsed to. RN32 rounds to binary32, nearest even. Pair i turns by f_i per position:
              x_i = RN32(2 i / D)   p_i = RN32(base ^ x_i)   f_i = 1 / p_i (exact)
            default: inv_i = RN32(f_i).   linear: inv_i = RN32(f_i / factor).
            llama3: with t_i = original f_i / (2 pi), the turns of pair i within the original context,
              s_i = clamp((t_i - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
              inv_i = RN32(f_i (s_i + (1 - s_i) / factor)).
            yarn: with bound(turns) = D ln(original / (2 pi turns)) / (2 ln base),
              low = bound(beta_fast), high = bound(beta_slow); if truncate: low = floor(low), high = ceil(high);
              low = max(low, 0), high = min(high, D - 1); if low = high: high = low + 0.001;
              s_i = clamp(1 - (i - low) / (high - low), 0, 1);   inv_i as in llama3.
            amplitude, by which cos and sin are multiplied: 1, but for yarn RN32(attention_factor) if given, else
              RN32(m(mscale) / m(mscale_all_dim)) if both are given and not 0, else RN32(m(1)),
              where m(v) = 0.1 v ln(factor) + 1.
Order       R1 x_i; R2 p_i; R3 inv_i; R4 amplitude: each one rounding of the value written above. R1, and R3 of default
            and linear, round exact fractions; the others round decimals of 60 digits, themselves rounded half even.
Special     s_i = 1 gives the default's inv_i and s_i = 0 the linear one, bit for bit.
Errors      from_spec refuses (ConfigError) an unknown kind, missing or foreign keys, numbers outside: head_dim even,
            2 .. 65536; base > 1; factor >= 1; low_freq_factor < high_freq_factor; beta_slow <= beta_fast;
            mscale and mscale_all_dim >= 0; others > 0.
Origin      arXiv:2104.09864; linear: arXiv:2306.15595; llama3: the Llama 3.1 release; yarn: arXiv:2309.00071 with
            transformers' rule for attention_factor. R1-R3 of default are what frameworks do in binary32; they also
            round every step of llama3 and yarn, which moves some entries by 1 to 3 units in the last place: 19 tables
            of published configs side by side in golden/published/rope_tables.json (scripts/compare_rope.py). In an
            invented yarn without truncate up to 34 units were seen, where their 1 - ramp cancels.
            DeepSeek's own code uses m(mscale) where mscale_all_dim is 0.
"""

import decimal
from decimal import Decimal
from fractions import Fraction

import numpy as np

from refmoe.errors import ConfigError

_CONTEXT = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999)
_TWO_PI = Decimal("6.28318530717958647692528676655900576839433879875021164194988918461563281257241799")


def round32(value):
    """RN32 of a Fraction, int, float or Decimal >= 0, by integer arithmetic: a single rounding."""
    value = Fraction(value)
    if value == 0:
        return np.float32(0.0)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if value < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(value / quantum) * quantum  # round() of a Fraction is half even
    return np.float32(float(rounded)) if rounded < 2**128 else np.float32(np.inf)


def _periods(head_dim, base):
    """R1, R2: p_i as exact fractions."""
    with decimal.localcontext(_CONTEXT):
        exponents = (Fraction(float(round32(Fraction(2 * i, head_dim)))) for i in range(head_dim // 2))
        powers = (Decimal(base) ** (Decimal(x.numerator) / Decimal(x.denominator)) for x in exponents)
        return [Fraction(float(round32(power))) for power in powers]


def default(head_dim, base):
    """inv_freq f32[head_dim/2] without scaling."""
    return np.array([round32(1 / p) for p in _periods(head_dim, base)], np.float32)


def linear(head_dim, base, factor):
    """inv_freq f32[head_dim/2] with every frequency divided by factor."""
    return np.array([round32(1 / (p * Fraction(factor))) for p in _periods(head_dim, base)], np.float32)


def _blend(periods, unscaled, factor):
    """R3 of llama3 and yarn: f_i (s_i + (1 - s_i) / factor), with s_i given as Decimals and clamped here."""
    table = []
    for p, share in zip(periods, unscaled, strict=True):
        s = Fraction(min(max(share, Decimal(0)), Decimal(1)))
        table.append(round32((s + (1 - s) / Fraction(factor)) / p))
    return np.array(table, np.float32)


def llama3(head_dim, base, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings):
    """inv_freq f32[head_dim/2]: pairs that turn often are kept, slow ones divided by factor, a ramp between."""
    periods = _periods(head_dim, base)
    with decimal.localcontext(_CONTEXT):
        low, high = Decimal(low_freq_factor), Decimal(high_freq_factor)
        original = Decimal(original_max_position_embeddings)
        turns = [original / (_TWO_PI * Decimal(float(p))) for p in periods]
        unscaled = [(t - low) / (high - low) for t in turns]
    return _blend(periods, unscaled, factor)


def yarn(head_dim, base, factor, original_max_position_embeddings, beta_fast=32, beta_slow=1, truncate=True):
    """inv_freq f32[head_dim/2]: as llama3, with a ramp that is straight in the index of the pair."""
    with decimal.localcontext(_CONTEXT):
        original = Decimal(original_max_position_embeddings)
        low, high = (
            head_dim * (original / (_TWO_PI * Decimal(turns))).ln() / (2 * Decimal(base).ln())
            for turns in (beta_fast, beta_slow)
        )
        if truncate:
            low, high = low.to_integral_value(decimal.ROUND_FLOOR), high.to_integral_value(decimal.ROUND_CEILING)
        low, high = max(low, Decimal(0)), min(high, Decimal(head_dim - 1))
        if low == high:
            high = low + Decimal("0.001")
        unscaled = [1 - (i - low) / (high - low) for i in range(head_dim // 2)]
    return _blend(_periods(head_dim, base), unscaled, factor)


def yarn_amplitude(factor, attention_factor=None, mscale=None, mscale_all_dim=None):
    """The np.float32 by which cos and sin are multiplied under yarn."""
    if attention_factor is not None:
        return round32(attention_factor)
    with decimal.localcontext(_CONTEXT):
        log = Decimal(factor).ln() / 10
        if mscale and mscale_all_dim:
            return round32((Decimal(mscale) * log + 1) / (Decimal(mscale_all_dim) * log + 1))
        return round32(log + 1)


_KINDS = {  # kind -> (mandatory keys, optional keys with the value of an absent or null one)
    "default": (("head_dim", "base"), {}),
    "linear": (("head_dim", "base", "factor"), {}),
    "llama3": (
        ("head_dim", "base", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
        {},
    ),
    "yarn": (
        ("head_dim", "base", "factor", "original_max_position_embeddings"),
        {"beta_fast": 32, "beta_slow": 1, "truncate": True}
        | {"attention_factor": None, "mscale": None, "mscale_all_dim": None},
    ),
}
_NUMBERS = {  # key -> (test, what is expected)
    "head_dim": (lambda v: isinstance(v, int) and 2 <= v <= 65536 and v % 2 == 0, "an even integer, 2 .. 65536"),
    "base": (lambda v: 1 < v < 2**126, "a number above 1"),
    "factor": (lambda v: 1 <= v < 2**126, "a number of at least 1"),
    "mscale": (lambda v: 0 <= v < 2**126, "a number of at least 0"),
    "mscale_all_dim": (lambda v: 0 <= v < 2**126, "a number of at least 0"),
}
_POSITIVE = (lambda v: 0 < v < 2**126, "a number above 0")


def from_spec(spec):
    """(inv_freq f32[D/2], amplitude np.float32) of {"kind": ..., keys as the parameters of that kind's functions}."""
    values = {key: value for key, value in spec.items() if value is not None}
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigError(f"rope: kind: expected one of {', '.join(_KINDS)}, found {kind!r}")
    mandatory, optional = _KINDS[kind]
    for key in mandatory:
        if key not in values:
            raise ConfigError(f"rope: {key}: expected for kind {kind}, found nothing")
    for key, value in values.items():
        if key not in mandatory and key not in optional:
            raise ConfigError(f"rope: {key}: not a key of kind {kind}, found {value!r}")
        _check(key, value)
    values = optional | values
    if kind == "llama3" and not values["low_freq_factor"] < values["high_freq_factor"]:
        found = f"{values['low_freq_factor']} and {values['high_freq_factor']}"
        raise ConfigError(f"rope: low_freq_factor: expected less than high_freq_factor, found {found}")
    if kind != "yarn":
        return {"default": default, "linear": linear, "llama3": llama3}[kind](**values), np.float32(1.0)
    if not values["beta_slow"] <= values["beta_fast"]:
        found = f"{values['beta_slow']} and {values['beta_fast']}"
        raise ConfigError(f"rope: beta_slow: expected at most beta_fast, found {found}")
    amplitude = yarn_amplitude(
        values["factor"], *(values.pop(key) for key in ("attention_factor", "mscale", "mscale_all_dim"))
    )
    return yarn(**values), amplitude


def _check(key, value):
    if key == "truncate":
        if not isinstance(value, bool):
            raise ConfigError(f"rope: truncate: expected true or false, found {value!r}")
        return
    fits, expected = _NUMBERS.get(key, _POSITIVE)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ConfigError(f"rope: {key}: expected {expected}, found {value!r}")
