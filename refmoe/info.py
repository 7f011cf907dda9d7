"""What a model is, from its config and headers alone: the facts behind `refmoe info` and `refmoe program`."""

import os
from typing import Any

from refmoe import checkpoint, program, program_text
from refmoe.checkpoint.directory import inside
from refmoe.errors import ConfigError


def program_of(location: str | os.PathLike[str] | None) -> program.Program:
    """The program of a model directory; only its config.json is read."""
    path = inside(checkpoint.locate(location), "config.json", ConfigError)
    return program.build(checkpoint.read_json(path, "the model's config"), str(path))


def describe(location: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Facts as plain JSON values: those of program_text.describe and, where there are safetensors files, `weights`.

    weights: stored bytes by format, `bytes_per_token` (read to decode one token: chosen experts only, one embedding
    row, vectors as f32), `roles` (role -> tensors, shape, format, bytes), `ignored` (tensor -> reason), `files`.
    None when the directory holds no weights; then nothing about tensors was checked, and `bytes_per_token_bf16` says
    what they would cost in bf16.
    """
    path = checkpoint.locate(location)
    built = program_of(location)
    facts = {"path": str(path)} | program_text.describe(built)
    if not any(name.endswith((".safetensors", ".safetensors.index.json")) for name in os.listdir(path)):
        return facts | {"weights": None, "bytes_per_token_bf16": round(built.bytes_per_token(2.0))}
    opened = checkpoint.open(location)
    claims = checkpoint.claim(opened, built)
    return facts | {"weights": _weights(opened, built, claims)}


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
