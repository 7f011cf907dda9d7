"""rewrite - stream a checkpoint through an encoder into safetensors, shard by shard.

What is encoded says plan. A shard appears complete or not at all; the file STATE says which are done and with what, so
that a run that was stopped goes on; config.json comes last.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import checkpoint, program
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.errors import CheckpointError, UsageError
from refmoe.quantize.companions import write as write_companions
from refmoe.quantize.plan import Entry, Item, Progress, Report, decoded, entry, items
from refmoe.quantize.targets import GGUF, KEPT, Target, stored

SHARD = 2 << 30  # bytes of one output file, about
STATE, REPORT = ".refmoe-quantize.json", "refmoe_quantize.json"



def run(opened: checkpoint.Checkpoint, built: program.Program, claims: checkpoint.Claims, folder: Path, target: Target,
        experts_only: bool, progress: Progress | None) -> Report:  # fmt: skip
    """Write the folder. UsageError for arguments, CheckpointError for files, in one line."""
    report = Report(target.name, str(folder))
    planned = _all(claims, target, experts_only, report)
    shards = _shards(planned)
    state = _begin(folder, opened, {"source": opened.digest(), "target": target.name, "experts_only": experts_only,
                                    "shards": len(shards)})  # fmt: skip
    total, done = sum(item.size for item in planned), 0
    report.before, where = total, dict[str, str]()
    report.left_out = dict(claims.ignored)
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        if name in state["done"] and (folder / name).is_file():
            report.resumed += 1
        else:
            entries = _write(folder / name, shard,
                             lambda count, base=done: progress and progress(base + count, total))  # fmt: skip
            state["done"][name] = [asdict(entry) for entry in entries]
            (folder / STATE).write_text(json.dumps(state), "utf-8")
        report.entries += [Entry(**entry) for entry in state["done"][name]]
        where |= dict.fromkeys(checkpoint.read_header(folder / name).tensors, name)
        report.after += sum(info.nbytes for info in checkpoint.read_header(folder / name).tensors.values())
        done += sum(item.size for item in shard)
        if progress:
            progress(done, total)
    _finish(folder, opened, built, target, report, where)
    return report


def _all(claims: checkpoint.Claims, target: Target, experts_only: bool, report: Report) -> list[Item]:
    """Everything to write, copies of other tensors too."""
    found = items(claims, target, experts_only, report)
    found += [Item(name, ("copy", None, None), None, None, (info,)) for name, (info, _) in claims.copies.items()]
    if stack := next((item for item in found if item.stem.endswith("]")), None):
        raise UsageError(f"format: {stack.stem}: experts stored as one stack are only written as GGUF: expected "
                         f"{', '.join(GGUF)}, found {target.name}")  # fmt: skip
    return found


def _shards(planned: list[Item]) -> list[list[Item]]:
    shards: list[list[Item]] = [[]]
    size = 0
    for item in planned:
        if shards[-1] and size + item.size > SHARD:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += item.size
    return shards


def _begin(folder: Path, opened: checkpoint.Checkpoint, facts: dict[str, Any]) -> dict[str, Any]:
    """The state of an earlier run with the same facts, or a new one in a new or empty folder."""
    path = folder / STATE
    if folder.resolve() == opened.path.resolve():
        raise UsageError(f"output: expected another folder than the model's, found {folder}")
    try:
        if path.is_file():
            state = json.loads(path.read_text("utf-8"))
            if {key: state.get(key) for key in facts} != facts or not isinstance(state.get("done"), dict):
                raise UsageError(f"{folder}: expected an unfinished run of the same model and format, found another")
            return dict(state)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"output: expected a new or empty folder, found {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        state = facts | {"done": {}}
        path.write_text(json.dumps(state), "utf-8")
        return state
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{folder}: cannot be written: {problem}") from None


class _Shard:
    """Encodes each matrix once; its parts are kept until they are written."""

    def __init__(self, count: Callable[[int], object]):
        self.count, self.done = count, 0
        self.parts: dict[str, np.ndarray] = {}
        self.entries: list[Entry] = []

    def copy(self, info: TensorInfo) -> np.ndarray:
        """Stored bytes."""
        (raw,) = checkpoint.read([info])
        self._step(info.nbytes)
        return raw

    def part(self, item: Item, name: str) -> np.ndarray:
        """One stored part of an encoded matrix."""
        if name not in self.parts:
            self._encode(item)
        return self.parts.pop(name)

    def _encode(self, item: Item) -> None:
        w = decoded(item)
        parts = item.target.encode(w)  # type: ignore[union-attr]
        self.parts |= {item.stem + suffix: array for suffix, (_, array) in parts.items()}
        self.entries.append(entry(item, w, parts, item.size))
        self._step(item.size)

    def _step(self, count: int) -> None:
        self.done += count
        self.count(self.done)


def _write(path: Path, planned: list[Item], count: Any) -> list[Entry]:
    shard, tensors = _Shard(count), dict[str, tuple[str, Any, Any]]()
    for item in planned:
        if item.target is None:
            for info in item.infos:
                tensors[info.name] = (info.dtype, info.shape, partial(shard.copy, info))
            continue
        rows, cols = item.matrix.rows, item.matrix.cols  # type: ignore[union-attr]
        for suffix, (dtype, shape, _) in stored(item.target.name, rows, cols).items():
            name = item.stem + suffix
            tensors[name] = (dtype, shape, partial(shard.part, item, name))
    checkpoint.write(path, tensors, {"format": "pt"})
    return shard.entries


def _finish(folder: Path, opened: checkpoint.Checkpoint, built: program.Program, target: Target, report: Report,
            where: dict[str, str]) -> None:  # fmt: skip
    """Index, companions, report, and last the config."""
    encoded = {entry.name for entry in report.entries if entry.role not in KEPT}
    config = {key: value for key, value in opened.config.items()
              if key not in ("quantization_config", "compression_config", "auto_map")}  # fmt: skip
    config["quantization_config"] = target.config(_plain(built, encoded, target))  # type: ignore[misc]
    try:
        index = {"metadata": {"total_size": report.after}, "weight_map": dict(sorted(where.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")
        write_companions(folder, opened, built)
        (folder / REPORT).write_text(json.dumps(report.facts(), indent=1) + "\n", "utf-8")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (folder / STATE).unlink()
    except OSError as problem:
        raise CheckpointError(f"{folder}: cannot be written: {problem.strerror}") from None


def _plain(built: program.Program, encoded: set[str], target: Target) -> list[str]:
    """Modules that stay plain: names, and patterns for what is plain in every layer, as compressed-tensors has them."""
    found: list[str] = []
    for tensor in built.tensors.values():
        if tensor.kind != "matrix" or tensor.name == "model.embed_tokens":
            continue
        pattern = re.escape(tensor.name).replace(r"\{l\}", r"\d+").replace(r"\{e\}", r"\d+")
        if not any(re.fullmatch(pattern, name) for name in encoded):
            whole = "{l}" not in tensor.name
            found.append(tensor.name if whole else f"re:{pattern.replace(chr(92) + '-', '-')}$")
    if target.format != "fp8_block":
        return found
    return [word.removeprefix("re:").removesuffix("$").replace("\\.", ".").rpartition(".")[2] for word in found]
