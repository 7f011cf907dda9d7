"""embedding: one row after the other, element by element."""

import numpy as np


def bits(ids, w):
    """The result."""
    return {"y": np.array([[w[int(i)][h] for h in range(w.shape[1])] for i in ids], np.float32)}


def _by_distinct_id(ids, w):
    rows = {int(i): n for n, i in enumerate(np.unique(ids))}
    return {"y": np.stack([w[rows[int(i)]] for i in ids])}


MUTANTS = {
    "one_based": lambda ids, w: {"y": w[np.maximum(ids - 1, 0)]},
    "scaled": lambda ids, w: {"y": w[ids] * np.float32(w.shape[1] ** 0.5)},
    "position_in_sorted_ids": _by_distinct_id,
}
