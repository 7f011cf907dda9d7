"""Weight formats, one module each: the suffixes it owns, the stored shapes, and `decode`, which is the clause.

A format defines one exact matrix W_eff f32[rows, cols]; every matrix product of the engine is defined on W_eff.

A module has: `suffixes` of the stored tensors behind the stem and their `dtypes` ("F32|BF16": one of them);
`stored_shapes(rows, cols)`; `decode(weight)`; and for the fast schedules `descriptor(weight)`, the first words of a
descriptor (kernels.matrix), and `product`, the work item of kernels.matmul made of the format's `stream` and `vector`
(only with the JIT on). It may have:

params      names of the numbers it reads from the quantization config, all mandatory; stored_shapes takes them too
extras      {suffix: dtypes} of tensors that only some settings need; stored_shapes tells which. Of a list of shapes
            any one will do, and None among them means that the tensor may be absent
unused      {suffix: reason} of tensors that belong to it and are not read when stored_shapes does not name them
check       check(weight) -> None or (suffix, problem): stored numbers that the kernels must not see
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
    with np.errstate(all="ignore"):  # inf and nan are results
        return get(weight.format).decode(weight)


def check(weight: Weight) -> tuple[str, str] | None:
    """What is wrong with the numbers of a stored matrix: the suffix of the tensor and one line, or None."""
    module = get(weight.format)
    return module.check(weight) if hasattr(module, "check") else None


class Operands(NamedTuple):
    """Stored matrices as kernels.matmul takes them; `weights` owns the memory that the descriptors point into."""

    descriptors: np.ndarray  # i64[M,S,16] (kernels.matrix)
    rows: np.ndarray  # i64[M]
    weights: list[list[Weight]]


def operands(kinds: list[list[Weight]]) -> Operands:
    """Operands of kernels.matmul for kinds[m][s]; formats may differ. FormatError if shapes within a kind do."""
    for weights in kinds:
        for weight in weights:
            if (weight.rows, weight.cols) != (weights[0].rows, kinds[0][0].cols):
                raise FormatError(f"matrices used together: expected [{weights[0].rows}, {kinds[0][0].cols}], found "
                                  f"{weight.format} [{weight.rows}, {weight.cols}]")
    table = np.array([[_descriptor(weight, 0) for weight in weights] for weights in kinds], np.int64)
    return Operands(table, np.array([weights[0].rows for weights in kinds], np.int64), kinds)


def row_blocks(weight: Weight, firsts: list[int], rows: int) -> Operands:
    """Operands of one kind whose matrices are blocks of `rows` rows of one weight, from each of `firsts` on."""
    if any(not 0 <= first <= weight.rows - rows for first in firsts):
        raise FormatError(f"row blocks: expected first rows from 0 to {weight.rows - rows}, found {firsts}")
    table = np.array([[_descriptor(weight, first) for first in firsts]], np.int64)
    return Operands(table, np.array([rows], np.int64), [[weight]])


def _descriptor(weight: Weight, first: int) -> np.ndarray:
    """The sixteen words of kernels.matrix: the format's own, the first row, the compiled work item."""
    module = get(weight.format)
    words = np.zeros(16, np.int64)
    own = module.descriptor(weight)
    words[: len(own)] = own
    words[14:] = first, module.product()
    return words
