"""swiglu_clamped: rational clamps and products around the decimal exponential, one element after the other."""

import math
from fractions import Fraction

import numpy as np

from tests.oracles.arithmetic import TINY, exp32, gamma, rn32


def _product(a, b):
    plain = a * b
    return rn32(Fraction(a) * Fraction(b), plain) if math.isfinite(plain) else plain


def _one(gate, up, limit, alpha):
    if math.isnan(gate) or math.isnan(up):
        return math.nan
    gate, up = min(gate, limit), max(min(up, limit), -limit)
    e = float(exp32(-_product(alpha, gate)))
    if math.isinf(e):
        s = math.nan if math.isinf(gate) else math.copysign(0.0, gate)
    else:
        d = rn32(1 + Fraction(e))
        s = rn32(Fraction(gate) / Fraction(d), gate)
    return _product(rn32(Fraction(up) + 1), s)


def _split(x):
    return x[..., 0::2], x[..., 1::2]


def bits(x, limit, alpha):
    """The result."""
    limit, alpha = float(np.float32(limit)), float(np.float32(alpha))
    gate, up = _split(x)
    return {"y": np.vectorize(lambda g, u: _one(float(g), float(u), limit, alpha), [np.float32])(gate, up)}


def _exact(gate, up, alpha):
    with np.errstate(all="ignore"):
        return (up + 1.0) * gate / (1.0 + np.exp(-alpha * gate))


def reference(x, limit, alpha):
    """{name: (binary64 value, bound)}: R1 moves e by u |alpha gate|, so d by at most that share of itself; R2 to R6 are
    five roundings. up + 1 is exact to u |up + 1|. Below -87 the clause may lose the whole value."""
    limit, alpha = float(np.float32(limit)), float(np.float32(alpha))
    gate, up = (part.astype(float) for part in _split(x))
    gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    y = _exact(gate, up, alpha)
    far = alpha * gate < -87
    bound = np.abs(y) * (gamma(6) + gamma(1) * np.minimum(np.abs(alpha * gate), 200)) + TINY * (np.abs(up) + 2)
    return {"y": (y, np.where(far, np.abs(up + 1) * 90 / alpha * math.exp(-86), bound))}


def _changed(limit_of=lambda limit: limit, alpha_of=lambda alpha: alpha, x_of=lambda x: x):
    return lambda x, limit, alpha: bits(x_of(x), limit_of(limit), alpha_of(alpha))


def _of(gate, up, alpha):
    return {"y": _exact(gate.astype(float), up.astype(float), alpha).astype(np.float32)}


def _halves(x):
    half = x.shape[-1] // 2
    return np.stack([x[..., :half], x[..., half:]], axis=-1).reshape(x.shape)


def _exchanged(x):
    return x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)


def _both_sides(x, limit, alpha):
    gate, up = _split(x)
    return _of(np.clip(gate, -limit, limit), np.clip(up, -limit, limit), alpha)


def _above_only(x, limit, alpha):
    gate, up = _split(x)
    return _of(np.minimum(gate, np.float32(limit)), np.minimum(up, np.float32(limit)), alpha)


def _no_one(x, limit, alpha):
    gate, up = _split(x)
    gate, up = np.minimum(gate, np.float32(limit)), np.clip(up, np.float32(-limit), np.float32(limit))
    return _of(gate, up - np.float32(1), alpha)


def _sigmoid_product(x, limit, alpha):
    """gate * sigmoid(alpha gate): one rounding more."""
    gate, up = _split(x)
    gate, up = np.minimum(gate, np.float32(limit)), np.clip(up, np.float32(-limit), np.float32(limit))
    e = np.vectorize(lambda g: exp32(float(-(np.float32(alpha) * g))), [np.float32])(gate)
    with np.errstate(all="ignore"):
        return {"y": (up + np.float32(1)) * (gate * (np.float32(1) / (np.float32(1) + e)))}


MUTANTS = {
    "E03": _changed(limit_of=lambda limit: 1e30),
    "E05": (_changed(x_of=_halves), _changed(x_of=_exchanged)),
    "gate_clamped_below": _both_sides,
    "up_clamped_above_only": _above_only,
    "one_not_added": _no_one,
    "alpha_one": _changed(alpha_of=lambda alpha: 1.0),
    "alpha_fixed": _changed(alpha_of=lambda alpha: 1.702),
    "limit_fixed": _changed(limit_of=lambda limit: 7.0),
    "sigmoid_rounded_first": _sigmoid_product,
    "nan_clamped": lambda x, limit, alpha: bits(np.where(np.isnan(x), np.float32(limit), x), limit, alpha),
}
ORDER = {"sigmoid_rounded_first"}
