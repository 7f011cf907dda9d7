"""Stacks: one stored tensor that holds a matrix of every expert, seen as one tensor for each expert.

A program names the matrix of expert e `STEM[e]`. Behind a format's suffix the stored tensor is [E, ...], a format's
tensor for each expert; under the bare STEM, as transformers writes gpt_oss, it is [E, columns, rows]: the matrices are
transposed. Slice e is called `STEM[e]` + suffix, and `STEM[e].weight` if the name is bare. Headers only, no data.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from refmoe.checkpoint.safetensors import TensorInfo

MAX_SLICES = 10_000  # as many as experts are accepted in a config


@dataclass(frozen=True, slots=True)
class TransposedInfo(TensorInfo):
    """A matrix whose bytes lie [columns, rows]; `shape` is (rows, columns)."""


def base(stem: str) -> str | None:
    """STEM of the slice STEM[e]; None for the stem of a matrix of its own."""
    return stem[: stem.rindex("[")] if stem.endswith("]") else None


def open_stack(tensors: dict[str, TensorInfo], stem: str, suffixes: Iterable[str]) -> TensorInfo | None:
    """Replace what `tensors` has under `stem` and a suffix by slices; returns a stack whose shape cannot be cut."""
    for suffix in suffixes:
        info = tensors.pop(stem + suffix, None)
        if info is None:
            continue
        shape = info.shape
        if len(shape) < 2 or not 1 <= shape[0] <= MAX_SLICES or (len(shape) != 3 and not suffix):
            return info
        kind, inner = (TensorInfo, shape[1:]) if suffix else (TransposedInfo, (shape[2], shape[1]))
        size = info.nbytes // shape[0]
        for e in range(shape[0]):
            name = f"{stem}[{e}]{suffix or '.weight'}"
            tensors[name] = kind(name, info.dtype, inner, info.file, info.offset + e * size, size, info.stamp)
    return None


def in_rows(info: TensorInfo, raw: np.ndarray) -> None:
    """Bring stored bytes of a transposed matrix into rows, in place; one copy of this matrix is made meanwhile."""
    if isinstance(info, TransposedInfo):
        rows, cols = info.shape
        stored = raw.view(f"u{info.nbytes // (rows * cols)}")
        stored.reshape(rows, cols)[:] = stored.reshape(cols, rows).T.copy()
