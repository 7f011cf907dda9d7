"""trace - what every step of a program put out for some tokens, and the file that keeps it.

Signature   record(model, ids, points, steps) -> Trace;  write(path, model, trace);  read(path) -> Trace
Layout      One safetensors file. Names are those of the program's steps: `embed`, `layers.{l}.<result>`,
            `final_norm`, `logits`, one row per token of the prompt; `steps.{n}.` in front for decode step n = 0, 1, ...
            (one row). Step 0 is fed argmax of the prompt's last logits, step n that of step n-1. `route_ids` is I64,
            all others are F32.
            Metadata, every value a JSON text:
              kind               "trace"
              numerics_version   integer; a changed bit of a result needs another one
              program_digest     sha256 of the program (`refmoe program --json` prints what it covers)
              checkpoint_digest  sha256 over lines `name NUL dtype NUL [shape] NUL sha256 of the stored bytes`,
                                 sorted by name, each ended by a line feed
              ids, step_ids      the prompt; the id fed to each decode step
              kv_dtype           "f32" or "bf16";  activations  "f32" or "int8"
              versions           of refmoe, python, numpy, numba: information, no bit depends on them
              sha256             object: tensor name -> sha256 of its bytes
Semantics   A point is a glob (* and ? also match dots). It takes the names it matches, with or without `steps.{n}.`.
Errors      TraceError for a file that is not exactly as above; UsageError for a glob without a match
Golden      golden/tiny/*/trace.safetensors
"""

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import checkpoint, ops
from refmoe.checkpoint.strict_json import parse, show, some
from refmoe.errors import CheckpointError, TraceError, UsageError

CHUNK = 512  # prompt tokens per run of the engine: logits of all rows of a long prompt are never held unasked
DTYPES = {"F32": np.float32, "I64": np.int64}
_PREFIX = re.compile(r"steps\.(0|[1-9][0-9]*)\.")
_HEX = re.compile(r"[0-9a-f]{64}")
_TYPES: dict[str, type] = {
    "kind": str, "numerics_version": int, "program_digest": str, "checkpoint_digest": str, "ids": list,
    "step_ids": list, "kv_dtype": str, "activations": str, "versions": dict, "sha256": dict,
}  # fmt: skip


class Trace(dict[str, np.ndarray]):
    """name -> array. `ids` is the prompt, `step_ids` what the decode steps were fed, `metadata` what a file said."""

    def __init__(self, ids: Sequence[int], step_ids: Sequence[int] = (), metadata: dict[str, Any] | None = None):
        super().__init__()
        self.ids, self.step_ids, self.metadata = list(ids), list(step_ids), metadata or {}


def names(program) -> list[str]:
    """All points of one pass, in order of execution."""
    return list(program.points)


def _chosen(program, points: Iterable[str], steps: int) -> list[str]:
    """The names to keep, prompt first. UsageError for a glob without a match."""
    points = (points,) if isinstance(points, str) else tuple(points) if isinstance(points, Iterable) else (points,)
    if wrong := [point for point in points if not isinstance(point, str)]:
        raise UsageError(f"points: expected strings, found {show(repr(wrong[0]), 60)}")
    plain = names(program)
    every = [prefix + name for prefix in ["", *(f"steps.{n}." for n in range(steps))] for name in plain]
    wanted: set[str] = set()
    for point in points:
        matches = re.compile(fnmatch.translate(point)).match
        hits = {name for name in every if matches(name) or matches(_PREFIX.sub("", name))}
        if not hits:
            raise UsageError(f"point {point[:160]!r} matches nothing: expected names like {some(_examples(plain), 12)}")
        wanted |= hits
    return [name for name in every if name in wanted]


def _examples(plain: list[str]) -> list[str]:
    """One name of each kind, with a star for the layer."""
    return list(dict.fromkeys(re.sub(r"^layers\.\d+\.", "layers.*.", name) for name in reversed(plain)))


def record(model, ids: Sequence[int], points: Iterable[str] = ("*",), steps: int = 0) -> Trace:
    """Run a prompt and `steps` greedy decode steps on an empty cache; keep the results that `points` name."""
    prompt = model.check_ids(ids)
    if type(steps) is not int or steps < 0:
        raise UsageError(f"steps: expected an integer from 0 on, found {steps!r}")
    wanted = _chosen(model.program, points, steps)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    trace = Trace(prompt)
    sequence = model.engine.sequence()

    def run(tokens: list[int], prefix: str, every: bool) -> np.ndarray:
        def keep(name: str, rows: np.ndarray) -> None:
            if prefix + name in parts:
                parts[prefix + name].append(rows)

        return model.engine.run([(sequence, tokens)], every=every, record=keep)[0][-1:]

    tail = any(name in parts for step in model.program.tail for name in step.out)
    for first in range(0, len(prompt), CHUNK):
        last = run(prompt[first : first + CHUNK], "", tail)
    for n in range(steps):
        trace.step_ids.append(int(ops.get("argmax").plain(last)[0]))
        last = run(trace.step_ids[-1:], f"steps.{n}.", True)
    for name in wanted:
        pieces = parts.pop(name)
        trace[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return trace


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def metadata(model, trace: Trace) -> dict[str, Any]:
    """The metadata of a trace of this model, as plain values."""
    import platform
    from importlib.metadata import version

    from refmoe import NUMERICS_VERSION, __version__

    return {
        "kind": "trace",
        "numerics_version": NUMERICS_VERSION,
        "program_digest": model.program.digest(),
        "checkpoint_digest": model.checkpoint.content_digest(),
        "ids": trace.ids,
        "step_ids": trace.step_ids,
        "kv_dtype": model.engine.kv_dtype,
        "activations": model.program.activations,
        "versions": {
            "refmoe": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": version("numba"),
        },
        "sha256": {name: _sha256(array) for name, array in trace.items()},
    }


def write(path: str | os.PathLike[str], model, trace: Trace) -> None:
    """Write a recorded trace; the file appears complete or not at all. TraceError when it cannot be written."""
    kinds = {np.dtype(kind): name for name, kind in DTYPES.items()}
    tensors = {name: (kinds[array.dtype], array.shape, array) for name, array in trace.items()}
    texts = {key: json.dumps(value) for key, value in metadata(model, trace).items()}
    try:
        checkpoint.write(Path(path), tensors, texts)
    except CheckpointError as problem:
        raise TraceError(str(problem)) from None


def read(path: str | os.PathLike[str]) -> Trace:
    """A trace file, every part of it checked."""
    path = Path(path)
    try:
        header = checkpoint.read_header(path)
        buffers = checkpoint.read(list(header.tensors.values()))
    except CheckpointError as problem:
        raise TraceError(str(problem)) from None
    facts = _facts(path, header.metadata)
    trace = Trace(facts["ids"], facts["step_ids"], facts)
    if facts["sha256"].keys() != header.tensors.keys():
        odd = sorted(facts["sha256"].keys() ^ header.tensors.keys())
        raise TraceError(f"{show(path)}: sha256: expected one for each tensor, found a difference in {some(odd)}")
    for (name, info), buffer in zip(header.tensors.items(), buffers, strict=True):
        where = f"{show(path)}: tensor {show(name)}"
        dtype = "I64" if name.endswith("route_ids") else "F32"
        if info.dtype != dtype:
            raise TraceError(f"{where}: expected dtype {dtype}, found {info.dtype}")
        step = _PREFIX.match(name)
        rows = 1 if step else len(trace.ids)
        if step and int(step[1]) >= len(trace.step_ids):
            raise TraceError(f"{where}: expected a step below {len(trace.step_ids)}, the number of step_ids")
        if len(info.shape) < 2 or info.shape[0] != rows:
            raise TraceError(f"{where}: expected {rows} rows, found shape {list(info.shape)}")
        trace[name] = buffer.view(DTYPES[dtype]).reshape(info.shape)
        if _sha256(trace[name]) != facts["sha256"][name]:
            raise TraceError(f"{where}: expected the sha256 of the metadata, found other bytes")
    return trace


def _facts(path: Path, texts: dict[str, str]) -> dict[str, Any]:
    where = f"{show(path)}: metadata"
    if texts.keys() != _TYPES.keys():
        raise TraceError(f"{where}: expected the keys {', '.join(_TYPES)}, found {some(sorted(texts), 12) or 'none'}")
    facts = {key: parse(text.encode(), f"{where} {key}", TraceError) for key, text in texts.items()}
    for key, kind in _TYPES.items():
        if type(facts[key]) is not kind:
            raise TraceError(f"{where} {key}: expected {kind.__name__}, found {show(texts[key], 60)}")
    if facts["kind"] != "trace":
        raise TraceError(f"{where} kind: expected trace, found {show(facts['kind'], 60)}")
    for key in ("ids", "step_ids"):
        if not all(type(token) is int and 0 <= token < 1 << 31 for token in facts[key]):
            raise TraceError(f"{where} {key}: expected token ids, found {show(texts[key], 60)}")
    for key in ("program_digest", "checkpoint_digest"):
        if not _HEX.fullmatch(facts[key]):
            raise TraceError(f"{where} {key}: expected a sha256 in hex, found {show(facts[key], 80)}")
    return facts
