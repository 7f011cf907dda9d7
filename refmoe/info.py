"""What a model is, from its config and headers alone: the facts behind `refmoe info` and `refmoe program`."""

import os
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

from refmoe import checkpoint, formats, program, program_text, suggested
from refmoe.checkpoint.directory import gguf_file, inside
from refmoe.checkpoint.safetensors import DTYPE_BITS
from refmoe.config.quantization import Quantization
from refmoe.errors import ConfigError, FormatError
from refmoe.quantize import sizes


def _config_of(location: str | os.PathLike[str] | None) -> Path:
    """The config.json of a model directory, or the .json file itself."""
    if location is not None and (path := Path(location)).suffix == ".json" and path.is_file():
        return path
    return inside(checkpoint.locate(location), "config.json", ConfigError)


def _gguf_of(location: str | os.PathLike[str] | None) -> Path | None:
    """The .gguf file that a model is, None for other models."""
    if location is not None and Path(location).suffix == ".json":
        return None
    return gguf_file(checkpoint.locate(location))


def place(location: str | os.PathLike[str] | None) -> tuple[Path, bool]:
    """What holds a model (a directory, a config file, a .gguf file), and whether there are weights."""
    if gguf := _gguf_of(location):
        return gguf, True
    config = _config_of(location)
    if location is not None and Path(location) == config:
        return config, False
    names = os.listdir(config.parent)
    return config.parent, any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names)


def program_of(location: str | os.PathLike[str] | None) -> program.Program:
    """The program of a model directory, of which only config.json is read, of a config file of any name, or of the
    headers of a GGUF model."""
    if _gguf_of(location):
        opened = checkpoint.open(location)
        return program.build(opened.config, opened.source)
    path = _config_of(location)
    return program.build(checkpoint.read_json(path, "the model's config"), str(path))


def describe(location: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Facts as plain JSON values: those of program_text.describe and, where there are safetensors files, `weights`.

    weights: stored bytes by format, `bytes_per_token` (read to decode one token: chosen experts only, one embedding
    row, vectors as f32), `roles` (role -> tensors, shape, format, bytes), `ignored` (tensor -> reason), `files`.
    None when the directory holds no weights; then nothing about tensors was checked, and `bytes_per_token_bf16` says
    what they would cost in bf16. memory: bytes of the weights (`weights_as`: "stored", or without weights as what they
    are estimated) and of the cache of one sequence that fills the context, in both of its types. quantised: the method
    and the encodings the config names, or None. quantize: for each encoding that `refmoe quantize` could write, the
    bytes of all weights then (`weights`, or with `experts_only`). suggested_sampling: what generation_config.json says.
    """
    built = program_of(location)
    path, weights = place(location)
    facts = {"path": str(path)} | program_text.describe(built)
    facts["quantised"] = _encodings(built.quantization)
    facts["suggested_sampling"] = suggested.sampling(path) if path.is_dir() else {}
    if not weights:
        try:
            facts |= {"memory": _memory(built, *_estimate(built)), "quantize": sizes.planned(built)}
        except FormatError as problem:  # an encoding that the matrices do not fit
            raise ConfigError(f"{path}: quantization_config: {problem}") from None
        return facts | {"weights": None, "bytes_per_token_bf16": round(built.bytes_per_token(2.0))}
    opened = checkpoint.open(location)
    claims = checkpoint.claim(opened, built)
    facts["memory"] = _memory(built, sum(claims.nbytes.values()) - claims.nbytes["ignored"], "stored")
    facts["quantize"] = sizes.planned(built, claims)
    if path.is_file():
        facts["metadata"] = dict(opened.metadata_report)
    return facts | {"weights": _weights(opened, built, claims)}


def _encodings(stated: Quantization | None) -> dict[str, Any] | None:
    if stated is None:
        return None
    schemes = [{"format": one.format, **one.params} for one in stated.schemes]
    return {"method": stated.method, "schemes": schemes}


def _estimate(built: program.Program) -> tuple[int, str]:
    """Bytes of the weights, and as what, when only the config is there: in bf16, but the experts (of a dense model the
    matrices of its layers) in the first encoding that the config names. Which other matrices are quantised the headers
    would say."""
    total = 2 * built.parameters()["total"]
    scheme = next((one for one in built.quantization.schemes if one.format in formats.names()), None) \
        if built.quantization else None
    if scheme is None:
        return total, "bf16"
    module, sizes = formats.get(scheme.format), dict[tuple[int, ...], int]()
    params = {name: scheme.params[name] for name in getattr(module, "params", ())}
    sparse = "E" in built.dims
    for one in built.expected():
        if one.tensor.kind == "matrix" and (one.expert is not None if sparse else one.layer is not None):
            if one.shape not in sizes:
                sizes[one.shape] = _stored(module, one.shape, params)
            total += sizes[one.shape] - 2 * prod(one.shape)
    return total, f"{scheme.format} in the {'experts' if sparse else 'layers'} and bf16 elsewhere"


def _stored(module: ModuleType, shape: tuple[int, ...], params: dict[str, Any]) -> int:
    """Bytes of a matrix in a format; where it leaves a choice, scales are bf16, shapes the first."""
    dtypes = dict(zip(module.suffixes, module.dtypes, strict=True)) | getattr(module, "extras", {})
    count = 0
    for suffix, stored in module.stored_shapes(*shape, **params).items():
        first = stored[0] if isinstance(stored, list) else stored
        if first is not None:
            kinds = dtypes[suffix].split("|")
            count += prod(first) * DTYPE_BITS["BF16" if "BF16" in kinds else kinds[0]] // 8
    return count


def _memory(built: program.Program, weights: int, stored_as: str) -> dict[str, Any]:
    """Bytes it takes to run: weights, and what one sequence of the whole context keeps."""
    numbers = built.context * sum(row.numbers for row in built.cache_rows())
    return {"weights": weights, "weights_as": stored_as, "cache_f32": 4 * numbers, "cache_bf16": 2 * numbers}


def _weights(opened: checkpoint.Checkpoint, built: program.Program, claims: checkpoint.Claims) -> dict[str, Any]:
    roles: dict[str, dict[str, Any]] = {}
    per_token = 4.0 * built.parameters()["vectors"]
    tail = built.roles_of("tail")
    for (role, _, expert), matrix in claims.matrices.items():
        size = sum(info.nbytes for info in matrix.parts.values())
        _count(roles, role, [matrix.rows, matrix.cols], matrix.format, size)
        looked_up = role in built.roles_of("head") and role not in tail
        share = built.dims["K"] / built.dims["E"] if expert is not None else 1.0
        per_token += size / matrix.rows if looked_up else size * share
        if role in built.roles_of("head") and role in tail:
            per_token += size / matrix.rows
    for (role, _, _), info in claims.vectors.items():
        _count(roles, role, list(info.shape), info.dtype.lower(), info.nbytes)
    return {
        "checkpoint_digest": opened.digest(),
        "bytes": dict(claims.nbytes),
        "bytes_per_token": round(per_token),
        "roles": roles,
        "ignored": dict(claims.ignored),
        "files": dict(opened.files),
        "unused_files": list(opened.unused_files),
    }


def _count(roles: dict[str, dict[str, Any]], role: str, shape: list[int], kind: str, size: int) -> None:
    entry = roles.setdefault(role, {"tensors": 0, "shape": shape, "formats": [], "bytes": 0})
    entry["tensors"] += 1
    entry["bytes"] += size
    if kind not in entry["formats"]:
        entry["formats"].append(kind)
