"""Loading: the claimed tensors into memory once, in their stored form; vectors widened to binary32."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import formats
from refmoe.checkpoint.claims import Claims, Key
from refmoe.checkpoint.matrices import Matrix
from refmoe.checkpoint.reading import THREADS, Progress, read, same_bytes
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.stacked import in_rows
from refmoe.checkpoint.strict_json import show
from refmoe.errors import CheckpointError
from refmoe.weight import Weight

Loaded = dict[tuple[str, int | None], Any]  # Weight, np.ndarray, or a list of one of them


def load(claims: Claims, progress: Progress | None = None) -> Loaded:
    """(role, layer or None) -> Weight, f32 vector, or a list of these in expert order.

    Matrices keep their stored bytes, all in one arena; a tensor claimed twice is read once. NaN and inf are loaded.
    `progress(done_bytes, total_bytes)`. CheckpointError when memory does not suffice or a file changed.
    """
    matrix_infos = _unique(info for matrix in claims.matrices.values() for info in matrix.parts.values())
    vector_infos = _unique(claims.vectors.values())
    vector_bytes, matrix_bytes = (sum(info.nbytes for info in infos) for infos in (vector_infos, matrix_infos))
    _check_memory(claims.checkpoint.path, matrix_bytes + 2 * vector_bytes)

    def report(done: int) -> None:
        if progress:
            progress(done, vector_bytes + matrix_bytes)

    vectors = _named(vector_infos, lambda done, _: report(done))
    parts = _named(matrix_infos, lambda done, _: report(vector_bytes + done))
    for info in matrix_infos:
        in_rows(info, parts[info.name])
    for name, (info, original) in claims.copies.items():
        if not same_bytes(info, parts[original.name]):
            raise CheckpointError(f"{show(info.file)}: tensor {show(name)} must equal {original.name} by the config")
    for info in claims.zeros:
        if read([info])[0].any():
            raise CheckpointError(f"{show(info.file)}: tensor {show(info.name)}: expected zeros (the model has no such "
                                  "bias), found other values")  # fmt: skip
    found: dict[Key, Any] = {key: widened(info, vectors[info.name]) for key, info in claims.vectors.items()}
    made: dict[tuple[str, ...], Weight] = {}
    for matrix in claims.matrices.values():
        stored = {suffix: parts[info.name] for suffix, info in matrix.parts.items()}
        weight = Weight(matrix.format, matrix.rows, matrix.cols, stored, matrix.params)
        if problem := formats.check(weight):
            suffix, text = problem
            info = matrix.parts[suffix]
            raise CheckpointError(f"{show(info.file)}: tensor {show(info.name)}: {text}")
        made[_place(matrix)] = weight
    others = {place: weight for place, weight in made.items() if hasattr(formats.get(weight.format), "in_rows")}
    with ThreadPoolExecutor(THREADS) as pool:
        turned = pool.map(lambda weight: formats.in_rows(weight, in_place=True), others.values())
        made |= zip(others, turned, strict=True)
    found |= {key: made[_place(matrix)] for key, matrix in claims.matrices.items()}
    weights: Loaded = {}
    for (role, layer, expert), value in found.items():  # experts come in id order
        if expert is None:
            weights[role, layer] = value
        else:
            weights.setdefault((role, layer), []).append(value)
    return weights


def _place(matrix: Matrix) -> tuple[str, ...]:
    """The names of its tensors."""
    return tuple(info.name for info in matrix.parts.values())


def available_memory() -> int | None:
    """Bytes that can be taken without swapping, as far as the system tells; None when it does not."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _check_memory(path: Path, needed: int) -> None:
    available = available_memory()
    if available is not None and needed > available:
        raise CheckpointError(
            f"{show(path)}: the weights need {needed / 2**30:.1f} GiB of memory, "
            f"{available / 2**30:.1f} GiB are available"
        )


def _unique(infos: Iterable[TensorInfo]) -> list[TensorInfo]:
    return list({info.name: info for info in infos}.values())


def _named(infos: list[TensorInfo], progress: Progress) -> dict[str, np.ndarray]:
    return {info.name: part for info, part in zip(infos, read(infos, progress), strict=True)}


def widened(info: TensorInfo, raw: np.ndarray) -> np.ndarray:
    """The f32 values of a stored vector in its shape."""
    if info.dtype == "F32":
        return raw.view("<f4").reshape(info.shape)
    from refmoe.numerics.codecs import bf16_to_f32, f16_to_f32  # here: headers are read without waiting for Numba

    wide: np.ndarray = (bf16_to_f32 if info.dtype == "BF16" else f16_to_f32)(raw.view("<u2"))
    return wide.reshape(info.shape)
