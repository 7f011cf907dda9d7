"""expert_linear_bias: one choice after the other, the rational reduction, then one addition."""

import numpy as np

from tests.oracles import expert_linear, linear_bias
from tests.oracles.arithmetic import TINY, U


def _biases(ids, b):
    return np.array([[b[expert] for expert in row] for row in ids.tolist()], b.dtype).reshape(*ids.shape, b.shape[1])


def bits(x, ids, w, b):
    """The result."""
    return {"y": expert_linear.bits(x, ids, w)["y"] + _biases(ids, b)}


def reference(x, ids, w, b):
    """{name: (binary64 value, bound)}: the bound of the product, and one rounding of the sum."""
    y, bound = expert_linear.reference(x, ids, w)["y"]
    y = y + _biases(ids, b).astype(float)
    return {"y": (y, bound + U * (np.abs(y) + bound) + TINY)}


def _bias_first(x, ids, w, b):
    """The bias starts the sum."""
    y = np.empty((*ids.shape, b.shape[1]), np.float32)
    for t, j, expert, row in expert_linear._rows(x, ids):
        y[t, j] = linear_bias._bias_first(row, w[expert], b[expert])["y"][0]
    return {"y": y}


def _after_the_weight(x, ids, w, b):
    """What stands beside a routing weight of 1/K if the bias is added once for each choice after it."""
    return {"y": expert_linear.bits(x, ids, w)["y"] + _biases(ids, b) * np.float32(ids.shape[1])}


MUTANTS = {
    "E04": _after_the_weight,
    "E05": lambda x, ids, w, b: bits(x, ids, w, np.concatenate([b[:, 0::2], b[:, 1::2]], axis=1)),
    "E08": lambda x, ids, w, b: bits(x, (ids + 1) % w.shape[0], w, b),
    "W02": lambda x, ids, w, b: expert_linear.bits(x, ids, w),
    "bias_first": _bias_first,
    "bias_by_rank": lambda x, ids, w, b: bits(x, ids, w, b[: ids.shape[1]][np.arange(len(b)) % ids.shape[1]]),
    "first_row_for_all": lambda x, ids, w, b: bits(x[:, 0], ids, w, b),
}
ORDER = {"bias_first"}
