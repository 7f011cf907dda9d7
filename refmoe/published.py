"""Outputs of published checkpoints: golden/published, read strictly, and which files belong to a model at hand.

golden/README.md describes the files. A file belongs to a model if its content digest is listed, or if both configs give
the same program (nothing that decides a number differs, in either config dialect) and the same quantisation method. As
many checkpoints share a shape, the name counts too: a directory or hub id of that name, or the caller's word.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from refmoe import golden, program
from refmoe.checkpoint import read_json
from refmoe.checkpoint.strict_json import show
from refmoe.errors import ConfigError, TraceError

TABLES = ("parameter_counts.json", "rope_tables.json", "tokenizers.json")  # of golden/published, of another schema
FILE = {"schema": int, "checkpoint": str, "revision": str, "config": dict, "config_note": str, "quantisation": str,
        "tokenizer": str, "content_digests": list, "goldens": list}  # fmt: skip
COMMON = {"id": str, "kind": str, "arithmetic": str, "device": str, "status": str, "weights": str, "note": str,
          "derived": str, "source": dict}  # fmt: skip
KINDS: dict[str, dict[str, type]] = {
    "logits": {"ids": list, "checks": list},
    "greedy": {"prompt": str, "prompt_sha256": str, "prompt_ids": list, "then": list, "times": int, "ids": list,
               "text": str, "logprobs": list, "prompt_logprobs": list, "rtol": float},
    "perplexity": {"value": float, "rtol": float, "text": str, "method": str},
}  # fmt: skip
NEEDED = {"logits": ("ids", "checks"), "greedy": (), "perplexity": ("value", "text", "method")}
CHECK = {"of": str, "positions": list, "columns": list, "sets": dict, "atol": float, "rtol": float}
STATUS = ("good", "weak", "unverified", "wrong")
MOST = 1 << 20  # ids of one golden, after repetition


@dataclass(frozen=True)
class Golden:
    """One published output. `data` holds the keys of its kind."""

    id: str
    kind: str
    arithmetic: str
    status: str
    weights: str
    note: str
    source: dict[str, str]
    data: dict[str, Any]

    @property
    def prompt_ids(self) -> list[int] | None:
        """The prompt, repetition written out; None where only its text is given."""
        ids = self.data.get("ids" if self.kind == "logits" else "prompt_ids")
        return None if ids is None else ids + self.data.get("then", []) * self.data.get("times", 1)


@dataclass(frozen=True)
class Entry:
    """One published checkpoint: `config` without quantisation, None where it is not known."""

    file: str
    checkpoint: str
    config: dict[str, Any] | None
    quantisation: str | None
    tokenizer: str | None
    digests: tuple[str, ...]
    goldens: tuple[Golden, ...]


@dataclass(frozen=True)
class Candidate:
    """An entry that fits; `why` is "tensors", "name" or "config", of which only the last may be another checkpoint."""

    entry: Entry
    why: str


def entries(extra: Path | None = None) -> list[Entry]:
    """All of golden/published, with those of `extra`, a file or a folder, in front; then known shapes without outputs.

    TraceError in one line for a file that does not follow the schema.
    """
    places = [extra] if extra is not None and not extra.is_dir() else sorted((extra or Path()).glob("*.json"))
    found = [_entry(path) for path in (places if extra is not None else [])]
    found += [_entry(path) for path in _own_files()]
    known = {entry.checkpoint.rpartition("/")[2] for entry in found}
    counts = read_json(golden.root() / "published" / TABLES[0], "parameter counts", TraceError)
    for model in counts["models"]:
        if model["name"] not in known:
            found.append(Entry(TABLES[0], model["name"], model["config"], None, None, (), ()))
    return found


def tokenizer_vectors(name: str) -> dict[str, Any] | None:
    """{"texts", "ids" or None, "fingerprint" or None, "source"} of one published tokenizer; None if unknown."""
    path = golden.root() / "published" / TABLES[2]
    golden.check_file(path)
    vectors = read_json(path, "tokenizer vectors", TraceError)
    one = vectors["tokenizers"].get(name)
    return None if one is None else {"texts": vectors["texts"], "ids": None, "fingerprint": None} | one


def _own_files() -> Iterator[Path]:
    for path in sorted((golden.root() / "published").glob("*.json")):
        if path.name not in TABLES:
            golden.check_file(path)
            yield path


def _fields(where: str, value: Any, kinds: dict[str, type], needed: tuple[str, ...]) -> dict[str, Any]:
    """The object without its nulls; TraceError for another type, an unknown or a missing key."""
    if type(value) is not dict:
        raise TraceError(f"{where}: expected an object, found {show(value, 40)}")
    for key, item in value.items():
        kind = kinds.get(key)
        if kind is None:
            raise TraceError(f"{where}: {show(key, 40)}: expected one of {', '.join(kinds)}")
        if item is not None and not (type(item) is kind or (kind is float and type(item) is int)):
            raise TraceError(f"{where}: {key}: expected {kind.__name__}, found {show(item, 40)}")
    present = {key: item for key, item in value.items() if item is not None}
    if missing := [key for key in needed if key not in present]:
        raise TraceError(f"{where}: {missing[0]}: expected a value, found none")
    return present


def _entry(path: Path) -> Entry:
    values = _fields(str(path), read_json(path, "published outputs", TraceError), FILE, ("schema", "checkpoint"))
    if values["schema"] != 1:
        raise TraceError(f"{path}: schema: expected 1, found {values['schema']}")
    goldens = tuple(_golden(f"{path}: goldens[{n}]", one) for n, one in enumerate(values.get("goldens", [])))
    return Entry(path.name, values["checkpoint"], values.get("config"), values.get("quantisation"),
                 values.get("tokenizer"), tuple(map(str, values.get("content_digests", []))), goldens)  # fmt: skip


def _golden(where: str, value: Any) -> Golden:
    kind = value.get("kind") if type(value) is dict else None
    if kind not in KINDS:
        raise TraceError(f"{where}: kind: expected one of {', '.join(KINDS)}, found {show(kind, 40)}")
    values = _fields(where, value, COMMON | KINDS[kind], ("id", "arithmetic", *NEEDED[kind]))
    data = {key: item for key, item in values.items() if key in KINDS[kind]}
    result = Golden(values["id"], kind, values["arithmetic"], values.get("status", "good"), values.get("weights", ""),
                    values.get("note", ""), values.get("source", {}), data)  # fmt: skip
    if result.status not in STATUS:
        raise TraceError(f"{where}: status: expected one of {', '.join(STATUS)}, found {show(result.status, 40)}")
    if kind == "greedy" and not (("prompt" in data or "prompt_ids" in data) and ("text" in data or "ids" in data)):
        raise TraceError(f"{where}: expected prompt or prompt_ids, and text or ids")
    count = len(data.get("prompt_ids", [])) + len(data.get("then", [])) * data.get("times", 1)
    if not 0 <= count + len(data.get("ids", [])) <= MOST:
        raise TraceError(f"{where}: expected at most {MOST} ids")
    for key in ("ids", "prompt_ids", "then"):
        if any(not (type(i) is int and i >= 0) and not (i is None and key == "ids") for i in data.get(key, [])):
            raise TraceError(f"{where}: {key}: expected token ids")
    for n, one in enumerate(data.get("checks", [])):
        _check(f"{where}: checks[{n}]", one, len(data["ids"]))
    for key, length in (("logprobs", "ids"), ("prompt_logprobs", "prompt_ids")):
        if key in data and not (_numbers(data[key], True) and len(data[key]) == len(data.get(length, []))):
            raise TraceError(f"{where}: {key}: expected one number for each of {length}")
    return result


def _check(where: str, value: Any, length: int) -> None:
    """A table of logits or of their means: `sets` holds rows for the positions, one such table per name."""
    one = _fields(where, value, CHECK, ("of", "positions", "sets", "atol", "rtol"))
    if one["of"] not in ("mean", "logits") or (one["of"] == "logits") != ("columns" in one):
        raise TraceError(f"{where}: expected of mean, or of logits with columns [begin, end]")
    if not one["positions"] or any(type(p) is not int or not 0 <= p < length for p in one["positions"]):
        raise TraceError(f"{where}: positions: expected positions of the {length} ids")
    ends = one.get("columns", [0, 1])
    if len(ends) != 2 or any(end is not None and type(end) is not int for end in ends):
        raise TraceError(f"{where}: columns: expected two numbers")
    rows = [row for table in one["sets"].values() for row in (table if one["of"] == "logits" else [table])]
    sizes = {len(table) for table in one["sets"].values() if type(table) is list}
    if not rows or sizes != {len(one["positions"])} or not all(_numbers(row) for row in rows):
        raise TraceError(f"{where}: sets: expected numbers, a row or a mean for each position")


def _numbers(row: Any, gaps: bool = False) -> bool:
    return type(row) is list and all(
        (type(v) in (int, float) and math.isfinite(v)) or (v is None and gaps) for v in row)


@cache
def _digest_of(config: str) -> str | None:
    try:
        return program.build(json.loads(config)).digest()
    except ConfigError:
        return None  # of a family that this version does not run


def program_digest(entry: Entry) -> str | None:
    """The digest of the program of an entry's config; None if there is none."""
    return None if entry.config is None else _digest_of(json.dumps(entry.config))


def named(location: str, checkpoint: str) -> bool:
    """True if a path or hub id says that it is this checkpoint: the id itself, a cache folder of it, or its name."""
    parts = Path(location.partition("@")[0]).parts
    cached = "models--" + checkpoint.replace("/", "--")
    names = {checkpoint.lower(), checkpoint.rpartition("/")[2].lower()}
    return cached in parts or location.partition("@")[0].lower() in names or bool(parts and parts[-1].lower() in names)


def candidates(known: list[Entry], built: program.Program, method: str | None, location: str, digest: str | None,
               insist: str | None) -> tuple[list[Candidate], list[str]]:  # fmt: skip
    """The entries a model may be, and one line for each that has its name or its program, but does not fit.

    `digest` is the content digest where it was computed; `insist` the checkpoint's name by the caller, or None. Entries
    known by tensors or name replace those that merely have the same config.
    """
    found, notes = [], []
    for entry in known:
        alike = program_digest(entry) == built.digest()
        same = alike and entry.quantisation == method
        mine = named(insist, entry.checkpoint) if insist is not None else named(location, entry.checkpoint)
        if digest is not None and digest in entry.digests:
            found.append(Candidate(entry, "tensors"))
        elif mine and (same or entry.config is None):
            found.append(Candidate(entry, "name"))
        elif mine:
            notes.append(f"{entry.checkpoint}: the name fits, but {_difference(entry, built, method)}")
        elif same:
            found.append(Candidate(entry, "config"))
        elif alike and entry.goldens:
            notes.append(f"{entry.checkpoint}: the same program, but {_difference(entry, built, method)}")
    for why in ("tensors", "name"):
        if sure := [one for one in found if one.why == why]:
            return sure, notes
    return ([] if insist is not None else found), notes


def _difference(entry: Entry, built: program.Program, method: str | None) -> str:
    """What differs between an entry and a program, in words."""
    if entry.quantisation != method:
        return f"quantisation: expected {entry.quantisation or 'none'}, found {method or 'none'}"
    try:
        other = program.build(entry.config, entry.file)
    except ConfigError as problem:
        return f"its published config cannot be read: {problem}"
    for name in other.dims.keys() | built.dims.keys():
        if other.dims.get(name) != built.dims.get(name):
            return f"{name}: expected {other.dims.get(name)}, found {built.dims.get(name)}"
    return "the program differs" if other.tables == built.tables else (
        f"rotary tables: expected {other.tables}, found {built.tables}")
