"""Weight formats, one module each: the suffixes it owns, the stored shapes, and `decode`, which is the clause.

A format defines one exact matrix W_eff f32[rows, cols]; every matrix product of the engine is defined on W_eff.
"""

import importlib
import pkgutil
from functools import cache
from typing import NamedTuple

import numpy as np

from refmoe.errors import FormatError
from refmoe.weight import Weight


@cache
def names() -> tuple[str, ...]:
    """All formats, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def get(name: str):
    """The module of a format. FormatError for an unknown name."""
    if name not in names():
        raise FormatError(f"weight format: expected one of {', '.join(names())}, found {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols] of a stored matrix."""
    return get(weight.format).decode(weight)


class Operands(NamedTuple):
    """Stored matrices as kernels.matmul takes them; `weights` owns the memory that the addresses point into."""

    tag: np.ndarray  # element type (numerics.vec)
    addresses: np.ndarray  # i64[M,S]
    rows: np.ndarray  # i64[M]
    weights: list[list[Weight]]


def operands(kinds: list[list[Weight]]) -> Operands:
    """Operands of kernels.matmul for kinds[m][s]. FormatError if the formats differ, or the shapes within a kind."""
    for weights in kinds:
        for weight in weights:
            first = Weight(kinds[0][0].format, weights[0].rows, kinds[0][0].cols, {})
            if (weight.format, weight.rows, weight.cols) != (first.format, first.rows, first.cols):
                raise FormatError(f"matrices used together: expected format {first.format} "
                                  f"[{first.rows}, {first.cols}], found {weight.format} [{weight.rows}, {weight.cols}]")
    module = get(kinds[0][0].format)
    addresses = np.array([[module.address(weight) for weight in weights] for weights in kinds], np.int64)
    return Operands(module.TAG, addresses, np.array([weights[0].rows for weights in kinds], np.int64), kinds)
