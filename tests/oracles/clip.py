"""clip: one Python comparison after the other."""

import math

import numpy as np


def _one(x, limit):
    if math.isnan(x):
        return x
    return math.copysign(limit, x) if abs(x) > limit else x


def bits(x, limit):
    """The result."""
    return {"y": np.array([[_one(float(v), limit) for v in row] for row in x], np.float32).reshape(x.shape)}


def _scaled(x, limit):
    """Each row brought down to the limit as a whole."""
    top = np.nanmax(np.abs(x), axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        return {"y": np.where(top > limit, x * (np.float32(limit) / top), x).astype(np.float32)}


MUTANTS = {
    "not_clipped": lambda x, limit: {"y": x},
    "only_from_above": lambda x, limit: {"y": np.minimum(x, np.float32(limit))},
    "row_scaled": _scaled,
    "nan_clipped": lambda x, limit: {"y": np.fmax(np.fmin(x, np.float32(limit)), np.float32(-limit))},
    "limit_squared": lambda x, limit: bits(x, limit * limit),
}
