"""The .gguf file or files of a model: which ones, all parts of a split model, one set of metadata and tensors.

A split model is name-00001-of-0000N.gguf and so on; any part stands for all. Part i has split.no = i - 1 and
split.count = N; the first one has the metadata, the others repeat at most what the first one says.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refmoe.checkpoint.gguf import Gguf, Value, read_header
from refmoe.checkpoint.reading import read
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.strict_json import show, some
from refmoe.errors import CheckpointError, FormatError

SUFFIX = ".gguf"
_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)
MAX_PARTS = 10_000


@dataclass(frozen=True)
class GgufModel:
    """All parts together; `tensors` have the names of the file, `files` maps file names to sizes."""

    path: Path
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]
    files: dict[str, int]

    def numbers(self, name: str) -> np.ndarray:
        """The values of a tensor in F32."""
        return read([self.tensors[name]])[0].view("<f4")


def choose(directory: Path, names: Iterable[str]) -> Path:
    """The .gguf file of a directory that has one model in this form, by its first part."""
    models: dict[object, str] = {}
    names = sorted(names)
    for name in [name for name in names if not name.startswith("mmproj")] or names:  # that is the part for images
        part = _PART.fullmatch(name)
        models.setdefault((part[1], part[3]) if part else name, name)
    if len(models) > 1:
        found = some(models.values())
        raise FormatError(f"{show(directory)}: holds {len(models)} GGUF models, give one of them: {found}")
    return directory / next(iter(models.values()))


def open_files(path: Path) -> GgufModel:
    """Read and check the headers of all parts."""
    paths = _parts(path)
    parts = [read_header(part) for part in paths]
    first = parts[0]
    metadata = {key: value for key, value in first.metadata.items() if not key.startswith("split.")}
    tensors: dict[str, TensorInfo] = {}
    for number, part in enumerate(parts):
        _check_part(part, number, len(parts), first)
        for name, info in part.tensors.items():
            if name in tensors:
                files = f"{show(tensors[name].file.name)} and {show(part.file.name)}"
                raise CheckpointError(f"{show(path)}: tensor {show(name)} is in two files, {files}")
            tensors[name] = info
    stated = first.metadata.get("split.tensors.count", len(tensors))
    if stated != len(tensors):
        raise CheckpointError(
            f"{show(first.file)}: split.tensors.count is {show(stated)}, the parts have {len(tensors)} tensors"
        )
    return GgufModel(first.file, metadata, tensors, {part.file.name: part.size for part in parts})


def _parts(path: Path) -> list[Path]:
    part = _PART.fullmatch(path.name)
    if not part:
        return [path]
    count = int(part[3])
    if not 1 <= int(part[2]) <= count <= MAX_PARTS:
        raise CheckpointError(f"{show(path)}: part {int(part[2])} of {count} parts")
    paths = [path.with_name(f"{part[1]}-{n:05}-of-{part[3]}{SUFFIX}") for n in range(1, count + 1)]
    if missing := [other.name for other in paths if not os.path.lexists(other)]:
        raise CheckpointError(f"{show(path)}: a part of a split model; missing beside it: {some(missing)}")
    return paths


def _check_part(part: Gguf, number: int, count: int, first: Gguf) -> None:
    for key, wanted in (("split.no", number), ("split.count", count)):
        found = part.metadata.get(key, wanted if count == 1 else None)
        if found != wanted and (key, found) != ("split.count", 0):
            where = "by its name" if count > 1 else "because its name is not that of a part"
            raise CheckpointError(f"{show(part.file)}: {key} must be {wanted} {where}, found {show(found)}")
    for key, value in part.metadata.items():
        if not key.startswith("split.") and not _same(value, first.metadata.get(key)):
            raise CheckpointError(f"{show(part.file)}: key {show(key)} differs from that in {show(first.file.name)}")


def _same(value: Value, other: Value | None) -> bool:
    return type(value) is type(other) and bool(np.array_equal(value, other))  # type: ignore[arg-type]
