"""Products of integer codes: the row as 8-bit codes in groups of 32, exact integer sums, scales in binary32.

A code is known unless the scaled value lies so near to a half that the division decides; then it may be either
neighbour, and the sum moves by what one step is worth.
"""

import numpy as np

from refmoe.verifier.balls import UNIT, Ball, gamma
from refmoe.verifier.bounds import bound

GROUP, LARGEST = 32, 127.0


def row_codes(x, group=GROUP, integer=np.rint, top=None):
    """(codes [T,K], scale of each element [T,K], doubtful bool [T,K]) of rows x in binary64."""
    width = x.shape[1]
    starts = np.arange(0, width, group)
    size = abs(x) if top is None else top
    largest = np.repeat(np.maximum.reduceat(size, starts, axis=1), group, axis=1)[:, :width]
    scale = (largest / LARGEST).astype(np.float32).astype(np.float64)
    scale = np.where(scale < 2.0**-126, 0.0, scale)
    v = np.where(scale > 0, x / np.where(scale > 0, scale, 1), 0.0)
    apart = abs(abs(v - np.floor(v)) - 0.5)
    exact = np.frexp(scale)[0] == 0.5  # a power of two divides without rounding: a tie is a tie
    doubtful = (apart <= 4 * UNIT * np.maximum(abs(v), 1)) & ~(exact & (apart == 0))
    return integer(v), scale, doubtful


def coded(a, x, q, scale, minimum, **options) -> Ball:
    """x [T,K] times the rows of one matrix q [N,K] with scale, minimum [N,U]."""
    p, s, doubtful = row_codes(x, **options)
    width = x.shape[1]
    unit = 32 if scale.shape[1] == -(-width // 32) else 16
    each = np.repeat(np.arange(scale.shape[1]), unit)[:width]
    weights, least = q * scale[:, each].astype(np.float64), minimum[:, each].astype(np.float64)
    terms = weights + least  # what one code of the row is worth, [N,K]
    v = (p * s) @ terms.T
    starts = np.arange(0, width, unit)
    sums = np.add.reduceat((p * s)[:, None] * weights[None], starts, axis=2)
    mins = np.add.reduceat((p * s)[:, None] * least[None], starts, axis=2)
    sizes = (abs(sums) + abs(mins)).sum(axis=2)
    e = gamma(2 * len(starts) + 8, UNIT) * sizes + 2 * UNIT * sizes + len(starts) * 2.0**-118
    moved = (doubtful * s) @ abs(terms).T
    lost = ~np.isfinite(x).all(axis=1)[:, None]
    return Ball(np.where(lost, np.nan, v), np.where(lost, 0.0, e + moved * 1.01))


@bound("linear_a8")
def linear_a8(a, x, q, scale, minimum, **options):
    """One matrix."""
    return {"y": a.out(coded(a, a.value(x).v, q.astype(np.float64), scale, minimum, **options))}


@bound("linear_bias_a8")
def linear_bias_a8(a, x, q, scale, minimum, b, **options):
    """One matrix; the sum may be rounded before the bias is added."""
    y = coded(a, a.value(x).v, q.astype(np.float64), scale, minimum, **options)
    return {"y": a.out(a.mid(y) + a.value(b, "vector"))}


@bound("expert_linear_a8")
def expert_linear_a8(a, x, ids, q, scale, minimum, **options):
    """Expert by expert."""
    return {"y": a.out(_by_expert(a, x, ids, q, scale, minimum, **options))}


@bound("expert_linear_bias_a8")
def expert_linear_bias_a8(a, x, ids, q, scale, minimum, b, **options):
    """Expert by expert, each with its bias."""
    y = _by_expert(a, x, ids, q, scale, minimum, **options)
    return {"y": a.out(a.mid(y) + a.value(b, "vector")[ids])}


def _by_expert(a, x, ids, q, scale, minimum, **options) -> Ball:
    x = a.value(x).v
    shape = (*ids.shape, q.shape[1])
    v, e = np.empty(shape), np.empty(shape)
    for expert in np.unique(ids):
        t, j = np.nonzero(ids == expert)
        y = coded(a, x[t] if x.ndim == 2 else x[t, j], q[expert].astype(np.float64), scale[expert], minimum[expert],
                  **options)  # fmt: skip
        v[t, j], e[t, j] = y.v, y.e
    return Ball(v, e)
