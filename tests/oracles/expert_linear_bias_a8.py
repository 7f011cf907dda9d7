"""expert_linear_bias_a8: one choice after the other, as linear_bias_a8."""

import numpy as np

from tests.oracles import linear_bias_a8


def _each(function, x, ids, q, scale, minimum, b, dtype=np.float32):
    y = np.empty((*ids.shape, q.shape[1]), dtype)
    for t, j in np.ndindex(ids.shape):
        expert, row = ids[t, j], x[t] if x.ndim == 2 else x[t, j]
        y[t, j] = function(row[None], q[expert], scale[expert], minimum[expert], b[expert])[0]
    return y


def bits(x, ids, q, scale, minimum, b):
    """The result."""
    return {"y": _each(lambda *a: linear_bias_a8.bits(*a)["y"], x, ids, q, scale, minimum, b)}


def reference(x, ids, q, scale, minimum, b):
    """{name: (binary64 value, bound)}."""
    arrays = (x, ids, q, scale, minimum, b)
    return {"y": tuple(_each(lambda *a, i=i: linear_bias_a8.reference(*a)["y"][i], *arrays, float) for i in (0, 1))}


def _other(name):
    one = linear_bias_a8.MUTANTS[name]
    return lambda x, ids, q, scale, minimum, b: {
        "y": _each(lambda *a: one(*a)["y"], x, ids, q, scale, minimum, b)}  # fmt: skip


MUTANTS = {
    "E08": lambda x, ids, q, scale, minimum, b: bits(x, (ids + 1) % len(q), q, scale, minimum, b),
    "bias_first": _other("bias_first"),
    "bias_of_next": lambda x, ids, q, scale, minimum, b: bits(x, ids, q, scale, minimum, np.roll(b, 1, axis=0)),
    "first_row_for_all": lambda x, ids, q, scale, minimum, b: bits(x[:, 0], ids, q, scale, minimum, b),
}
ORDER = {"bias_first"}
