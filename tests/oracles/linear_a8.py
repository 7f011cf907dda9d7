"""linear_a8: codes by exact quotients, integer sums, every rounding of the product from a Fraction."""

import math
from fractions import Fraction

import numpy as np

from tests.oracles.arithmetic import TINY, fma, gamma, rn32, tree

SMALLEST = 2.0**-126


def product(a, b):
    """RN32(a b) of floats that are binary32 numbers."""
    plain = a * b
    return plain if not math.isfinite(plain) else float(rn32(Fraction(a) * Fraction(b), zero=plain))


def quotient(a, b):
    """RN32(a / b) for finite a and b > 0."""
    return float(rn32(Fraction(a) / Fraction(b), zero=0.0))


def nearest(v):
    """The nearest integer, ties to even (as Python rounds a Fraction)."""
    return round(Fraction(v))


def row_codes(row, size=32, integer=nearest, divide=False, top=max):
    """[(scale, codes)] of groups of `size` columns."""
    groups = []
    for first in range(0, len(row), size):
        values = [float(v) for v in row[first : first + size]]
        if not all(map(math.isfinite, values)):
            groups.append((math.nan, [0] * len(values)))
            continue
        scale = quotient(top(map(abs, values)), 127.0)
        if scale < SMALLEST:
            groups.append((0.0, [0] * len(values)))
            continue
        inverse = quotient(1.0, scale)
        scaled = [float(rn32(Fraction(v) / Fraction(scale))) if divide else product(v, inverse) for v in values]
        groups.append((scale, [integer(v) for v in scaled]))
    return groups


def terms(groups, size, q, scale, minimum, unit):
    """For each unit: s, scale, minimum, the sum of q p and the sum of p."""
    p = [code for _, codes in groups for code in codes]
    for u in range(len(scale)):
        columns = range(u * unit, min(len(p), u * unit + unit))
        s = groups[u * unit // size][0]
        yield s, float(scale[u]), float(minimum[u]), sum(int(q[k]) * p[k] for k in columns), sum(p[k] for k in columns)


def rounded(parts, lanes=16):
    """R6 to R9 and the tree."""
    sums = [0.0] * lanes
    for u, (s, scale, minimum, both, alone) in enumerate(parts):
        sums[u % lanes] = fma(float(both), product(scale, s), sums[u % lanes])
        sums[u % lanes] = fma(float(alone), product(minimum, s), sums[u % lanes])
    return np.float32(tree(sums))


def each(x, q, scale, minimum, finish=rounded, size=32, unit=None, dtype=np.float32, **options):
    """finish() of the units of every pair of rows."""
    unit = unit or (32 if scale.shape[1] == -(-x.shape[1] // 32) else 16)
    y = np.empty((x.shape[0], q.shape[0]), dtype)
    for t, row in enumerate(x):
        groups = row_codes(row, size, **options)
        for n in range(q.shape[0]):
            y[t, n] = finish(list(terms(groups, size, q[n], scale[n], minimum[n], unit)))
    return y


def bits(x, q, scale, minimum):
    """The result."""
    return {"y": each(x, q, scale, minimum)}


def _real(parts):
    return math.fsum(s * (scale * both + minimum * alone) for s, scale, minimum, both, alone in parts)


def _bound(parts):
    count = 2 * -(-len(parts) // 16) + 1 + 4  # fmas of a lane, the product of the scales, the tree
    size = math.fsum(s * (scale * abs(both) + abs(minimum * alone)) for s, scale, minimum, both, alone in parts)
    return gamma(count) * size + 128 * 127 * 64 * TINY * len(parts)


def reference(x, q, scale, minimum):
    """{name: (binary64 value, bound)} of the sums over units with the codes of x as they are."""
    return {"y": tuple(each(x, q, scale, minimum, finish, dtype=float) for finish in (_real, _bound))}


def _plain_scales(parts):
    lanes = [0.0] * 16
    for u, (s, scale, minimum, both, alone) in enumerate(parts):  # (sum * scale) * s, each rounded
        lanes[u % 16] = float(np.float32(lanes[u % 16]) + np.float32(product(product(float(both), scale), s)))
        lanes[u % 16] = float(np.float32(lanes[u % 16]) + np.float32(product(product(float(alone), minimum), s)))
    return np.float32(tree(lanes))


def _without_minima(parts):
    return rounded([(s, scale, 0.0, both, alone) for s, scale, _, both, alone in parts])


def _unquantised_sums(x, q, scale, minimum):
    y, unit = each(x, q, scale, minimum, _without_minima).astype(float), 32
    unit = 32 if scale.shape[1] == -(-x.shape[1] // 32) else 16
    for t, n, u in np.ndindex(*y.shape, scale.shape[1]):
        y[t, n] += minimum[n, u] * x[t, u * unit : u * unit + unit].astype(float).sum()
    return {"y": y.astype(np.float32)}


def _batch_scale(x, q, scale, minimum):
    top = np.abs(x).max(axis=0)
    groups = [max(float(top[k // 32 * 32 : k // 32 * 32 + 32].max()), 1e-30) for k in range(0, x.shape[1], 32)]
    y = np.empty((x.shape[0], q.shape[0]))
    for t, n in np.ndindex(y.shape):
        p = [(g / 127, [round(float(v) * 127 / g) for v in x[t, i * 32 : i * 32 + 32]]) for i, g in enumerate(groups)]
        y[t, n] = _real(list(terms(p, 32, q[n], scale[n], minimum[n], 32)))
    return {"y": y.astype(np.float32)}


def _hidden(x, q, scale, minimum):
    return bits(np.nan_to_num(x, nan=0.0, posinf=1.0, neginf=-1.0), q, scale, minimum)


def _halves_exchanged(parts):
    swapped = [(s, parts[min(u ^ 1, len(parts) - 1)][1], *rest) for u, (s, _, *rest) in enumerate(parts)]
    return rounded(swapped)


def _last_unit_dropped(parts):
    return rounded(parts[:-1])


def _mutant(**changed):
    return lambda x, q, scale, minimum: {"y": each(x, q, scale, minimum, **changed)}


MUTANTS = {
    "whole_row": _mutant(size=1 << 20),
    "groups_of_64": _mutant(size=64),
    "groups_of_16": _mutant(size=16),
    "scale_of_batch": _batch_scale,
    "ties_away": _mutant(integer=lambda v: int(math.copysign(math.floor(abs(v) + 0.5), v))),
    "half_up": _mutant(integer=lambda v: math.floor(v + 0.5)),
    "truncated": _mutant(integer=math.trunc),
    "divided": _mutant(divide=True),
    "top_is_the_first": _mutant(top=lambda sizes: next(iter(sizes))),
    "serial": _mutant(finish=lambda parts: rounded(parts, 1)),
    "eight_lanes": _mutant(finish=lambda parts: rounded(parts, 8)),
    "scaled_twice": _mutant(finish=_plain_scales),
    "no_minima": _mutant(finish=_without_minima),
    "sums_of_x": _unquantised_sums,
    "nan_hidden": _hidden,
    "halves_exchanged": _mutant(finish=_halves_exchanged),
    "last_unit_dropped": _mutant(finish=_last_unit_dropped),
}
ORDER = {"serial", "eight_lanes", "scaled_twice"}  # within the bound: only the bits tell
