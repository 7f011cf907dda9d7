"""scale_by_sigmoid: the sigmoid from decimal exponentials and exact quotients, then one rational product."""

import math
from fractions import Fraction

import numpy as np

from tests.oracles.arithmetic import TINY, exp32, gamma, rn32


def _sigmoid(g):
    """R1 to R3 of one number."""
    if math.isnan(g):
        return g
    e = float(exp32(-g))
    if math.isinf(e):
        return 0.0
    return rn32(1 / Fraction(rn32(1 + Fraction(e))))


def _times(a, b):
    plain = a * b  # decides inf, nan and the sign of zero
    return rn32(Fraction(a) * Fraction(b), plain) if math.isfinite(plain) else plain


def bits(x, g):
    """The result."""
    y = [[_times(_sigmoid(float(gate)), float(v)) for v in row] for row, (gate,) in zip(x, g, strict=True)]
    return {"y": np.array(y, np.float32).reshape(x.shape)}


def reference(x, g):
    """{name: (binary64 value, bound)}: four roundings. Below -87 the clause may lose the whole value, for 1 + exp(-g)
    overflows there; it is smaller than 1.1 e^-87 |x|."""
    x = x.astype(float)
    with np.errstate(all="ignore"):
        y = x / (1 + np.exp(-g.astype(float)))
    bound = gamma(4) * np.abs(y) + TINY
    return {"y": (y, np.where(g < -87, np.abs(x) * 1.1 * math.exp(-87), bound))}


def _silu(x, g):
    return {"y": bits(x, g)["y"] * g}


def _one_division(x, g):
    """x / (1 + exp(-g)): one rounding less."""
    d = np.array([[np.float32(1) + exp32(-float(gate))] for (gate,) in g], np.float32)
    with np.errstate(all="ignore"):
        return {"y": x / d}


def _naive(x, g):
    """e^g / (1 + e^g)."""
    with np.errstate(all="ignore"):
        e = np.exp(g)
        return {"y": (e / (1 + e) * x).astype(np.float32)}


def _skipped(x, g):
    return {"y": np.where(bits(np.ones_like(x), g)["y"] == 0, np.float32(0), bits(x, g)["y"])}


MUTANTS = {
    "E01": lambda x, g: {"y": x},
    "sigmoid_missing": lambda x, g: {"y": x * g},
    "silu_for_sigmoid": _silu,
    "first_gate_for_all": lambda x, g: bits(x, np.broadcast_to(g[:1], g.shape)),
    "one_rounding_less": _one_division,
    "exp_overflows_to_nan": _naive,
    "closed_gate_hides_nan": _skipped,
}
ORDER = {"one_rounding_less"}
