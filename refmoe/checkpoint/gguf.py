"""GGUF files, versions 2 and 3, little-endian: strict headers; every count is bounded before anything follows from it.

A file is "GGUF", u32 version, u64 tensors, u64 keys; for each key a string, u32 type, value; for each tensor a string,
u32 n_dims, u64 dims (fastest first), u32 type, u64 offset; then, from a multiple of general.alignment (32) on, the
data. A string is u64 length and UTF-8. An array is u32 type, u64 count, values; arrays of arrays are refused.
Tensors follow each other in some order without overlap, with less than one alignment of padding between them.
"""

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.strict_json import open_regular, show, what_else
from refmoe.errors import CheckpointError, FormatError

MAX_HEADER = 100 << 20  # bytes; the header of a model with 164,000 tokens and as many merges has about 8 MB
MAX_STRINGS = 3_000_000  # in all arrays together
MAX_KEYS, MAX_TENSORS, MAX_DIMS = 10_000, 200_000, 4
MAX_NAME = 1_000  # bytes of a key or of the name of a tensor
CHUNK = 4 << 20
Value = int | float | bool | str | list[str] | np.ndarray

# type number -> name, elements of a block, bytes of a block
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
BLOCKS = {name: (elements, size) for name, elements, size in TYPES.values()}
_REMOVED = {4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4"}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Gguf:
    """A checked header. `tensors` have the shapes that NumPy would show, the last axis of a block type in bytes."""

    file: Path
    size: int
    version: int
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]


def read_header(path: Path) -> Gguf:
    """Read and check one header. CheckpointError names the file, the key or tensor, expected and found."""
    path = Path(path)
    with open_regular(path, CheckpointError) as file:
        status = os.fstat(file.fileno())
        cursor = _Cursor(path, file, status.st_size)
        version, count, keys = _start(cursor)
        metadata: dict[str, Value] = {}
        for n in range(keys):
            key = cursor.name(f"key {n}")
            if key in metadata:
                raise cursor.error(f"key {show(key)} appears twice")
            metadata[key] = _value(cursor, key, cursor.scalar("<I", f"the type of key {show(key)}"))
        entries = [_entry(cursor, n) for n in range(count)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.error(f"general.alignment must be a power of two, found {show(alignment)}")
    data = -(-cursor.position // alignment) * alignment
    stamp = (status.st_size, status.st_mtime_ns)
    tensors: dict[str, TensorInfo] = {}
    for name, dtype, shape, offset, nbytes in entries:
        if name in tensors:
            raise cursor.error(f"tensor {show(name)} appears twice")
        if offset % alignment:
            raise cursor.error(f"tensor {show(name)}: offset {offset} is no multiple of the alignment {alignment}")
        tensors[name] = TensorInfo(name, dtype, shape, path, data + offset, nbytes, stamp)
    _check_layout(path, tensors, data, alignment, status.st_size)
    return Gguf(path, status.st_size, version, metadata, tensors)


class _Cursor:
    """The bytes of a file from the front; nothing is taken that the file does not have."""

    def __init__(self, path: Path, file: FileIO, size: int):
        self.path, self.size, self.position = path, size, 0
        self.strings = 0
        self._file, self._buffer, self._start = file, b"", 0  # the buffer begins at byte `_start` of the file

    def error(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{show(self.path)}: {problem}")

    def check(self, count: int, what: str) -> None:
        """Refuse `count` bytes more than the file or the limit has."""
        end = self.position + count
        if end > self.size:
            found = f"{show(end)} bytes, the file has {self.size}"
            raise self.error(f"truncated: {what} at byte {self.position} needs {found}")
        if end > MAX_HEADER:
            raise self.error(f"the header has more than {MAX_HEADER} bytes ({what} at byte {self.position})")

    def take(self, count: int, what: str) -> memoryview:
        """The next `count` bytes."""
        self.check(count, what)
        low = self.position - self._start
        if low + count > len(self._buffer):
            wanted = min(max(count, CHUNK), self.size - self.position)
            self._file.seek(self.position)
            parts, missing = [], wanted
            while missing and (part := self._file.read(missing)):
                parts.append(part)
                missing -= len(part)
            self._buffer, self._start, low = b"".join(parts), self.position, 0
            if len(self._buffer) < count:
                raise self.error(f"shrank while it was read: {wanted} bytes wanted, {len(self._buffer)} there")
        self.position += count
        return memoryview(self._buffer)[low : low + count]

    def buffered(self) -> tuple[bytes, int]:
        """Bytes already read, and where in them the position is."""
        return self._buffer, self.position - self._start

    def scalar(self, code: str, what: str) -> Any:
        """A number in `struct` code."""
        return struct.unpack(code, self.take(struct.calcsize(code), what))[0]

    def string(self, what: str) -> str:
        """u64 length and UTF-8."""
        length = self.scalar("<Q", f"the length of {what}")
        raw = self.take(length, what)
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as problem:
            raise self.error(f"{what} is not UTF-8 at byte {problem.start} of it") from None

    def name(self, what: str) -> str:
        """A short string that is not empty."""
        text = self.string(what)
        if not 0 < len(text) <= MAX_NAME:
            raise self.error(f"the name of {what} has {len(text)} characters, 1 to {MAX_NAME} are allowed")
        return text


def _start(cursor: _Cursor) -> tuple[int, int, int]:
    """(version, tensors, keys) after the magic."""
    head = bytes(cursor.take(min(cursor.size, 200), "the start"))
    cursor.position = 0
    if head[:4] != b"GGUF":
        other = what_else(head)
        raise cursor.error(f"this is {other}" if other else f"must begin with b'GGUF', found {head[:4]!r}")
    cursor.take(4, "the magic")
    version = cursor.scalar("<I", "the version")
    if version in (2 << 24, 3 << 24):
        raise FormatError(f"{show(cursor.path)}: a big-endian GGUF file; only little-endian ones are read")
    if version not in (2, 3):
        raise FormatError(f"{show(cursor.path)}: GGUF version must be 2 or 3, found {version}")
    count, keys = cursor.scalar("<Q", "the number of tensors"), cursor.scalar("<Q", "the number of keys")
    left = cursor.size - cursor.position
    for number, what, smallest, most in ((keys, "keys", 13, MAX_KEYS), (count, "tensors", 33, MAX_TENSORS)):
        if number > most:
            raise cursor.error(f"states {show(number)} {what}; at most {most} are read")
        if number * smallest > left:
            raise cursor.error(f"states {show(number)} {what}, of at least {smallest} bytes each; {left} bytes follow")
    return version, count, keys


def _value(cursor: _Cursor, key: str, kind: int) -> Value:
    what = f"key {show(key)}"
    if kind == _STRING:
        return cursor.string(what)
    if kind == _ARRAY:
        return _array(cursor, what)
    if kind not in _SCALARS:
        raise cursor.error(f"{what}: value type must be from 0 to 12, found {kind}")
    if kind == 7 and (byte := cursor.scalar("<B", what)) > 1:
        raise cursor.error(f"{what}: a bool must be 0 or 1, found {byte}")
    if kind == 7:
        return bool(byte)
    value: int | float = cursor.scalar(_SCALARS[kind], what)
    if isinstance(value, float) and not math.isfinite(value):
        raise cursor.error(f"{what}: must be a finite number, found {value}")
    return value


def _array(cursor: _Cursor, what: str) -> Value:
    """A list of strings, or a NumPy array of numbers."""
    kind, count = cursor.scalar("<I", what), cursor.scalar("<Q", what)
    if kind == _STRING:
        cursor.strings += count
        if cursor.strings > MAX_STRINGS:
            raise cursor.error(f"{what}: {show(count)} strings; at most {MAX_STRINGS} are read in one file")
        cursor.check(8 * count, f"{what}, {show(count)} strings,")
        return _strings(cursor, what, count)
    if kind not in _SCALARS:
        raise cursor.error(f"{what}: an array of type {kind}; numbers, bools and strings are read, nothing nested")
    size = struct.calcsize(_SCALARS[kind])
    raw = cursor.take(count * size, f"{what}, {show(count)} values,")
    values = np.frombuffer(raw, np.dtype(_SCALARS[kind].replace("?", "B").replace("<q", "<i8").replace("<Q", "<u8")))
    if kind == 7 and (values > 1).any():
        raise cursor.error(f"{what}: a bool must be 0 or 1, found {values.max()}")
    return values.astype(np.bool_) if kind == 7 else values.copy()  # else the whole chunk would stay in memory


def _strings(cursor: _Cursor, what: str, count: int) -> list[str]:
    """`count` strings: those that lie whole in the cursor's buffer in a short loop, the others one by one."""
    found: list[str] = []
    unpack = struct.Struct("<Q").unpack_from
    try:
        while len(found) < count:
            found.append(cursor.string(f"{what}: string {len(found)}"))
            buffer, low = cursor.buffered()
            while len(found) < count and low + 8 <= len(buffer):
                end = low + 8 + unpack(buffer, low)[0]
                if end > len(buffer):
                    break
                found.append(buffer[low + 8 : end].decode())
                cursor.position += end - low
                low = end
    except UnicodeDecodeError as problem:
        raise cursor.error(f"{what}: string {len(found)} is not UTF-8 at byte {problem.start} of it") from None
    return found


def _entry(cursor: _Cursor, n: int) -> tuple[str, str, tuple[int, ...], int, int]:
    """(name, dtype, shape, offset in the data, bytes) of tensor number n."""
    name = cursor.name(f"tensor {n}")

    def refuse(problem: str) -> CheckpointError:
        return cursor.error(f"tensor {show(name)}: {problem}")

    rank = cursor.scalar("<I", f"tensor {show(name)}")
    if not 1 <= rank <= MAX_DIMS:
        raise refuse(f"must have 1 to {MAX_DIMS} dimensions, found {rank}")
    dims = struct.unpack(f"<{rank}Q", cursor.take(8 * rank, f"tensor {show(name)}"))
    kind, offset = cursor.scalar("<I", f"tensor {show(name)}"), cursor.scalar("<Q", f"tensor {show(name)}")
    if kind in _REMOVED:
        raise refuse(f"type {_REMOVED[kind]} was removed from the format")
    if kind not in TYPES:
        raise refuse(f"type {kind} is unknown, known are {', '.join(t[0] for t in TYPES.values())}")
    dtype, elements, size = TYPES[kind]
    if 0 in dims:
        raise refuse(f"no dimension may be 0, found {show(list(dims))}")
    if math.prod(dims) >= 1 << 60:
        raise refuse(f"dimensions {show(list(dims))} are too large for any file")
    if dims[0] % elements:
        raise refuse(f"rows of {dims[0]} elements are no multiple of the {elements} of a {dtype} block")
    row = dims[0] // elements * (size if elements > 1 else 1)
    shape = (*reversed(dims[1:]), row)
    return name, dtype, shape, offset, math.prod(dims) // elements * size


def stored_bytes(kind: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor of a type and a shape in elements."""
    elements, size = BLOCKS[kind]
    return math.prod(shape) // elements * size


def decimal(value: float) -> float:
    """The shortest decimal that rounds to the binary32 `value`; itself if it is no binary32."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(str(single)) if float(single) == value else value


def _check_layout(path: Path, tensors: dict[str, TensorInfo], data: int, alignment: int, size: int) -> None:
    position, before = data, "the header"
    for info in sorted(tensors.values(), key=lambda info: info.offset):
        expected = -(-position // alignment) * alignment
        if info.offset != expected:
            kind = "overlaps" if info.offset < expected else "leaves a hole after"
            raise CheckpointError(
                f"{show(path)}: tensor {show(info.name)} {kind} {show(before)}: "
                f"begins at data offset {show(info.offset - data)}, expected {expected - data}"
            )
        position, before = info.offset + info.nbytes, info.name
    if position > size and tensors:
        raise CheckpointError(f"{show(path)}: truncated: the tensors need {show(position)} bytes, the file has {size}")
    if -(-position // alignment) * alignment < size:
        raise CheckpointError(f"{show(path)}: the tensors end at byte {position}, but the file has {size} bytes")
