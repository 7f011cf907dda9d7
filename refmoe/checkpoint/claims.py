"""Claims: every tensor of a checkpoint is used by the program, ignored with a written reason, or an error.

Of a matrix, checkpoint.matrices finds the stored form. Headers only, no tensor data.
"""

import fnmatch
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refmoe.checkpoint.directory import Checkpoint
from refmoe.checkpoint.matrices import Finder, Matrix
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.strict_json import show, some
from refmoe.errors import CheckpointError

if TYPE_CHECKING:
    from refmoe.program import Program

VECTOR_DTYPES = ("F32", "BF16", "F16")
ENOUGH = 1000  # problems after which a program and a checkpoint are not compared further
Key = tuple[str, int | None, int | None]  # role, layer, expert
Copies = dict[str, tuple[TensorInfo, TensorInfo]]  # name -> (the tensor, the one it repeats)


@dataclass(frozen=True)
class Claims:
    """What each (role, layer, expert) of a program is stored as; `ignored` maps tensor names to reasons.

    `copies` maps names of tensors that only repeat another one to (the tensor, the other), `zeros` are tensors that
    must hold nothing but zeros; both are also in `ignored`.
    `nbytes` gives stored bytes by class: one entry per matrix format in use, "vector", and "ignored".
    """

    checkpoint: Checkpoint
    matrices: dict[Key, Matrix]
    vectors: dict[Key, TensorInfo]
    copies: Copies
    ignored: dict[str, str]
    nbytes: dict[str, int]
    zeros: tuple[TensorInfo, ...] = ()


@dataclass
class _Search:
    """The tensors of a checkpoint while they are claimed, and what went wrong so far."""

    tensors: dict[str, TensorInfo]
    finder: Finder
    used: set[str] = field(default_factory=set)
    unused: dict[str, str] = field(default_factory=dict)  # they belong to a matrix, but do not count
    missing: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def matrix(self, stem: str, rows: int, cols: int) -> Matrix | None:
        found = self.finder.find(stem, rows, cols)
        self.used.update(found.used)
        self.unused |= found.unused
        self.missing += found.missing
        if found.part is not None:
            self._misfit(found.part, found.problem)
        return found.matrix

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


def claim(checkpoint: Checkpoint, program: "Program") -> Claims:
    """Find the stored tensors of everything `program` expects. CheckpointError lists what is missing or misfits."""
    quantization = getattr(program, "quantization", None)
    tensors = dict(checkpoint.tensors)
    search = _Search(tensors, Finder(tensors, quantization))
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
    patterns = (*program.ignored_tensors, *(quantization.ignored_tensors if quantization else ()))
    zeros = _zeros(search, stems)
    ignored, unknown = _leftovers(search, copies, patterns)
    _report(checkpoint, search, unknown)
    sizes = _sizes(search, matrices, vectors, ignored)
    return Claims(checkpoint, matrices, vectors, copies, ignored, sizes, zeros)


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


def _zeros(search: _Search, stems: dict[str, Matrix]) -> tuple[TensorInfo, ...]:
    """Biases that no step adds: older writers of GPTQ gave one to every matrix."""
    names = (f"{stem}.bias" for stem, matrix in stems.items() if matrix.format in ("gptq", "awq"))
    found = [search.tensors[name] for name in names if name in search.tensors and name not in search.used]
    search.unused |= dict.fromkeys((info.name for info in found), "a bias the model does not have: zeros, or refused")
    return tuple(found)


def _leftovers(
    search: _Search, copies: Copies, ignorable: tuple[tuple[str, str], ...]
) -> tuple[dict[str, str], list[str]]:
    patterns = [(re.compile(fnmatch.translate(pattern)), reason) for pattern, reason in ignorable]
    ignored = {name: f"repeats {first.name}; compared when loaded" for name, (_, first) in copies.items()}
    ignored |= search.unused
    unknown = []
    for name in search.tensors.keys() - search.used - copies.keys() - search.unused.keys():
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
    search: _Search, matrices: dict[Key, Matrix], vectors: dict[Key, TensorInfo], ignored: dict[str, str]
) -> dict[str, int]:
    groups: dict[str, dict[str, int]] = {}
    for matrix in matrices.values():
        for info in matrix.parts.values():
            groups.setdefault(matrix.format, {})[info.name] = info.nbytes
    groups["vector"] = {info.name: info.nbytes for info in vectors.values()}
    groups["ignored"] = {name: search.tensors[name].nbytes for name in ignored}
    return {group: sum(sizes.values()) for group, sizes in groups.items()}
