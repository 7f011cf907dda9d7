"""argmax: sort by value and id."""

import math

import numpy as np


def bits(logits):
    """The result."""
    best = []
    for row in logits:
        pairs = [(-float(v), i) for i, v in enumerate(row) if not math.isnan(v)]
        best.append(min(pairs)[1] if pairs else 0)
    return {"ids": np.array(best, np.int64)}


def _order(row):
    """Integers in the order of the bit patterns, so that +0 lies above -0."""
    pattern = row.view(np.int32).astype(np.int64)
    return np.where(pattern < 0, -(pattern & 0x7FFFFFFF) - 1, pattern)


def _from_zero(logits):
    best = [max([(float(v), -i) for i, v in enumerate(row) if v > 0] or [(0.0, 1)])[1] for row in logits]
    return {"ids": np.array([-i for i in best], np.int64)}


MUTANTS = {
    "higher_id": lambda logits: {"ids": logits.shape[1] - 1 - bits(logits[:, ::-1])["ids"]},
    "nan_wins": lambda logits: {"ids": np.argmax(logits, axis=1).astype(np.int64)},
    "plus_zero_above_minus_zero": lambda logits: {"ids": np.array([np.argmax(_order(row)) for row in logits])},
    "maximum_starts_at_zero": _from_zero,
}
