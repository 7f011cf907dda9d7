"""combine: a chain of rational fused multiply-adds in rank order."""

import math

import numpy as np

from tests.oracles.arithmetic import TINY, fma, gamma


def _chain(x, weights, order):
    y = np.empty((x.shape[0], x.shape[2]), np.float32)
    for t, h in np.ndindex(y.shape):
        acc = 0.0
        for j in order:
            acc = fma(float(weights[t, j]), float(x[t, j, h]), acc)
        y[t, h] = acc
    return {"y": y}


def bits(x, weights):
    """The result."""
    return _chain(x, weights, range(x.shape[1]))


def reference(x, weights):
    """{name: (binary64 value, bound)}: K roundings, gamma(K) sum |w||x|."""
    products = weights.astype(float)[:, :, None] * x
    y = np.array([[math.fsum(products[t, :, h]) for h in range(x.shape[2])] for t in range(x.shape[0])])
    return {"y": (y, gamma(x.shape[1]) * np.abs(products).sum(axis=1) + x.shape[1] * TINY)}


def _unfused(x, weights):
    y = np.zeros((x.shape[0], x.shape[2]), np.float32)
    for j in range(x.shape[1]):
        y += weights[:, j, None] * x[:, j]
    return {"y": y}


def _zero_weight_skipped(x, weights):
    return bits(np.where((weights == 0)[:, :, None], np.float32(0), x), weights)


MUTANTS = {
    "R09": lambda x, weights: bits(x, weights * np.float32(2.5)),
    "R10": lambda x, weights: bits(x, weights / np.float32(2.5)),
    "N04": lambda x, weights: _chain(x, weights, range(x.shape[1] - 1, -1, -1)),
    "unfused": _unfused,
    "weights_twice": lambda x, weights: bits(x, weights * weights),
    "mean": lambda x, weights: bits(x, np.full_like(weights, 1 / weights.shape[1])),
    "zero_weight_skipped": _zero_weight_skipped,
}
ORDER = {"N04", "unfused"}
