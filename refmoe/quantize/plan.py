"""plan - what of a checkpoint is encoded, and what is said about it.

Matrices of the layers are encoded, but not routers and gates of shared experts, and with experts_only nothing but the
experts. Everything else is copied as it is stored; a matrix that is neither copied nor encoded (an encoded source,
experts only) is written as bfloat16. Tensors that the program ignores are left out.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from refmoe import checkpoint, formats
from refmoe.checkpoint.claims import Key
from refmoe.checkpoint.matrices import Matrix
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.stacked import in_rows
from refmoe.errors import CheckpointError, UsageError
from refmoe.quantize.encoders import Parts
from refmoe.quantize.targets import TARGETS, Target
from refmoe.weight import Weight

PIECE = 1 << 20
Progress = Callable[[int, int], object]


@dataclass
class Entry:
    """One encoded matrix: relative root mean square error, largest error, bytes before and after."""

    name: str
    role: str
    shape: list[int]
    relative_error: float
    largest_error: float
    before: int
    after: int


@dataclass
class Report:
    """What was written. `kept` and `narrow` map stems to reasons: those that stayed plain although they could have been
    encoded, and those that were encoded as the target's narrow one."""

    target: str
    output: str
    entries: list[Entry] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    narrow: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    before: int = 0
    after: int = 0
    resumed: int = 0

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Item(NamedTuple):
    """One thing to write: `stem` and its place; a matrix with the target to encode it as (None: bytes are copied), or
    a tensor."""

    stem: str
    key: Key
    matrix: Matrix | None
    target: Target | None
    infos: tuple[TensorInfo, ...]

    @property
    def size(self) -> int:
        """Stored bytes of the source: what the output file has at most, about."""
        return sum(info.nbytes for info in self.infos)


def items(claims: checkpoint.Claims, target: Target, experts_only: bool, report: Report) -> list[Item]:
    """Everything to write, in the order of the program; a tensor that two roles share comes once. UsageError if nothing
    is encoded."""
    found, encoded = dict[str, Item](), False
    for key, matrix in claims.matrices.items():
        suffix, first = next(iter(matrix.parts.items()))
        stem, infos = first.name.removesuffix(suffix), tuple(matrix.parts.values())
        if stem in found:
            continue
        stored_plain = suffix == ".weight" and len(infos) == 1 and matrix.format in ("f32", "bf16", "f16")
        used, plain = None, None if stored_plain else TARGETS["bf16"]
        if target.wants(*key, experts_only) and (used := target.fitting(matrix.cols)) is not target:
            problem = f"{matrix.cols} columns, no multiple of {target.multiple}"
            if used:
                report.narrow[stem] = problem
            else:
                report.kept[stem] = problem
        encoded |= used is not None
        found[stem] = Item(stem, key, matrix, used or plain, infos)
    if not encoded:
        some = next(iter(report.kept.values()), "no experts" if experts_only else "no matrices")
        raise UsageError(f"format: {target.name} fits no matrix of this model: {some}")
    for key, info in claims.vectors.items():
        found.setdefault(info.name, Item(info.name, key, None, None, (info,)))
    return list(found.values())


def decoded(item: Item) -> np.ndarray:
    """f32[rows, cols] of an item with a matrix. CheckpointError for weights that are not finite."""
    matrix = item.matrix
    raws = checkpoint.read(list(item.infos))
    for info, raw in zip(item.infos, raws, strict=True):
        in_rows(info, raw)
    stored = dict(zip(matrix.parts, raws, strict=True))  # type: ignore[union-attr]
    w = formats.decode(Weight(matrix.format, matrix.rows, matrix.cols, stored, matrix.params))  # type: ignore[union-attr]
    if not np.isfinite(w).all():
        first = item.infos[0]
        raise CheckpointError(f"{first.file}: {first.name}: expected finite weights, found nan or inf")
    return w


def entry(item: Item, w: np.ndarray, parts: Parts, before: int) -> Entry:
    """How far an encoded matrix is from its source w f32[rows, cols], by the format's own decode."""
    target: Any = item.target
    suffixes = formats.get(target.format).suffixes
    kinds = {suffix: dtype for suffix, (dtype, _) in parts.items()}
    stored = {suffix: np.ascontiguousarray(array).reshape(-1).view(np.uint8) for suffix, (_, array) in parts.items()
              if suffix in (*suffixes, ".weight_zero_point")}  # fmt: skip
    back = formats.decode(Weight(target.format, w.shape[0], w.shape[1], stored, target.params | kinds))
    squares, size, largest = 0.0, 0.0, 0.0
    step = max(1, PIECE // w.shape[1])  # rows at once: binary64 takes room
    for first in range(0, len(w), step):
        source = w[first : first + step].astype(np.float64)
        error = back[first : first + step] - source
        squares, size = squares + float((error**2).sum()), size + float((source**2).sum())
        largest = max(largest, float(abs(error).max()))
    relative = (squares / size) ** 0.5 if size else 0.0
    return Entry(item.stem, item.key[0], list(w.shape), relative, largest, before,
                 sum(array.nbytes for _, array in parts.values()))  # fmt: skip
