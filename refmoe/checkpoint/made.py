"""Tensors that a file does not hold as the programs want them, made of those it holds.

latent      [N*(P+U), R] in F32 of the key half [N, R, P], stored the other way round, and the value half [N, U, R]:
            for each head P rows of keys, then U rows of values, decoded exactly. It is read once into memory, where it
            takes four bytes for each weight; in published models that is less than a hundredth of all weights.
alternate   two tensors of one shape and type in turn: row 2i of the first, 2i + 1 of the second; along the last axis
            where they hold the biases [E, M] of all experts
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from refmoe.checkpoint.gguf import BLOCKS
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.strict_json import show
from refmoe.errors import CheckpointError


def _columns(info: TensorInfo) -> int:
    """Elements of a row."""
    elements, size = BLOCKS[info.dtype]
    return info.shape[-1] // size * elements if elements > 1 else info.shape[-1]


def latent(name: str, keys: TensorInfo, values: TensorInfo) -> TensorInfo:
    """The matrix that expands latents into keys and values; CheckpointError if the halves do not fit together."""
    shapes = [(*info.shape[:-1], _columns(info)) for info in (keys, values)]
    if any(len(shape) != 3 for shape in shapes) or shapes[0][:2] != (shapes[1][0], shapes[1][2]):
        found = f"{list(shapes[0])} and {list(shapes[1])}"
        raise CheckpointError(f"{show(keys.file)}: {show(keys.name)} and {show(values.name)}: expected [heads, rank, "
                              f"width] and [heads, width, rank], found {found}")  # fmt: skip
    (heads, rank, width), (_, more, _) = shapes
    shape = (heads * (width + more), rank)
    return replace(keys, name=name, dtype="F32", shape=shape, nbytes=4 * prod(shape), parts=(keys, values),
                   made="latent")  # fmt: skip


def alternate(name: str, even: TensorInfo, odd: TensorInfo) -> TensorInfo:
    """Rows of both in turn; CheckpointError if they are not alike."""
    if (even.dtype, even.shape) != (odd.dtype, odd.shape):
        found = f"{even.dtype} {list(even.shape)} and {odd.dtype} {list(odd.shape)}"
        names = f"{show(even.name)} and {show(odd.name)}"
        raise CheckpointError(f"{show(even.file)}: {names}: expected one type and shape, found {found}")
    shape = (even.shape[0], 2 * even.shape[1]) if name.endswith("_bias") else (2 * even.shape[0], *even.shape[1:])
    return replace(even, name=name, shape=shape, nbytes=2 * even.nbytes, parts=(even, odd), made="alternate")


def join(info: TensorInfo, stored: Sequence[np.ndarray]) -> np.ndarray:
    """The bytes of a tensor from those of its parts."""
    if info.made == "alternate":
        count = prod(info.shape) // 2 if info.name.endswith("_bias") else info.shape[0] // 2
        rows = [raw.reshape(count, -1) for raw in stored]
        return np.stack(rows, axis=1).reshape(-1)
    keys, values = (_decoded(part, raw) for part, raw in zip(info.parts, stored, strict=True))
    whole = np.concatenate([keys.swapaxes(1, 2), values], axis=1)
    return np.ascontiguousarray(whole).reshape(-1).view(np.uint8)


def _decoded(info: TensorInfo, raw: np.ndarray) -> np.ndarray:
    """The f32 values of a stored tensor in its shape."""
    from refmoe import formats
    from refmoe.weight import Weight

    for name in formats.names():
        module = formats.get(name)
        if (module.suffixes, module.dtypes) == ((".weight",), (info.dtype,)):
            rows, cols = prod(info.shape[:-1]), _columns(info)
            return formats.decode(Weight(name, rows, cols, {".weight": raw})).reshape(*info.shape[:-1], cols)
    raise CheckpointError(f"{show(info.file)}: {show(info.name)}: type {info.dtype} is not supported for a matrix")
