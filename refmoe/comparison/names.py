"""names - what another program calls its arrays, in our names and our layout. Maps are data: maps/*.json, or your own.

    {"name": "mine", "entries": [
       {"theirs": "blk.{l}.q", "ours": "layers.{l}.q"},
       {"theirs": "blk.{l}.qkv", "ours": ["layers.{l}.q", "layers.{l}.k", "layers.{l}.v"]},
       {"theirs": "blk.{l}.q_rot", "ours": "layers.{l}.q_rope", "dims": "b n t d", "rope": "pairs"},
       {"theirs": "blk.{l}.mlp", "ours": "layers.{l}.down | layers.{l}.moe | layers.{l}.combine"}]}

theirs  a name; {l} is the layer, a number; * is any text; .0 behind it, the first part of a tuple, may be left out
ours    a point of the program; alternatives with |, the first one that this program has; a list of them cuts the last
        axis of a fused array into the widths that the program says; [] is known and no point of the program
dims    the axes as they lie there: t tokens, k chosen experts, b a batch of one, any other letter is a part of the
        width; without it axes of size 1 are dropped and the rest is reshaped to rows
rope    "pairs": neighbours are rotated together there, and the program has halves (or the other way round); the numbers
        of each head are put into the program's order. "gguf": so only in families whose GGUF files have the rows of
        wq and wk in that order
where   a point that the program must have for the line to count
Where several lines name the same point, the first line whose array is there counts.
steps   arrays of decode step n have steps.{n}. in front, as in our traces
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.comparison.sources import Item, Source
from refmoe.errors import TraceError, UsageError
from refmoe.program import Program

MAPS = Path(__file__).parent / "maps"
_FIELDS = {"theirs", "ours", "dims", "rope", "where"}
PERMUTED = ("llama", "mistral", "mixtral")  # families whose converter reorders wq and wk
_STEP = re.compile(r"(steps\.\d+\.)?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One line of a map."""

    pattern: re.Pattern[str]
    ours: tuple[str, ...]
    dims: str = ""
    rope: str = ""
    where: str = ""


@dataclass
class Named:
    """Recorded arrays by our names. `unknown` are names of theirs that no line of the map knows."""

    source: Source
    program: Program
    loaders: dict[str, tuple[Item, Entry | None, int]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self.loaders

    def load(self, name: str, rows: int) -> np.ndarray:
        """The array in our layout, `rows` rows. TraceError if its shape does not fit."""
        item, entry, part = self.loaders[name]
        return layout(item, entry, part, name, rows, self.program)


def known_maps() -> tuple[str, ...]:
    """The maps that come with the package."""
    return tuple(sorted(path.stem for path in MAPS.glob("*.json")))


def read_map(which: str | Path | None) -> list[Entry]:
    """The lines of a map by name or file; None is our own names. UsageError for what is not a map."""
    if which is None:
        return []
    path = MAPS / f"{which}.json" if str(which) in known_maps() else Path(which)
    if not path.is_file():
        raise UsageError(f"map: expected a file or one of {', '.join(known_maps())}, found {str(which)[:160]!r}")
    try:
        content = json.loads(path.read_text("utf-8"))
        return [_entry(line) for line in content["entries"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise UsageError(f"{path}: expected a map (entries of theirs and ours): {str(problem)[:160]}") from None


def _entry(line: dict[str, Any]) -> Entry:
    if not isinstance(line, dict) or not {"theirs", "ours"} <= line.keys() <= _FIELDS:
        raise ValueError(f"an entry has {', '.join(sorted(_FIELDS))}, found {str(line)[:80]}")
    words = re.split(r"(\{l\}|\*)", line["theirs"])
    pattern = "".join({"{l}": r"(?P<l>\d+)", "*": ".*"}.get(word, re.escape(word)) for word in words)
    ours = tuple(line["ours"]) if isinstance(line["ours"], list) else (line["ours"],)
    if line.get("rope", "") not in ("", "pairs", "gguf"):
        raise ValueError(f'rope: expected "pairs" or "gguf", found {line["rope"]!r}')
    return Entry(re.compile(pattern), ours, *(line.get(key, "") for key in ("dims", "rope", "where")))


def parts(program: Program) -> list[tuple[str, tuple[Any, ...]]]:
    """Head, layers and tail: (prefix of names, steps)."""
    layers = [(f"layers.{n}.", program.blocks[kind]) for n, kind in enumerate(program.kinds)]
    return [("", program.head), *layers, ("", program.tail)]


def name_all(source: Source, entries: list[Entry], program: Program) -> Named:
    """Our name of every array of a source."""
    named, known, ranks = Named(source, program), program.points, dict[str, int]()
    for item in source.items.values():
        prefix, plain = _STEP.fullmatch(item.name).groups()  # type: ignore[union-attr]
        if plain in known and not entries:
            named.loaders[item.name] = (item, None, 0)
            continue
        for rank, entry in enumerate(entries):
            match = entry.pattern.fullmatch(plain) or entry.pattern.fullmatch(plain.removesuffix(".0"))
            if match and entry.where and not _first(entry.where, match, known):
                continue
            targets = [_first(word, match, known) for word in entry.ours] if match else [None]
            if all(targets):
                for part, target in enumerate(targets):
                    name = f"{prefix or ''}{target}"
                    if ranks.get(name, len(entries)) > rank:
                        named.loaders[name], ranks[name] = (item, entry, part), rank
                break
        else:
            named.unknown.append(item.name)
    return named


def _first(words: str, match: re.Match[str], known: dict[str, Any]) -> str | None:
    """The first of several names that the program has."""
    layer = match.groupdict().get("l")
    for word in words.split("|"):
        name = word.strip().replace("{l}", str(int(layer)) if layer else "")
        if name in known:
            return name
    return None


def width(name: str, program: Program) -> int:
    """Numbers of one row of a point."""
    plain = _STEP.fullmatch(name)[2]  # type: ignore[index]
    shape = program.points[plain][1]
    return int(np.prod([_size(axis, program) for axis in shape.partition("[")[2].rstrip("]").split(",")[1:]]))


def _size(axis: str, program: Program) -> int:
    """A printed axis in numbers: N*D, R+Q, 2*M, 1."""
    size = 0
    for term in axis.split("+"):
        product = 1
        for factor in re.split(r"\*", term):
            number, _, divisor = factor.partition("/")
            product *= int(number) if number.isdigit() else int(program.dims[number])
            product //= int(divisor or 1)
        size += product
    return size


def layout(item: Item, entry: Entry | None, part: int, name: str, rows: int, program: Program) -> np.ndarray:
    """An array in our layout: [rows, width], or [rows, K, width] for what every chosen expert has."""
    own = width(name, program)
    if np.prod(item.shape, dtype=float) > 1024.0 * max(rows, 1) * own:  # before it is read: it may be anything
        raise _misfit(item, name, [rows, own])
    array = item.load()
    shape = program.points[_STEP.fullmatch(name)[2]][1].count(",")  # type: ignore[index]
    if entry is not None and entry.dims:
        array = _axes(array, entry.dims, item)
    array = array.reshape(rows, -1) if rows and array.size % rows == 0 else array
    if entry is not None and len(entry.ours) > 1:
        every = int(program.dims["K"]) if shape > 1 else 1  # fused for each chosen expert
        widths = [width(_first_of(word, program), program) // every for word in entry.ours]
        if array.shape[-1] != sum(widths) * every:
            raise _misfit(item, name, [rows, sum(widths) * every])
        start = sum(widths[:part])
        array = array.reshape(rows * every, -1)[:, start : start + widths[part]].reshape(rows, -1)
    if array.shape != (rows, own):
        raise _misfit(item, name, [rows, own])
    if name.endswith("route_ids"):
        if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.floor(array)).all()):
            raise TraceError(f"{item.name[:160]}: expected expert ids, found numbers that are not whole")
        array = array.astype(np.int64)
    elif array.dtype.kind != "f":
        raise TraceError(f"{item.name[:160]}: expected floating-point numbers for {name}, found integers")
    if entry is not None and (entry.rope == "pairs" or (entry.rope == "gguf" and program.arch in PERMUTED)):
        array = _repaired(array, program, name)
    return np.ascontiguousarray(array.reshape(rows, int(program.dims["K"]), -1) if shape > 1 else array)


def _first_of(words: str, program: Program) -> str:
    known = program.points
    for word in words.split("|"):
        for layer in range(len(program.kinds)):
            if (name := word.strip().replace("{l}", str(layer))) in known:
                return name
    raise TraceError(f"map: {words[:80]}: expected a point of the program, found none")


def _axes(array: np.ndarray, dims: str, item: Item) -> np.ndarray:
    letters = dims.split()
    if len(letters) != array.ndim or "t" not in letters:
        raise TraceError(f"{item.name[:160]}: expected the axes {dims!r}, found shape {list(array.shape)}")
    order = [letters.index("t"), *(n for n, word in enumerate(letters) if word == "k"),
             *(n for n, word in enumerate(letters) if word not in ("t", "k"))]  # fmt: skip
    return array.transpose(order)


def _repaired(array: np.ndarray, program: Program, name: str) -> np.ndarray:
    """Rotated numbers of every head: neighbours to halves if the program has halves, else the other way round."""
    op = program.points[_STEP.fullmatch(name)[2]][0]  # type: ignore[index]
    size = int(next(iter(program.tables.values()))["head_dim"])
    pairs = (2, size // 2) if op == "rope_pairs" else (size // 2, 2)
    return array.reshape(array.shape[0], -1, *pairs).swapaxes(-1, -2).reshape(array.shape)


def _misfit(item: Item, name: str, expected: list[int]) -> TraceError:
    return TraceError(f"{item.name[:160]}: shape: expected {expected} for {name}, found {list(item.shape)}")
