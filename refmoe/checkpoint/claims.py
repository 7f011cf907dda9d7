"""Claims: every tensor of a checkpoint is used by the program, ignored with a written reason, or an error.

For a matrix the format is taken whose suffixes are all there behind the stem; the format with more suffixes wins, so
that a quantised weight beside its scales is never mistaken for a plain one. Headers only, no tensor data.
"""

import fnmatch
import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import refmoe.formats
from refmoe.checkpoint.directory import Checkpoint
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.strict_json import show, some
from refmoe.errors import CheckpointError

if TYPE_CHECKING:
    from refmoe.program import Program

VECTOR_DTYPES = ("F32", "BF16", "F16")
ENOUGH = 1000  # problems after which a program and a checkpoint are not compared further
Key = tuple[str, int | None, int | None]  # role, layer, expert
Copies = dict[str, tuple[TensorInfo, TensorInfo]]  # name -> (the tensor, the one it repeats)


class Matrix(NamedTuple):
    """A matrix of `rows` x `cols` that lies in `parts` (suffix -> tensor) in the encoding of module `format`."""

    format: str
    parts: dict[str, TensorInfo]
    rows: int
    cols: int


@dataclass(frozen=True)
class Claims:
    """What each (role, layer, expert) of a program is stored as; `ignored` maps tensor names to reasons.

    `copies` maps names of tensors that only repeat another one to (the tensor, the other); they are also in `ignored`.
    `nbytes` gives stored bytes by class: one entry per matrix format in use, "vector", and "ignored".
    """

    checkpoint: Checkpoint
    matrices: dict[Key, Matrix]
    vectors: dict[Key, TensorInfo]
    copies: Copies
    ignored: dict[str, str]
    nbytes: dict[str, int]


@dataclass
class _Search:
    """The tensors of a checkpoint while they are claimed, and what went wrong so far."""

    tensors: dict[str, TensorInfo]
    used: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def matrix(self, stem: str, rows: int, cols: int) -> Matrix | None:
        whole = [f for f in formats() if all(stem + suffix in self.tensors for suffix in f.suffixes)]
        if not whole:
            self.missing.append(stem + formats()[-1].suffixes[0])
            return None
        rivals = [f for f in whole if len(f.suffixes) == len(whole[0].suffixes)]
        names = [stem + suffix for suffix in rivals[0].suffixes]
        self.used.update(names)
        for module in rivals:
            parts = {suffix: self.tensors[stem + suffix] for suffix in module.suffixes}
            if tuple(info.dtype for info in parts.values()) == module.dtypes:
                break
        else:
            found = "+".join(self.tensors[name].dtype for name in names)
            known = ", ".join("+".join(f.dtypes) for f in rivals)
            self._misfit(self.tensors[names[0]], f"dtype {found}, supported for a matrix: {known}")
            return None
        for suffix, shape in module.stored_shapes(rows, cols).items():
            if parts[suffix].shape != tuple(shape):
                found = f"shape {show(list(parts[suffix].shape))}"
                self._misfit(parts[suffix], f"{found}, the config asks for {list(shape)}")
                return None
        return Matrix(module.__name__.rpartition(".")[2], parts, rows, cols)

    def vector(self, name: str, shape: tuple[int, ...]) -> TensorInfo | None:
        info = self.tensors.get(name)
        if info is None:
            self.missing.append(name)
            return None
        self.used.add(name)
        if info.dtype not in VECTOR_DTYPES:
            self._misfit(info, f"dtype {info.dtype}, supported for a vector: {', '.join(VECTOR_DTYPES)}")
            return None
        if info.shape != tuple(shape):
            self._misfit(info, f"shape {show(list(info.shape))}, the config asks for {list(shape)}")
            return None
        return info

    def _misfit(self, info: TensorInfo, problem: str) -> None:
        self.misfits.append(f"{info.name} in {info.file.name} has {problem}")


@cache
def formats() -> tuple[ModuleType, ...]:
    """The modules of refmoe.formats, most suffixes first."""
    names = sorted(module.name for module in pkgutil.iter_modules(refmoe.formats.__path__))
    modules = [importlib.import_module(f"refmoe.formats.{name}") for name in names]
    return tuple(sorted(modules, key=lambda module: -len(module.suffixes)))


def claim(checkpoint: Checkpoint, program: "Program") -> Claims:
    """Find the stored tensors of everything `program` expects. CheckpointError lists what is missing or misfits."""
    search = _Search(checkpoint.tensors)
    matrices: dict[Key, Matrix] = {}
    vectors: dict[Key, TensorInfo] = {}
    stems: dict[str, Matrix] = {}
    for role, layer, expert, tensor, shape in program.expected():
        if len(search.missing) + len(search.misfits) >= ENOUGH:
            break
        if tensor.kind == "matrix":
            if matrix := search.matrix(tensor.name, *shape):
                matrices[role, layer, expert] = stems[tensor.name] = matrix
        elif info := search.vector(tensor.name, shape):
            vectors[role, layer, expert] = info
    copies = _copies(search, stems, program)
    ignored, unknown = _leftovers(search, copies, program)
    _report(checkpoint, search, unknown)
    return Claims(checkpoint, matrices, vectors, copies, ignored, _sizes(checkpoint, matrices, vectors, ignored))


def _copies(search: _Search, stems: dict[str, Matrix], program: "Program") -> Copies:
    """Stored tensors that only repeat a claimed one, such as a tied head that is stored nevertheless."""
    copies: Copies = {}
    for stem, original in program.copies:
        for suffix, first in stems[original].parts.items() if original in stems else ():
            info = search.tensors.get(stem + suffix)
            if info is None:
                continue
            if (info.dtype, info.shape) == (first.dtype, first.shape):
                copies[info.name] = (info, first)
            else:
                search.used.add(info.name)
                search.misfits.append(f"{info.name} in {info.file.name} must be a copy of {first.name} by the config")
    return copies


def _leftovers(search: _Search, copies: Copies, program: "Program") -> tuple[dict[str, str], list[str]]:
    patterns = [(re.compile(fnmatch.translate(pattern)), reason) for pattern, reason in program.ignored_tensors]
    ignored = {name: f"repeats {first.name}; compared when loaded" for name, (_, first) in copies.items()}
    unknown = []
    for name in search.tensors.keys() - search.used - copies.keys():
        for pattern, reason in patterns:
            if pattern.match(name):
                ignored[name] = reason
                break
        else:
            unknown.append(name)
    return dict(sorted(ignored.items())), sorted(unknown)


def _report(checkpoint: Checkpoint, search: _Search, unknown: list[str]) -> None:
    stopped = len(search.missing) + len(search.misfits) >= ENOUGH
    lists = (("missing", search.missing), ("unfit", search.misfits), ("unknown", [] if stopped else unknown))
    once = [(what, list(dict.fromkeys(names))) for what, names in lists]  # a tied tensor is missed by two roles
    problems = [f"{len(names)} {what} tensors: {some(names)}" for what, names in once if names]
    if problems:
        raise CheckpointError(f"{show(checkpoint.path)}: {'at least ' * stopped}{'; '.join(problems)}")


def _sizes(
    checkpoint: Checkpoint, matrices: dict[Key, Matrix], vectors: dict[Key, TensorInfo], ignored: dict[str, str]
) -> dict[str, int]:
    groups: dict[str, dict[str, int]] = {}
    for matrix in matrices.values():
        for info in matrix.parts.values():
            groups.setdefault(matrix.format, {})[info.name] = info.nbytes
    groups["vector"] = {info.name: info.nbytes for info in vectors.values()}
    groups["ignored"] = {name: checkpoint.tensors[name].nbytes for name in ignored}
    return {group: sum(sizes.values()) for group, sizes in groups.items()}
