"""linear_bias_a8: the oracle of linear_a8 and one more sum."""

import numpy as np

from tests.oracles import linear_a8
from tests.oracles.arithmetic import U

TINY_UNIT = 2.0**-149


def bits(x, q, scale, minimum, b):
    """The result."""
    return {"y": linear_a8.each(x, q, scale, minimum) + b}


def reference(x, q, scale, minimum, b):
    """{name: (binary64 value, bound)}."""
    value, bound = linear_a8.reference(x, q, scale, minimum)["y"]
    value = value + b.astype(float)
    return {"y": (value, bound + U * (np.abs(value) + bound) + TINY_UNIT)}


def _begun(parts, b):
    """The lanes begin with the bias in the first one."""
    first = [(1.0, float(b), 0.0, 1, 0)]
    lanes = linear_a8.rounded(first + [(0.0, 0.0, 0.0, 0, 0)] * 15 + parts)
    return lanes


def _bias_first(x, q, scale, minimum, b):
    columns = [linear_a8.each(x, q[n : n + 1], scale[n : n + 1], minimum[n : n + 1],
                              lambda parts, n=n: _begun(parts, b[n])) for n in range(len(b))]  # fmt: skip
    return {"y": np.concatenate(columns, axis=1)}


def _last_unit_dropped(x, q, scale, minimum, b):
    return {"y": linear_a8.MUTANTS["last_unit_dropped"](x, q, scale, minimum)["y"] + b}


MUTANTS = {
    "bias_first": _bias_first,
    "no_bias": lambda x, q, scale, minimum, b: {"y": linear_a8.each(x, q, scale, minimum)},
    "last_unit_dropped": _last_unit_dropped,
}
ORDER = {"bias_first"}
