"""distance - are two results equal in every bit, and how far do they lie apart? No bound depends on it."""

import math

import numpy as np

from refmoe.kernels.apart import Apart, apart
from refmoe.verifier.verdict import BINS


def between(found: np.ndarray, expected: np.ndarray) -> Apart:
    """How far two results lie apart in binary32, row by row; leading axes are rows."""
    rows = (math.prod(expected.shape[:-1]), -1) if expected.size else (1, 0)
    return apart(*(np.ascontiguousarray(array, np.float32).reshape(rows) for array in (found, expected)))


def histogram(found: Apart) -> dict[str, int]:
    """How many elements lie how many units in the last place of binary32 apart."""
    return {name: int(n) for name, n in zip(BINS, found.counts, strict=True) if n}
