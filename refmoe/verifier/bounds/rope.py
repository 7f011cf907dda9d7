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


def rotation(a, x, positions, inv_freq, amplitude, pairs):
    """The angle is the rounded product of the clause, or the product in real arithmetic: a port has one or the other
    in all rows."""
    rounded = (positions.astype(np.float32)[:, None] * inv_freq).astype(np.float64)
    angle = a.either(rounded, positions.astype(np.float64)[:, None] * inv_freq, "angle")
    return {"y": turned(a, a.value(x), angle, float(np.float32(amplitude)), pairs)}


@bound("rope_half")
def rope_half(a, x, positions, inv_freq, amplitude):
    """Pairs half a head apart."""
    return rotation(a, x, positions, inv_freq, amplitude, halves)


@bound("rope_pairs")
def rope_pairs(a, x, positions, inv_freq, amplitude):
    """Neighbours are pairs."""
    return rotation(a, x, positions, inv_freq, amplitude, neighbours)


@bound("rope_half_partial")
def rope_half_partial(a, x, positions, inv_freq, amplitude, head_dim):
    """Heads cut in two: the first part turned, the rest copied."""
    width, heads = 2 * len(inv_freq), np.reshape(x, (len(x), -1, head_dim))
    first = heads[..., :width].reshape(len(x), -1)
    y = rotation(a, first, positions, inv_freq, amplitude, halves)["y"].reshape(len(x), -1, width)
    rest = a.out(a.value(heads[..., width:]))
    whole = Ball(np.concatenate([y.v, rest.v], axis=2), np.concatenate([y.e, rest.e], axis=2))
    return {"y": whole.reshape(*x.shape)}
