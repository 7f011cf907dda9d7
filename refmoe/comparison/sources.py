"""sources - recorded runs of any program, opened without reading them: names, shapes, and one array at a time.

A source is a .safetensors file, an .npz archive, or a folder of .safetensors, .npz, .npy and .bin files. A raw
<name>.bin has a <name>.json beside it, {"dtype": "f32", "shape": [7, 64]}; in a folder a file of one array is named
like the array (<name>.npy). Traces of refmoe bring their token ids in the metadata; others may hold an integer array
named ids, input_ids, tokens or inp_tokens. No pickle is opened.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.checkpoint import read, read_header
from refmoe.errors import RefmoeError, TraceError, UsageError
from refmoe.verifier import foreign

IDS = ("ids", "input_ids", "tokens", "inp_tokens")
MOST_FILES, MOST_IDS = 200_000, 1 << 22
_PICKLES = (".pt", ".pth", ".pkl", ".bin.index.json", ".ckpt")


@dataclass(frozen=True)
class Item:
    """One recorded array: its shape, and how to read it."""

    name: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]


@dataclass
class Source:
    """A recorded run. `ids` are the tokens of the prompt, `step_ids` those of decode steps, if it says so."""

    place: str
    items: dict[str, Item] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> list[int] | None:
        """The prompt. TraceError if what should be it are no whole numbers."""
        if isinstance(self.metadata.get("ids"), list):
            return self._whole("ids", self.metadata["ids"])
        for name in IDS:
            if name in self.items and len(self.items[name].shape) <= 2 and np.prod(self.items[name].shape) < MOST_IDS:
                return self._whole(name, np.ravel(self.items[name].load()).tolist())
        return None

    def _whole(self, name: str, listed: list[Any]) -> list[int]:
        for n, token in enumerate(listed):
            if isinstance(token, bool) or not isinstance(token, int | float) or token != token // 1:
                raise TraceError(f"{self.place}: {name}[{n}]: expected a token id, found {str(token)[:40]}")
        return [int(token) for token in listed]

    @property
    def step_ids(self) -> list[int]:
        """The ids of the decode steps."""
        found = self.metadata.get("step_ids")
        return self._whole("step_ids", found) if isinstance(found, list) else []

    def add(self, item: Item) -> None:
        """TraceError for a name that comes twice."""
        if item.name in self.items:
            raise TraceError(f"{self.place}: {item.name[:160]}: expected every array once, found it twice")
        self.items[item.name] = item


def open_source(place: str | Path) -> Source:
    """Headers only. UsageError if there is nothing, TraceError for what cannot be read."""
    path = Path(place)
    source = Source(str(place))
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())[: MOST_FILES + 1]
        if len(files) > MOST_FILES:
            raise TraceError(f"{path}: expected at most {MOST_FILES} files, found more")
        for file in files:
            _add(source, file, file.relative_to(path).with_suffix("").as_posix())
        if not source.items:
            odd = next((file.name for file in files if file.name.endswith(_PICKLES)), None)
            found = f"{odd}, which is a pickle and is not opened: save it as safetensors" if odd else "nothing of these"
            raise UsageError(f"{path}: expected .safetensors, .npz, .npy or .bin with .json, found {found}")
        return source
    if not path.is_file():
        raise UsageError(f"{path}: expected a recorded run, found no such file or folder")
    if not _add(source, path, path.stem):
        raise UsageError(f"{path}: expected .safetensors, .npz, or a folder, found {path.suffix or 'no suffix'}")
    return source


def _add(source: Source, path: Path, name: str) -> bool:
    if path.suffix == ".safetensors":
        _safetensors(source, path)
    elif path.suffix == ".npz":
        for item in _npz(path):
            source.add(item)
    elif path.suffix == ".npy":
        source.add(Item(name, _npy_shape(path), lambda: _plain(foreign._npy(path))))
    elif path.suffix == ".bin" and path.with_suffix(".json").is_file():
        source.add(_raw(path, name))
    else:
        return False
    return True


def _safetensors(source: Source, path: Path) -> None:
    try:
        header = read_header(path)
    except RefmoeError as problem:
        raise TraceError(str(problem)) from None
    for key, text in header.metadata.items():
        if key in ("kind", "ids", "step_ids", "program_digest", "checkpoint_digest", "kv_dtype", "activations"):
            try:
                source.metadata.setdefault(key, json.loads(text))
            except ValueError:
                source.metadata.setdefault(key, text)
    for info in header.tensors.values():
        source.add(Item(info.name, info.shape, _reader(path, info)))


def _reader(path: Path, info: Any) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        try:
            (raw,) = read([info])
        except RefmoeError as problem:
            raise TraceError(str(problem)) from None
        return _plain(foreign._typed(raw, info.dtype, info.shape, f"{path}: {info.name}"))

    return load


def _npz(path: Path) -> Iterator[Item]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if info.filename.endswith(".npy")]
            for name in names:
                with archive.open(name) as file:
                    shape = _header(file, f"{path}: {name}")
                yield Item(name.removesuffix(".npy"), shape, _member(path, name))
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as problem:
        raise TraceError(f"{path}: expected an npz archive: {problem}") from None


def _member(path: Path, name: str) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return _plain(foreign._stream(file, archive.getinfo(name).file_size, f"{path}: {name}"))

    return load


def _npy_shape(path: Path) -> tuple[int, ...]:
    with path.open("rb") as file:
        return _header(file, str(path))


def _header(file: Any, where: str) -> tuple[int, ...]:
    try:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        return tuple(reader(file)[0])
    except (ValueError, KeyError, SyntaxError) as problem:
        raise TraceError(f"{where}: expected an npy array: {str(problem)[:160]}") from None


def _raw(path: Path, name: str) -> Item:
    note = path.with_suffix(".json")
    try:
        facts = json.loads(note.read_text("utf-8") if note.stat().st_size < 1 << 16 else "")
        dtype, shape = facts["dtype"], tuple(facts["shape"])
        if type(dtype) is not str or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
            raise ValueError("dtype must be a string, shape a list of numbers")
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise TraceError(f'{note}: expected {{"dtype": "f32", "shape": [...]}}: {str(problem)[:120]}') from None
    return Item(str(facts.get("name", name)), shape, lambda: _plain(foreign._raw(path, np.empty(0, np.float32))))


def _plain(array: np.ndarray) -> np.ndarray:
    """f32 or i64."""
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    return array if array.dtype == np.float32 else array.astype(np.float32)


def natural(name: str) -> list[Any]:
    """A key that sorts layer 10 behind layer 9."""
    return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", name)]


# Results of a layer in the order in which they are computed, for runs that come without their program.
ORDER = (
    "embed", "attn_norm", "q_a", "q_a_norm", "q", "kv_a", "k", "v", "q_norm", "k_norm", "q_clip", "k_clip",
    "v_clip", "q_nope", "q_pe", "latent", "k_pe", "kv_a_norm", "q_rope", "k_rope", "q_latent", "attn_latent",
    "attn", "o", "attn_out", "ffn_norm", "gate", "up", "act", "down", "router_logits", "route_ids", "route_weights",
    "expert_gate_up", "expert_gate", "expert_up", "expert_act", "expert_down", "combine", "shared_gate_logit",
    "shared_gate", "shared_up", "shared_act", "shared_down", "shared", "moe", "ffn_out", "final_norm", "logits",
)  # fmt: skip


def executed(name: str) -> tuple[Any, ...]:
    """A key that sorts our points in the order of execution: the prompt, then decode steps; layer by layer."""
    match = re.fullmatch(r"(?:steps\.(\d+)\.)?(?:layers\.(\d+)\.)?(\w+)", name)
    if match is None:
        return (1 << 30, 0, 0, name)
    step, layer, word = match.groups()
    place = ORDER.index(word) if word in ORDER else len(ORDER) - 3
    depth = int(layer) if layer else -1 if word == "embed" else 1 << 30
    return (int(step) + 1 if step else 0, depth, place, name)
