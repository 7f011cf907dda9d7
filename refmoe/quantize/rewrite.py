"""rewrite - stream a checkpoint through an encoder, shard by shard.

Matrices of the layers are encoded, but not routers and gates of shared experts, and with experts_only nothing but the
experts. Everything else is copied as it is stored; a matrix that is neither copied nor encoded (an encoded source,
experts only) is written as bfloat16. Tensors that the program ignores are left out. A shard appears complete or not at
all; the file STATE says which are done and with what, so that a run that was stopped goes on; config.json comes last.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refmoe import checkpoint, formats, program
from refmoe.checkpoint.matrices import Matrix
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.errors import CheckpointError, UsageError
from refmoe.quantize.encoders import Parts, plain
from refmoe.quantize.targets import TARGETS, Target
from refmoe.weight import Weight

SHARD = 2 << 30  # bytes of one output file, about
STATE, REPORT = ".refmoe-quantize.json", "refmoe_quantize.json"
KEPT = ("router", "s_weight")  # roles that engines keep plain
COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tiktoken.model", "vocab.json",
              "merges.txt", "special_tokens_map.json", "added_tokens.json", "generation_config.json",
              "chat_template.jinja", "chat_template.json")  # fmt: skip
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
    """What was written. `kept` maps stems that stayed plain although they could have been encoded to reasons."""

    target: str
    output: str
    entries: list[Entry] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    before: int = 0
    after: int = 0
    resumed: int = 0

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Item(NamedTuple):
    """One thing to write: `stem` and `role`; a matrix with the encoder to use (None: bytes are copied), or a tensor."""

    stem: str
    role: str
    matrix: Matrix | None
    encode: Callable[[np.ndarray], Parts] | None
    infos: tuple[TensorInfo, ...]

    @property
    def size(self) -> int:
        """Stored bytes of the source: what the output file has at most, about."""
        return sum(info.nbytes for info in self.infos)


def run(location: Any, output: str | Path, target: str, experts_only: bool = False,
        progress: Progress | None = None) -> Report:  # fmt: skip
    """Quantize a checkpoint. UsageError for arguments, CheckpointError for files, in one line."""
    if target not in TARGETS:
        raise UsageError(f"format: expected one of {', '.join(TARGETS)}, found {str(target)[:40]!r}")
    opened = checkpoint.open(location)
    built = program.build(opened.config, opened.source)
    claims = checkpoint.claim(opened, built)
    folder, report = Path(output), Report(target, str(output))
    items = list(_items(claims, built, TARGETS[target], experts_only, report))
    if not any(item.encode is TARGETS[target].encode for item in items):
        some = next(iter(report.kept.values()), "no experts" if experts_only else "no matrices")
        raise UsageError(f"format: {target} fits no matrix of this model: {some}")
    shards = _shards(items)
    state = _begin(folder, opened, {"source": opened.digest(), "target": target, "experts_only": experts_only,
                                    "shards": len(shards)})  # fmt: skip
    total, done = sum(item.size for item in items), 0
    report.before, where = total, dict[str, str]()
    report.left_out = dict(claims.ignored)
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        if name in state["done"] and (folder / name).is_file():
            report.resumed += 1
        else:
            entries = _write(folder / name, shard, TARGETS[target],
                             lambda count, base=done: progress and progress(base + count, total))  # fmt: skip
            state["done"][name] = [asdict(entry) for entry in entries]
            (folder / STATE).write_text(json.dumps(state), "utf-8")
        report.entries += [Entry(**entry) for entry in state["done"][name]]
        where |= dict.fromkeys(checkpoint.read_header(folder / name).tensors, name)
        report.after += sum(info.nbytes for info in checkpoint.read_header(folder / name).tensors.values())
        done += sum(item.size for item in shard)
        if progress:
            progress(done, total)
    _finish(folder, opened, built, TARGETS[target], report, where)
    return report


def _items(claims: Any, built: program.Program, target: Target, experts_only: bool, report: Report) -> Iterator[Item]:
    """Everything to write, in the order of the program; a tensor that two roles share comes once."""
    seen: set[str] = set()
    for (role, layer, expert), matrix in claims.matrices.items():
        suffix, first = next(iter(matrix.parts.items()))
        stem, infos = first.name.removesuffix(suffix), tuple(matrix.parts.values())
        if stem in seen:
            continue
        seen.add(stem)
        if first.parts or first.name.endswith("]"):
            raise UsageError(f"{built.arch}: {first.name}: experts stored as one stack cannot be written again")
        stored_plain = suffix == ".weight" and len(infos) == 1 and matrix.format in ("f32", "bf16", "f16")
        chosen = layer is not None and role not in KEPT and (expert is not None or not experts_only)
        if chosen and matrix.cols % target.multiple:
            report.kept[stem] = f"{matrix.cols} columns, no multiple of {target.multiple}"
            chosen = False
        encode = target.encode if chosen else None if stored_plain else plain
        yield Item(stem, role, matrix, encode, infos)
    for (role, _, _), info in claims.vectors.items():
        if info.parts or info.name.endswith("]"):
            raise UsageError(f"{built.arch}: {info.name}: tensors stored as one stack cannot be written again")
        if info.name not in seen:
            seen.add(info.name)
            yield Item(info.name, role, None, None, (info,))
    for name, (info, _) in claims.copies.items():
        yield Item(name, "copy", None, None, (info,))


def _shards(items: list[Item]) -> list[list[Item]]:
    shards: list[list[Item]] = [[]]
    size = 0
    for item in items:
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

    def __init__(self, target: Target, count: Callable[[int], object]):
        self.target, self.count, self.done = target, count, 0
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
        matrix = item.matrix
        raws = checkpoint.read(list(item.infos))
        stored = dict(zip(matrix.parts, raws, strict=True))  # type: ignore[union-attr]
        w = formats.decode(Weight(matrix.format, matrix.rows, matrix.cols, stored, matrix.params))  # type: ignore[union-attr]
        if not np.isfinite(w).all():
            first = item.infos[0]
            raise CheckpointError(f"{first.file}: {first.name}: expected finite weights, found nan or inf")
        parts = item.encode(w)  # type: ignore[misc]
        self.parts |= {item.stem + suffix: array for suffix, (_, array) in parts.items()}
        self.entries.append(_entry(item, w, parts, self.target))
        self._step(item.size)

    def _step(self, count: int) -> None:
        self.done += count
        self.count(self.done)


def _entry(item: Item, w: np.ndarray, parts: Parts, target: Target) -> Entry:
    """How far the encoded matrix is from the source, by the format's own decode."""
    params: dict[str, Any]
    format, params = ("bf16", {}) if item.encode is plain else (target.format, target.params)
    suffixes = formats.get(format).suffixes
    kinds = {suffix: dtype for suffix, (dtype, _) in parts.items()}
    stored = {suffix: np.ascontiguousarray(array).reshape(-1).view(np.uint8) for suffix, (_, array) in parts.items()
              if suffix in (*suffixes, ".weight_zero_point")}  # fmt: skip
    back = formats.decode(Weight(format, w.shape[0], w.shape[1], stored, params | kinds))
    error = back.astype(np.float64) - w
    size = float(np.sqrt((w.astype(np.float64) ** 2).sum()))
    relative = float(np.sqrt((error**2).sum())) / size if size else 0.0
    return Entry(item.stem, item.role, list(w.shape), relative, float(abs(error).max()), item.size,
                 sum(array.nbytes for _, array in parts.values()))  # fmt: skip


def _write(path: Path, items: list[Item], target: Target, count: Any) -> list[Entry]:
    shard, tensors, known = _Shard(target, count), dict[str, tuple[str, Any, Any]](), dict[Any, Any]()
    for item in items:
        if item.encode is None:
            for info in item.infos:
                tensors[info.name] = (info.dtype, info.shape, partial(shard.copy, info))
            continue
        shape_of = (item.encode, item.matrix.rows, item.matrix.cols)  # type: ignore[union-attr]
        if shape_of not in known:
            known[shape_of] = _shapes(*shape_of)
        for suffix, (dtype, shape) in known[shape_of].items():
            name = item.stem + suffix
            tensors[name] = (dtype, shape, partial(shard.part, item, name))
    checkpoint.write(path, tensors, {"format": "pt"})
    return shard.entries


def _shapes(encode: Any, rows: int, cols: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Types and shapes of the parts, from an encoding of zeros: never at odds with the encoder."""
    parts = encode(np.zeros((rows, cols), np.float32))
    return {suffix: (dtype, array.shape) for suffix, (dtype, array) in parts.items()}


def _finish(folder: Path, opened: checkpoint.Checkpoint, built: program.Program, target: Target, report: Report,
            where: dict[str, str]) -> None:  # fmt: skip
    """Index, companions, report, and last the config."""
    encoded = {entry.name for entry in report.entries if entry.role not in KEPT}
    config = {key: value for key, value in opened.config.items()
              if key not in ("quantization_config", "compression_config", "auto_map")}  # fmt: skip
    config["quantization_config"] = target.config(_plain(built, encoded, target))
    try:
        index = {"metadata": {"total_size": report.after}, "weight_map": dict(sorted(where.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")
        for name in COMPANIONS:
            if (source := opened.file(name)) is not None:
                shutil.copyfile(source, folder / name)
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
