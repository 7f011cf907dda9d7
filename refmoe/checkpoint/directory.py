"""Where a model lies and what is in it: a directory, a hub id in the local cache, a .gguf file, or the embedded demo.

Nothing here touches the network, opens a pickle, or leaves the model directory: shard names in an index are plain file
names, and symbolic links may lead out of the directory only into the blob store of a Hugging Face cache.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refmoe.checkpoint.gguf import Value
from refmoe.checkpoint.gguf_config import as_config
from refmoe.checkpoint.gguf_files import SUFFIX, choose, open_files
from refmoe.checkpoint.gguf_names import renamed
from refmoe.checkpoint.reading import Look, Progress, sha256_each
from refmoe.checkpoint.safetensors import Header, TensorInfo, read_header
from refmoe.checkpoint.strict_json import open_regular, read_json, show, some
from refmoe.errors import CheckpointError, ConfigError, RefmoeError

EMBEDDED = Path(__file__).parents[1] / "demo"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_INDEX = 64 << 20  # bytes; an index of 139,644 tensors has about 13 MB
_HUB_ID = re.compile(r"(?=.{1,96}$)(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"(?=.{1,200}$)[A-Za-z0-9][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """A model directory or .gguf file whose headers were read and checked; no tensor data yet.

    `files` maps shard names to sizes in bytes; `unused_files` are safetensors files that the index does not name.
    `metadata` is that of GGUF, `metadata_report` what became of it (key -> (used | assumed | ignored, reason)): both
    empty for a directory of safetensors. `source` is the file that errors about the config name.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    files: dict[str, int]
    unused_files: tuple[str, ...]
    metadata: dict[str, Value] = field(default_factory=dict)
    metadata_report: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def source(self) -> str:
        return str(self.path if self.metadata else self.path / "config.json")

    def file(self, name: str) -> Path | None:
        """The path of another file of the model (tokenizer.json, ...), None when there is none."""
        if self.metadata:
            return None
        return inside(self.path, name) if os.path.lexists(self.path / name) else None

    def digest(self) -> str:
        """sha256 (hex) over the config and every header entry (name, dtype, shape, shard): what, not the values."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for name in sorted(self.tensors):
            info = self.tensors[name]
            digest.update(f"{name}\0{info.dtype}\0{list(info.shape)}\0{info.file.name}\n".encode())
        return digest.hexdigest()

    def content_digest(self, progress: Progress | None = None, look: Look | None = None) -> str:
        """sha256 (hex) over lines `name dtype shape sha256-of-bytes` sorted by name; shards do not matter.

        `look(info, piece)` is shown all the bytes on the way."""
        infos = [self.tensors[name] for name in sorted(self.tensors)]
        digest = hashlib.sha256()
        for info, content in zip(infos, sha256_each(infos, progress, look), strict=True):
            digest.update(f"{info.name}\0{info.dtype}\0{list(info.shape)}\0{content}\n".encode())
        return digest.hexdigest()


def open_checkpoint(location: str | os.PathLike[str] | None) -> Checkpoint:
    """Locate a model and read its config and headers. CheckpointError, ConfigError or FormatError in one line."""
    path = locate(location)
    if gguf := gguf_file(path):
        model = open_files(gguf)
        config, report = as_config(model)
        tensors = renamed(model, config)
        return Checkpoint(model.path, config, tensors, model.files, (), model.metadata, report)
    headers, unused = _headers(path)
    config = read_json(inside(path, "config.json", ConfigError), "the model's config")
    tensors = {name: info for header in headers for name, info in header.tensors.items()}
    return Checkpoint(path, config, tensors, {header.file.name: header.size for header in headers}, unused)


def locate(location: str | os.PathLike[str] | None) -> Path:
    """The directory or .gguf file meant by a path, a hub id `org/name[@revision]` in the local cache, or None (the
    embedded demo)."""
    if location is None:
        if not EMBEDDED.is_dir():
            raise CheckpointError(f"{show(EMBEDDED)}: the embedded model is missing from this installation")
        return EMBEDDED
    text = os.path.expanduser(os.fsdecode(location))
    if os.path.isdir(text):
        return Path(text)
    if os.path.lexists(text):
        if text.lower().endswith(SUFFIX):
            return Path(text)
        raise CheckpointError(f"{show(Path(text))}: not a directory; give the directory that holds config.json")
    name, at, revision = text.partition("@")
    if isinstance(location, os.PathLike) or not _HUB_ID.fullmatch(name) or ".." in name or "--" in name:
        raise CheckpointError(f"{show(text)}: no such directory, and not a hub id of the form org/name")
    return _cached(name, revision if at else "main")


def hub_cache() -> Path:
    """The Hugging Face cache of this machine, by the same environment variables that `hf download` obeys."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(os.path.expanduser(cache)))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(base, "huggingface")
    return Path(os.path.expandvars(os.path.expanduser(home))) / "hub"


def _cached(name: str, revision: str) -> Path:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise CheckpointError(f"{name}: revision {show(revision)} is not a branch, tag or commit name")
    folder = hub_cache() / f"models--{name.replace('/', '--')}"
    commit, reference = revision, folder / "refs" / revision
    if os.path.isfile(reference):
        with open_regular(reference, CheckpointError) as file:
            commit = file.read(200).decode("ascii", "replace").strip()
        if not re.fullmatch(r"[0-9A-Za-z]+", commit, re.ASCII):
            raise CheckpointError(f"{show(reference)}: must hold a commit id, found {show(commit)}")
    snapshot = folder / "snapshots" / commit
    if os.path.isdir(snapshot):
        return snapshot
    option = "" if revision == "main" else f" --revision {revision}"
    raise CheckpointError(
        f"{name}: no directory of this name, and not in the local cache (looked for {show(reference)} and "
        f"{show(snapshot)}); fetch it with `hf download {name}{option}`"
    )


def inside(directory: Path, name: str, error: type[RefmoeError] = CheckpointError) -> Path:
    """The path of file `name` of a model directory, refused when a symbolic link leads out of it.

    A Hugging Face cache keeps `models--org--name/snapshots/<commit>/file -> ../../blobs/<digest>`: such links are fine.
    """
    path = directory / name
    try:
        target = path.resolve()
    except (OSError, RuntimeError, ValueError):
        raise error(f"{show(path)}: a symbolic link that leads nowhere") from None
    store = target.parent
    blob = store.name == "blobs" and store.parent.name.startswith("models--")
    if not (target.is_relative_to(directory.resolve()) or blob):
        raise error(f"{show(path)}: a symbolic link out of the model directory, to {show(target)}")
    return path


def gguf_file(path: Path) -> Path | None:
    """The .gguf file that a located model is: itself, or the one in a directory without safetensors."""
    if not path.is_dir():
        return path
    names = _listing(path)
    found = [name for name in names if name.lower().endswith(SUFFIX)]
    if not found or any(name.endswith((".safetensors", INDEX)) for name in names):
        return None
    return inside(path, choose(path, found).name)


def _listing(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as problem:
        raise CheckpointError(f"{show(path)}: cannot be listed: {problem.strerror}") from None


def _headers(path: Path) -> tuple[list[Header], tuple[str, ...]]:
    listing = _listing(path)
    present = [name for name in listing if name.endswith(".safetensors")]
    if INDEX in listing:
        weight_map = _weight_map(path)
        names = sorted(set(weight_map.values()))
        if SINGLE in present and SINGLE not in names:
            raise CheckpointError(f"{show(path)}: holds {SINGLE} and {INDEX}, which does not name it: remove one")
        if missing := [name for name in names if name not in present]:
            raise CheckpointError(f"{show(path / INDEX)}: names shards that are not there: {some(missing)}")
    else:
        weight_map = None
        names = [SINGLE] if SINGLE in present else present
    if not names:
        raise _no_weights(path, listing)
    headers = [read_header(inside(path, name)) for name in names]
    _check_shards(path, headers, weight_map)
    return headers, tuple(name for name in present if name not in names)


def _weight_map(path: Path) -> dict[str, str]:
    file = inside(path, INDEX)
    weight_map = read_json(file, "the shard index", CheckpointError, MAX_INDEX).get("weight_map")
    if type(weight_map) is not dict or not weight_map:
        found = "an empty object" if weight_map == {} else type(weight_map).__name__
        raise CheckpointError(f"{show(file)}: weight_map must be an object of tensor name: shard name, found {found}")
    for tensor, shard in weight_map.items():
        plain = type(shard) is str and shard.endswith(".safetensors") and not re.search(r"[/\\:\0]", shard)
        if not plain:
            raise CheckpointError(
                f"{show(file)}: tensor {show(tensor)}: expected a plain *.safetensors file name, found {show(shard)}"
            )
    return weight_map


def _check_shards(path: Path, headers: list[Header], weight_map: Mapping[str, str] | None) -> None:
    """Every tensor in exactly one shard, and in the one that the index (if there is one) says."""
    where: dict[str, str] = {}
    for header in headers:
        for name in header.tensors:
            shard = header.file.name
            if name in where:
                raise CheckpointError(
                    f"{show(path)}: tensor {show(name)} is in two files, {show(where[name])} and {show(shard)}"
                )
            where[name] = shard
    if weight_map is None:
        return
    index = show(path / INDEX)
    if missing := [name for name in weight_map if name not in where]:
        raise CheckpointError(f"{index}: names {len(missing)} tensors that no shard has: {some(missing)}")
    if extra := [name for name in where if name not in weight_map]:
        raise CheckpointError(f"{index}: does not name {len(extra)} tensors of its shards: {some(extra)}")
    for name, shard in weight_map.items():
        if where[name] != shard:
            raise CheckpointError(
                f"{index}: tensor {show(name)} should be in {show(shard)}, but is in {show(where[name])}"
            )


def _no_weights(path: Path, names: list[str]) -> RefmoeError:
    if pickles := [name for name in names if name.lower().endswith(_PICKLES)]:
        return CheckpointError(
            f"{show(path)}: no *.safetensors, only {some(pickles, 2)}: pickle files are never opened; get the "
            "safetensors version of the model"
        )
    config = "" if "config.json" in names else "no config.json, "
    return CheckpointError(f"{show(path)}: not a model: {config}no {SINGLE}, no {INDEX}, no other *.safetensors file")
