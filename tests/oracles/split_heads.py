"""split_heads: NumPy slices."""

import numpy as np


def bits(x, left, right, heads):
    """The result."""
    cut = x.reshape(len(x), heads, left + right)
    return {"a": cut[:, :, :left].reshape(len(x), -1), "b": cut[:, :, left:].reshape(len(x), -1)}


def _exchanged(x, left, right, heads):
    cut = x.reshape(len(x), heads, left + right)
    return {"a": cut[:, :, right:].reshape(len(x), -1), "b": cut[:, :, :right].reshape(len(x), -1)}


MUTANTS = {
    "two_halves": lambda x, left, right, heads: {"a": x[:, : heads * left], "b": x[:, heads * left :]},
    "exchanged": _exchanged,
    "computed": lambda **inputs: {name: np.nan_to_num(y, neginf=-1e30) for name, y in bits(**inputs).items()},
}
