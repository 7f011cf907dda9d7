"""gguf_file - stream a checkpoint through an encoder into one GGUF file that llama.cpp reads.

What is encoded says plan; where it lies and under which metadata, checkpoint.gguf_export, which also refuses models
that GGUF cannot hold before anything is written. Experts of a layer become one tensor, norms, biases, routers and gates
of shared experts binary32. One matrix is in memory at a time. The file appears complete or not at all; a run that was
stopped begins again.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refmoe import checkpoint, program, text
from refmoe.chat import template
from refmoe.checkpoint import gguf_export
from refmoe.checkpoint.gguf import stored_bytes
from refmoe.checkpoint.gguf_files import SUFFIX
from refmoe.checkpoint.gguf_write import write
from refmoe.checkpoint.load import widened
from refmoe.errors import TokenizerError, UsageError
from refmoe.quantize.plan import Item, Progress, Report, decoded, entry, items
from refmoe.quantize.targets import KEPT, TARGETS, Target
from refmoe.suggested import GGUF as SAMPLING
from refmoe.suggested import sampling
from refmoe.vocab import gguf_export as vocabulary

FILE_TYPES = {"q4_0": 2, "q8_0": 7, "q4_k": 14, "bf16": 32}  # general.file_type: what llama.cpp calls the file
WIDE = {"F32": "<f4", "BF16": "<u2", "F16": "<u2"}


class Tensor(NamedTuple):
    """One to write: its type and shape, and the items it is made of, each `share` of theirs."""

    kind: str
    shape: tuple[int, ...]
    items: list[Item]
    take: gguf_export.Take
    share: int


def run(opened: checkpoint.Checkpoint, built: program.Program, claims: checkpoint.Claims, path: Path, target: Target,
        experts_only: bool, progress: Progress | None) -> Report:  # fmt: skip
    """Write the file. UsageError for arguments and for models without a form in GGUF, CheckpointError for files."""
    report = Report(target.name, str(path))
    if path.suffix != SUFFIX or path.exists():
        raise UsageError(f"output: expected a new file that ends in {SUFFIX} for {target.name}, found {path}")
    metadata = gguf_export.settings(built, opened.config.get("intermediate_size") or int(built.dims.get("M", 1)))
    planned = items(claims, target, experts_only, report)
    tensors, made = _tensors(built, planned), gguf_export.extra(built)
    gguf_export.read_back(path, built, metadata, {name: tensor[:2] for name, tensor in tensors.items()} |
                          {name: ("F32", array.shape) for name, array in made.items()}, made)  # fmt: skip
    metadata |= {"general.file_type": FILE_TYPES[target.name]} | _text(opened, built, report)
    report.before, report.left_out = sum(item.size for item in planned), dict(claims.ignored)
    count = _Count(report.before, progress)
    written: dict[str, tuple[str, Any, Any]] = {name: ("F32", array.shape, array) for name, array in made.items()}
    written |= {name: (tensor.kind, tensor.shape, partial(_pieces, tensor, report, count))
                for name, tensor in tensors.items()}  # fmt: skip
    write(path, metadata, written)
    report.after = sum(stored_bytes(kind, shape) for kind, shape, _ in written.values())
    return report


def _tensors(built: program.Program, planned: list[Item]) -> dict[str, Tensor]:
    """All tensors by name, in the order of the program."""
    groups: dict[tuple[str, int | None], list[Item]] = {}
    for item in planned:
        role, layer, _ = item.key
        groups.setdefault((role, layer), []).append(item)
    found = {}
    for (role, layer), group in groups.items():
        kinds = {_kind(item) for item in group}
        if len(kinds) > 1:  # experts stored plain, in several types
            group = [item._replace(target=TARGETS["bf16"]) for item in group]
        kind = kinds.pop() if len(kinds) == 1 else "BF16"
        parts = gguf_export.parts(built, role)
        for name, shape, take in parts:
            stacked = (len(group), *shape) if group[0].key[2] is not None else shape
            found[name.replace("{l}", str(layer))] = Tensor(kind, stacked, group, take, len(parts))
    return found


def _kind(item: Item) -> str:
    """The GGUF type of an item."""
    if item.matrix is None or item.key[0] in KEPT:
        return "F32"
    return item.infos[0].dtype if item.target is None else item.target.name.upper()


def _pieces(tensor: Tensor, report: Report, count: "_Count") -> Iterator[np.ndarray]:
    """The bytes of a tensor, item by item."""
    for item in tensor.items:
        if item.matrix is None:
            yield tensor.take(widened(item.infos[0], checkpoint.read(item.infos)[0]))
        elif tensor.kind == "F32":
            yield tensor.take(decoded(item))
        elif item.target is None:
            (raw,) = checkpoint.read(item.infos)
            yield tensor.take(raw.view(WIDE[tensor.kind]).reshape(item.matrix.rows, item.matrix.cols))
        else:
            w = tensor.take(decoded(item))
            w = np.ascontiguousarray(w.reshape(-1, w.shape[-1]))
            parts = item.target.encode(w)
            report.entries.append(entry(item, w, parts, item.size // tensor.share))
            yield parts[".weight"][1]
        count.add(item.size / tensor.share)


class _Count:
    """Source bytes done, of `total`."""

    def __init__(self, total: int, progress: Progress | None):
        self.done, self.total, self.progress = 0.0, total, progress

    def add(self, count: float) -> None:
        """`count` bytes more."""
        self.done += count
        if self.progress:
            self.progress(round(self.done), self.total)


def _text(opened: checkpoint.Checkpoint, built: program.Program, report: Report) -> dict[str, Any]:
    """Tokenizer, ends, chat template and suggested sampling; what cannot be written is noted in the report."""
    if opened.metadata:
        return {key: value for key, value in opened.metadata.items()
                if key.startswith(("tokenizer.", "general.sampling."))}  # fmt: skip
    start, ends = text.boundary_ids(opened.path, opened.config)
    try:
        found = vocabulary.metadata(opened.path, int(built.dims["V"]), start, ends)
        chat = template.load(opened.path, {})
    except TokenizerError as problem:
        report.notes.append(f"tokenizer left out: {problem}")
        found, chat = {"model": "none"}, None
    metadata = {f"tokenizer.ggml.{key}": value for key, value in found.items()}
    for name, content in (chat.texts if chat else {}).items():
        metadata["tokenizer.chat_template" + f".{name}" * (name != "default")] = content
    suggested = sampling(opened.path)
    return metadata | {f"general.sampling.{SAMPLING.get(key, key)}": value for key, value in suggested.items()}
