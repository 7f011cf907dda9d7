"""Writing GGUF files, version 3: header, then the tensors one after the other, each when its turn comes."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.checkpoint.gguf import TYPES
from refmoe.checkpoint.strict_json import show
from refmoe.checkpoint.writing import pieces, write_pieces
from refmoe.errors import CheckpointError

ALIGNMENT = 32
NUMBERS = {"uint8": 0, "int8": 1, "uint16": 2, "int16": 3, "uint32": 4, "int32": 5, "float32": 6, "bool": 7,
           "uint64": 10, "int64": 11, "float64": 12}  # fmt: skip
CODES = {name: (number, elements, size) for number, (name, elements, size) in TYPES.items()}


def write(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[str, Sequence[int], Any]]) -> None:
    """Write `name -> (type, shape, data)` in the order given; shape in elements, as NumPy has it; data is a buffer, an
    array, or a function that returns one or an iterator over several.

    Values of metadata: a str, a list of str, a NumPy array or scalar of the type that is meant, or a Python bool, int
    (u32, i32 below 0) or float (f32). The file appears complete or not at all. CheckpointError when data and shape
    disagree or writing fails.
    """
    path, infos, position, sizes = Path(path), b"", 0, {}
    for name, (kind, shape, _) in tensors.items():
        number, elements, size = CODES[kind]
        if not 1 <= len(shape) <= 4 or min(shape) < 1 or shape[-1] % elements:
            raise CheckpointError(f"{show(path)}: tensor {show(name)}: shape {list(shape)} does not fit type {kind}")
        dims = [int(n) for n in reversed(shape)]
        infos += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, position)
        sizes[name] = math.prod(dims) // elements * size
        position += sizes[name] + -sizes[name] % ALIGNMENT
    keys = b"".join(_string(key) + _value(path, key, value) for key, value in metadata.items())
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)) + keys + infos

    def buffers() -> Iterator[Any]:
        yield head + bytes(-len(head) % ALIGNMENT)
        for name, (_, _, data) in tensors.items():
            yield from pieces(path, name, sizes[name], data)
            yield bytes(-sizes[name] % ALIGNMENT)

    write_pieces(path, buffers())


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(path: Path, key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    if type(value) in (bool, int, float):
        small = {bool: np.bool_, float: np.float32, int: np.uint32 if value >= 0 else np.int32}
        try:
            value = small[type(value)](value)
        except OverflowError:
            value = np.int64(value)
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.name not in NUMBERS or value.ndim > 1:
        raise CheckpointError(f"{show(path)}: key {show(key)}: a value of type {type(value).__name__} has no form here")
    number, raw = NUMBERS[value.dtype.name], value.astype(value.dtype.newbyteorder("<")).tobytes()
    return struct.pack("<IIQ", 9, number, value.size) + raw if value.ndim else struct.pack("<I", number) + raw
