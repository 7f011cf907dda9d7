"""Residual, gated activation, combine."""

import numpy as np

from refmoe.verifier.balls import UNIT, Ball
from refmoe.verifier.bounds import bound


@bound("add")
def add(arithmetic, /, a, b):
    """One rounding."""
    return {"y": arithmetic.out(arithmetic.value(a) + arithmetic.value(b))}


def silu(a, gate: Ball) -> Ball:
    """gate sigmoid(gate). Below -87 exp overflows or the quotient underflows: the whole value, at most 90 e^-87."""
    y = a.mid(gate * a.mid(a.sigmoid(gate)))
    return Ball(y.v, y.e + np.where(gate.v < -86, 90 * np.exp(-86.0), 0.0))


@bound("swiglu")
def swiglu(a, gate, up):
    """silu(gate) up, with the two intermediate values in the intermediate type."""
    return {"y": a.out(silu(a, a.value(gate)) * a.value(up))}


@bound("clip")
def clip(a, x, limit):
    """Exact; a limit in the intermediate type may be rounded."""
    x, limit = a.value(x), float(np.float32(limit))
    edge = a.out(Ball(np.float64(limit)))
    return {"y": a.out(Ball(np.clip(x.v, -limit, limit), x.e + np.where(abs(x.v) > limit - edge.e, edge.e, 0.0)))}


@bound("scale_by_sigmoid")
def scale_by_sigmoid(a, x, g):
    """One sigmoid for a row, which may be in the intermediate type."""
    g = a.value(g)
    s = a.mid(a.sigmoid(g))
    s = Ball(s.v, s.e + np.where(g.v < -86, 1.1 * np.exp(-86.0), 0.0))  # exp overflows in binary32
    return {"y": a.out(a.value(x) * s)}


@bound("combine")
def combine(a, x, weights):
    """K products added in any order, each of them and each partial sum perhaps in the intermediate type."""
    terms = a.value(x) * a.value(weights)[..., None]
    sizes = (abs(terms.v) + terms.e).sum(axis=1)
    e = terms.e.sum(axis=1) + a.mid_gamma(x.shape[1]) * sizes + x.shape[1] * 2.0**-126  # a product, K - 1 sums
    return {"y": a.out(Ball(terms.v.sum(axis=1), np.where(sizes > 3.4e38, np.inf, e + UNIT * sizes)))}


@bound("argmax")
def argmax(a, logits):
    """Exact inputs: no rounding, so no excuse."""
    value = np.where(np.isnan(logits), -np.inf, logits)
    ids = np.argmax(value, axis=1)
    for t in np.flatnonzero(np.isneginf(value).all(axis=1)):  # nothing but -inf and nan: -inf beats nan
        numbers = np.flatnonzero(~np.isnan(logits[t]))
        ids[t] = numbers[0] if len(numbers) else 0
    return {"ids": ids.astype(np.int64)}
