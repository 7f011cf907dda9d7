"""Attention: errors of the scores go through exp and the division into the weights, then into the weighted sum."""

import numpy as np

from refmoe.verifier.balls import UNIT, Ball
from refmoe.verifier.bounds import bound


def repeated(n, heads, kv_heads):
    """KV head of query head n."""
    return n // (heads // kv_heads)


def sight(positions, keys, window):
    """Which of `keys` positions a query sees: bool [T,S]."""
    j = np.arange(keys)
    return (j <= positions[:, None]) & (j > positions[:, None] - window)


@bound("attention")
def attention(a, q, k, v, positions, scale, window, heads, kv_heads, *, head_of=repeated, seen=sight):
    """Head by head. The query may be scaled, the scores and the weights may be rounded to the intermediate type."""
    size = q.shape[1] // heads
    q, k, v = a.state(q), a.state(k), a.state(v)
    visible = seen(positions, len(k.v), window)
    y, e = np.empty(q.v.shape), np.empty(q.v.shape)
    for n in range(heads):
        g = head_of(n, heads, kv_heads)
        mine, theirs = slice(n * size, n * size + size), slice(g * size, g * size + size)
        out = weighted(a, scores(a, q[:, mine], k[:, theirs], scale), v[:, theirs], visible)
        y[:, mine], e[:, mine] = out.v, out.e
    return {"y": a.out(Ball(y, e))}


def scores(a, q: Ball, k: Ball, scale) -> Ball:
    """q . k scale [T,S]; up to three roundings to the intermediate type (scale, product, scaled product), and the
    arithmetic says where the scale is applied."""
    q, k, scale = a.scored(q, k, float(np.float32(scale)))
    s = a.dot(q, k)
    sizes = abs(q.v) @ abs(k.v).T
    rounding = 3 * a.mid_unit * (abs(s.v) + s.e) + 3 * UNIT * sizes
    return Ball(s.v * scale, (s.e + 1.02 * rounding) * abs(scale))


def weighted(a, s: Ball, v: Ball, visible, *, sink=None) -> Ball:
    """softmax(s) v over the visible keys; `sink`, a Ball [1] or None, is a score whose value is nothing."""
    value = np.where(visible, s.v, -np.inf)
    top = value.max(axis=1, keepdims=True)
    if sink is not None:
        top = np.maximum(top, sink.v)
    # A common factor of all weights cancels: they are taken relative to that of one key, the one that is largest here,
    # whose own error moves all others. What is rounded is the difference from the largest as it was computed.
    seen = np.where(visible, s.e, 0.0)
    one = np.argmax(value, axis=1)[:, None]
    error = s.e + np.take_along_axis(seen, one, 1)
    np.put_along_axis(error, one, 0.0, 1)
    if sink is not None:
        error = s.e + seen.max(axis=1, keepdims=True)
    apart = abs(np.where(visible, s.v - top, 0.0)) + seen + seen.max(axis=1, keepdims=True)
    error = error + (4 * UNIT + a.mid_unit) * apart
    relative = np.expm1(np.minimum(error, 700)) * 1.01 + 2 * UNIT * a.profile.exp_ulp
    relative = relative + max(a.mid_unit, a.weight_unit)
    with np.errstate(invalid="ignore"):
        p = np.exp(value - top)
    rest = 0.0 if sink is None else np.exp(sink.v - top)
    moved = 0.0
    if sink is not None:
        apart = sink.e + error.max(axis=1, keepdims=True) + (4 * UNIT + a.mid_unit) * abs(sink.v - top)
        moved = rest * (np.expm1(np.minimum(apart, 700)) + 8 * UNIT)
    total = p.sum(axis=1, keepdims=True) + rest
    p, relative = p / total, np.where(visible, relative, 0.0)
    values = np.where(visible.any(axis=0)[:, None], v.v, 0.0)  # what nobody sees takes no part, nan or not
    hidden = np.asarray(~np.isfinite(values).all(axis=1))
    y = p @ np.where(hidden[:, None], 0.0, values)
    for j in np.flatnonzero(hidden):
        y = y + np.where(visible[:, j, None], p[:, j, None] * values[j], 0.0)
    steps = a.gamma(s.v.shape[1]) + 4 * UNIT * (s.v.shape[1] // 64 + 2)  # sums, rescaling of an online softmax
    sizes = np.where(hidden[:, None], 0.0, abs(values))
    mean = (p * relative).sum(axis=1, keepdims=True) + moved / total
    e = (p * (relative + steps)) @ sizes + (mean + steps) * abs(y) + p @ np.where(hidden[:, None], 0.0, v.e)
    # a common relative error of all weights cancels in the quotient: never more than a convex mixture allows
    return Ball(y, e * 1.02 + len(values) * 2.0**-126)
