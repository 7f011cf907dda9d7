"""expert_linear_a8: one choice after the other, as linear_a8."""

import numpy as np

from tests.oracles import linear_a8


def _each(function, x, ids, q, scale, minimum, dtype=np.float32):
    y = np.empty((*ids.shape, q.shape[1]), dtype)
    for t, j in np.ndindex(ids.shape):
        expert, row = ids[t, j], x[t] if x.ndim == 2 else x[t, j]
        y[t, j] = function(row[None], q[expert], scale[expert], minimum[expert])[0]
    return y


def bits(x, ids, q, scale, minimum):
    """The result."""
    return {"y": _each(linear_a8.each, x, ids, q, scale, minimum)}


def reference(x, ids, q, scale, minimum):
    """{name: (binary64 value, bound)}: as linear_a8."""
    parts = [_each(lambda *a, i=i: linear_a8.reference(*a)["y"][i], x, ids, q, scale, minimum, float) for i in (0, 1)]
    return {"y": tuple(parts)}


def _serial_after_first(x, ids, q, scale, minimum):
    """Rows of an expert beyond its first are summed in another order."""
    y, seen = bits(x, ids, q, scale, minimum)["y"], set()
    for t, j in np.ndindex(ids.shape):
        expert, row = int(ids[t, j]), x[t] if x.ndim == 2 else x[t, j]
        if expert in seen:
            codes = q[expert], scale[expert], minimum[expert]
            y[t, j] = linear_a8.each(row[None], *codes, finish=lambda parts: linear_a8.rounded(parts, 1))[0]
        seen.add(expert)
    return {"y": y}


def _other(name):
    one = linear_a8.MUTANTS[name]
    return lambda x, ids, q, scale, minimum: {"y": _each(lambda *row: one(*row)["y"], x, ids, q, scale, minimum)}


MUTANTS = {
    "E08": lambda x, ids, q, scale, minimum: bits(x, (ids + 1) % len(q), q, scale, minimum),
    "scales_of_next": lambda x, ids, q, scale, minimum: bits(x, ids, q, np.roll(scale, 1, axis=0), minimum),
    "minima_of_next": lambda x, ids, q, scale, minimum: bits(x, ids, q, scale, np.roll(minimum, 1, axis=0)),
    "first_row_for_all": lambda x, ids, q, scale, minimum: bits(x[:, 0], ids, q, scale, minimum),
    "serial_after_first": _serial_after_first,
    "no_minima": _other("no_minima"),
    "halves_exchanged": _other("halves_exchanged"),
    "eight_lanes": _other("eight_lanes"),
}
ORDER = {"serial_after_first", "eight_lanes"}
