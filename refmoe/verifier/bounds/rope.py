"""Rotation of pairs by position times frequency."""

import numpy as np

from refmoe.verifier.balls import UNIT, Ball
from refmoe.verifier.bounds import bound


def halves(size):
    """Indices of the two members of every pair."""
    return np.arange(size // 2), np.arange(size // 2) + size // 2


def neighbours(size):
    """Indices of the two members of every pair."""
    return np.arange(0, size, 2), np.arange(1, size, 2)


def turned(a, x: Ball, angle, amplitude, pairs) -> Ball:
    """x [T,heads*D] by angle [T,D/2]. The tables may be kept in the intermediate type."""
    size = 2 * angle.shape[1]
    first, second = pairs(size)
    heads = x.reshape(len(x.v), -1, size)
    accuracy = 2 * UNIT * a.profile.exp_ulp
    cos, sin = (a.mid(Ball(f(angle) * amplitude, abs(amplitude) * accuracy))[:, None] for f in (np.cos, np.sin))
    one, two = heads[..., first], heads[..., second]
    low, high = (a.out(p + q) for p, q in ((a.mid(one * cos), -a.mid(two * sin)), (a.mid(two * cos), a.mid(one * sin))))
    v, e = np.empty(heads.v.shape), np.empty(heads.v.shape)
    v[..., first], v[..., second], e[..., first], e[..., second] = low.v, high.v, low.e, high.e
    return Ball(v, e).reshape(*x.v.shape)


def angles(a, positions, inv_freq):
    """The angle is the rounded product of the clause, or the product in real arithmetic: a port has one or the other
    in all rows."""
    rounded = (positions.astype(np.float32)[:, None] * inv_freq).astype(np.float64)
    return a.either(rounded, positions.astype(np.float64)[:, None] * inv_freq, "angle")


def rotation(a, x, positions, inv_freq, amplitude, pairs):
    """All of every head."""
    return {"y": turned(a, a.value(x), angles(a, positions, inv_freq), float(np.float32(amplitude)), pairs)}


@bound("rope_half")
def rope_half(a, x, positions, inv_freq, amplitude):
    """Pairs half a head apart."""
    return rotation(a, x, positions, inv_freq, amplitude, halves)


@bound("rope_pairs")
def rope_pairs(a, x, positions, inv_freq, amplitude):
    """Neighbours are pairs."""
    return rotation(a, x, positions, inv_freq, amplitude, neighbours)


@bound("rope_half_partial")
def rope_half_partial(a, x, positions, inv_freq, amplitude, head_dim, *, pairs=halves, start=0):
    """The first numbers of each head turn, the others are copied."""
    heads, size = a.value(x).reshape(len(x), -1, head_dim), 2 * len(inv_freq)
    part = heads[..., start : start + size]
    angle = angles(a, positions, inv_freq)
    y = turned(a, part.reshape(len(x), -1), angle, float(np.float32(amplitude)), pairs)
    rest = a.out(heads)
    v, e = rest.v.copy(), rest.e.copy()
    v[..., start : start + size] = y.v.reshape(part.v.shape)
    e[..., start : start + size] = y.e.reshape(part.v.shape)
    return {"y": Ball(v, e).reshape(*x.shape)}
