"""linear_bias: the one reduction in rationals, then one addition."""

import numpy as np

from tests.oracles.arithmetic import TINY, U, dot, dot_bound, dots, exact_dots


def bits(x, w, b):
    """The result."""
    return {"y": dots(x, w) + b}


def reference(x, w, b):
    """{name: (binary64 value, bound)}: the bound of the product, and one rounding of the sum."""
    y, bound = exact_dots(x, w) + b.astype(float), dot_bound(x, w)
    return {"y": (y, bound + U * (np.abs(y) + bound) + TINY)}


def _bias_first(x, w, b):
    one = np.ones(1, np.float32)
    y = [[dot(np.concatenate([one * b[n], w[n]]), np.concatenate([one, row])) for n in range(len(b))] for row in x]
    return {"y": np.array(y, np.float32)}


def _tail_dropped(x, w, b):
    whole = x.shape[1] // 16 * 16
    return bits(x[:, :whole], w[:, :whole], b)


MUTANTS = {
    "W02": lambda x, w, b: {"y": dots(x, w)},
    "bias_first": _bias_first,
    "tail_dropped": _tail_dropped,
}
ORDER = {"bias_first"}
