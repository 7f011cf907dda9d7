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
codes       codes(weight) -> q, scale and minimum for linear_a8 (clause activation_codes), as section Codes of the
            docstring defines them, or None if its settings do not fit. With it, product_codes(weight): the work item
            for codes, or 0
whole       suffixes of tensors that belong to the matrix as a whole; the others hold its rows one after the other
decode_rows decode_rows(weight, rows i64[n]) -> those rows of W_eff, if some other tensor does not
in_rows     in_rows(weight, in_place) -> the same matrix as a weight of another format, whose products are faster, in as
            many bytes: in new memory, or in the same; or the weight as it is. Products are those of that format
check       check(weight) -> None or (suffix, problem): stored numbers that the kernels must not see
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.numerics.activation_codes import Codes, products
from refmoe.numerics.reduce import dots
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


def decode_rows(weight: Weight, rows: np.ndarray) -> np.ndarray:
    """Rows i64[n] of W_eff, f32[n, cols]; only they are decoded."""
    module = get(weight.format)
    with np.errstate(all="ignore"):
        if hasattr(module, "decode_rows"):
            return module.decode_rows(weight, rows)
        whole = getattr(module, "whole", ())
        picked = {suffix: part if suffix in whole else part.reshape(weight.rows, -1)[rows].reshape(-1)
                  for suffix, part in weight.parts.items()}  # fmt: skip
        return module.decode(Weight(weight.format, rows.shape[0], weight.cols, picked, weight.params))


def check(weight: Weight) -> tuple[str, str] | None:
    """What is wrong with the numbers of a stored matrix: the suffix of the tensor and one line, or None."""
    module = get(weight.format)
    return module.check(weight) if hasattr(module, "check") else None


def in_rows(weight: Weight, in_place: bool = False) -> Weight:
    """A stored matrix as its products want it, in new memory or in that of its parts."""
    module = get(weight.format)
    found: Weight = module.in_rows(weight, in_place) if jit.ENABLED and hasattr(module, "in_rows") else weight
    return found


def codes(weight: Weight) -> Codes | None:
    """Integer codes of a stored matrix, or None."""
    module = get(weight.format)
    found: Codes | None = module.codes(weight) if hasattr(module, "codes") else None
    return found


def plain_a8(weight: Weight) -> Callable[[np.ndarray], np.ndarray]:
    """Call x f32[T,K] -> f32[T,N]: linear_a8 with one matrix, through plain kernels."""
    found = codes(weight)
    w = decode(weight) if found is None else None

    def call(x: np.ndarray) -> np.ndarray:
        y = np.empty((x.shape[0], weight.rows), np.float32)
        if found is None:
            dots(x, w, y)
        else:
            products(x, *found, y)
        return y

    return call


class Operands(NamedTuple):
    """Stored matrices as kernels.matmul takes them; `weights` owns the memory that the descriptors point into."""

    descriptors: np.ndarray  # i64[M,S,16] (kernels.matrix)
    rows: np.ndarray  # i64[M]
    weights: list[list[Weight]]
    plain: bool = True  # some matrices are multiplied with x as it is,
    coded: bool = False  # some with codes of x


def operands(kinds: list[list[Weight]], int8: bool = False) -> Operands:
    """Operands of kernels.matmul for kinds[m][s]; formats may differ. FormatError if shapes within a kind do.

    With int8, matrices that offer integer codes are multiplied as clause linear_a8 says.
    """
    for weights in kinds:
        for weight in weights:
            if (weight.rows, weight.cols) != (weights[0].rows, kinds[0][0].cols):
                raise FormatError(f"matrices used together: expected [{weights[0].rows}, {kinds[0][0].cols}], found "
                                  f"{weight.format} [{weight.rows}, {weight.cols}]")
    kinds = [[in_rows(weight) for weight in weights] for weights in kinds]
    coded = [[_coded(weight) if int8 else 0 for weight in weights] for weights in kinds]
    table = np.array([[_descriptor(weight, 0, item) for weight, item in zip(weights, items, strict=True)]
                      for weights, items in zip(kinds, coded, strict=True)], np.int64)
    rows, flat = np.array([weights[0].rows for weights in kinds], np.int64), [item for items in coded for item in items]
    return Operands(table, rows, kinds, plain=0 in flat, coded=any(flat))


def row_blocks(weight: Weight, firsts: list[int], rows: int) -> Operands:
    """Operands of one kind whose matrices are blocks of `rows` rows of one weight, from each of `firsts` on."""
    if any(not 0 <= first <= weight.rows - rows for first in firsts):
        raise FormatError(f"row blocks: expected first rows from 0 to {weight.rows - rows}, found {firsts}")
    weight = in_rows(weight)
    table = np.array([[_descriptor(weight, first) for first in firsts]], np.int64)
    return Operands(table, np.array([rows], np.int64), [[weight]])


def _coded(weight: Weight) -> int:
    """The work item for codes, or 0."""
    module = get(weight.format)
    return int(module.product_codes(weight)) if hasattr(module, "product_codes") else 0


def _descriptor(weight: Weight, first: int, item: int = 0) -> np.ndarray:
    """The sixteen words of kernels.matrix: the format's own, end of its first part, first row, compiled work item."""
    module = get(weight.format)
    words = np.zeros(16, np.int64)
    own = module.descriptor(weight)
    words[: len(own)] = own
    part = weight.parts[module.suffixes[0]]
    words[13:] = part.ctypes.data + part.nbytes, first, item or module.product()
    return words
