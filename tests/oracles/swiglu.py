"""swiglu: the correctly rounded exponential from decimals, then one operation after the other."""

import math

import numpy as np

from tests.oracles.arithmetic import TINY, exp32, gamma

ONE = np.float32(1)


def bits(gate, up):
    """The result."""
    e = np.vectorize(lambda g: exp32(float(-g)), [np.float32])(gate)
    with np.errstate(all="ignore"):
        return {"y": gate / (ONE + e) * up}


def reference(gate, up):
    """{name: (binary64 value, bound)}: R1 to R4 are four roundings. Below -87 the clause may lose the whole value, for
    1 + exp(-gate) overflows there; it is smaller than 90 e^-87."""
    wide = gate.astype(float)
    with np.errstate(all="ignore"):
        y = wide / (1 + np.exp(-wide)) * up
    bound = gamma(4) * np.abs(y) + TINY * (np.abs(up) + 1)
    return {"y": (y, np.where(gate < -87, np.abs(up) * 90 * math.exp(-87), bound))}


def _gelu(gate, up):
    erf = np.vectorize(math.erf, [float])(gate / 2**0.5)
    return {"y": (gate * 0.5 * (1 + erf) * up).astype(np.float32)}


def _clamped(gate, up):
    return bits(np.minimum(gate, np.float32(7)), np.clip(up, np.float32(-7), np.float32(7)))


def _sigmoid_product(gate, up):
    e = np.vectorize(lambda g: exp32(float(-g)), [np.float32])(gate)
    return {"y": gate * (ONE / (ONE + e)) * up}


def _naive(gate, up):
    """x e^x / (1 + e^x)."""
    with np.errstate(all="ignore"):
        e = np.exp(gate)
        return {"y": gate * (e / (ONE + e)) * up}


MUTANTS = {
    "E03": _clamped,
    "E05": lambda gate, up: bits(up, gate),
    "gelu": _gelu,
    "silu_of_product": lambda gate, up: bits(gate * up, np.ones_like(up)),
    "sigmoid_rounded_first": _sigmoid_product,
    "exp_overflows_to_nan": _naive,
    "nan_to_zero": lambda gate, up: {"y": np.nan_to_num(bits(gate, up)["y"], nan=0.0)},
}
ORDER = {"sigmoid_rounded_first"}
