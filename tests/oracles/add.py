"""add: the exact sum, rounded once."""

import math
from fractions import Fraction

import numpy as np

from tests.oracles.arithmetic import rn32


def _sum(a, b):
    a, b = float(a), float(b)
    return rn32(Fraction(a) + Fraction(b), a + b) if math.isfinite(a) and math.isfinite(b) else a + b


def bits(a, b):
    """The result."""
    return {"y": np.vectorize(_sum, [np.float32])(a, b)}


def _flushed(a, b):
    y = bits(a, b)["y"]
    return {"y": np.where(np.abs(y) < 2.0**-126, np.float32(0), y)}


MUTANTS = {
    "E02": lambda a, b: {"y": a},
    "residual_dropped": lambda a, b: {"y": b},
    "residual_twice": lambda a, b: {"y": a + b + a},
    "subnormals_flushed": _flushed,
}
