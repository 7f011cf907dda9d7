"""safetensors files: strict headers, streaming writes.

A file is `u64 little-endian N`, a JSON header of N bytes, then the data. Every header entry is
`name: {"dtype", "shape", "data_offsets": [begin, end]}` with offsets into the data; `__metadata__` holds strings.
Accepted is what the reference library accepts, less some of its leniency: no duplicate keys, no space before `{`,
no foreign fields, no null metadata. Every number is checked against the file size before memory is taken for it.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from refmoe.checkpoint.strict_json import open_regular, parse, show, some, what_else
from refmoe.checkpoint.writing import pieces, write_pieces
from refmoe.errors import CheckpointError

DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
MAX_HEADER = 100_000_000  # bytes, the limit of the format
_FIELDS = {"dtype", "shape", "data_offsets"}
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: `nbytes` bytes at `offset` (from the start of the file) of `file`.

    `stamp` is (size in bytes, modification time in ns) of the file when its header was read; a reader that finds
    another one refuses. `pairs` is not 0 where the rows of that many heads are stored pair by pair (GGUF files of llama
    models): stored row 2i + j of a head is row j * (rows of a head / 2) + i; reading puts them in order.
    A tensor with `parts` is not stored: checkpoint.made makes it of these in the way that `made` names; `file`,
    `offset` and `stamp` are then those of the first part.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int
    stamp: tuple[int, int] = field(compare=False)
    pairs: int = 0
    parts: tuple["TensorInfo", ...] = ()
    made: str = ""


@dataclass(frozen=True)
class Header:
    """A checked header: `size` is the file's, `tensors` is in the order of the file's JSON."""

    file: Path
    size: int
    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]


def read_header(path: Path) -> Header:
    """Read and check one header. CheckpointError names the file, the tensor or field, expected and found."""
    path = Path(path)
    with open_regular(path, CheckpointError) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        head = file.read(200)
        if other := what_else(head):
            raise CheckpointError(f"{show(path)}: this is {other}")
        if size < 10:
            raise CheckpointError(f"{show(path)}: has {size} bytes, a safetensors file needs at least 10")
        length = int.from_bytes(head[:8], "little")
        if length > MAX_HEADER:
            raise CheckpointError(
                f"{show(path)}: header length is {length} bytes, at most {MAX_HEADER} are allowed (the file has {size})"
            )
        if 8 + length > size:
            raise CheckpointError(f"{show(path)}: truncated: the header needs {8 + length} bytes, the file has {size}")
        if head[8:9] != b"{":
            raise CheckpointError(f"{show(path)}: header must begin with '{{', found {head[8:9]!r}")
        file.seek(8)
        entries = parse(_exactly(file, length, path), f"{show(path)}: header", CheckpointError)
    metadata = _metadata(path, entries.pop("__metadata__", {}))
    stamp = (size, status.st_mtime_ns)
    tensors = {name: _entry(path, name, entry, 8 + length, stamp) for name, entry in entries.items()}
    _check_layout(path, tensors, 8 + length, size)
    return Header(path, size, metadata, tensors)


def _metadata(path: Path, metadata: Any) -> dict[str, str]:
    if type(metadata) is not dict:
        raise CheckpointError(f"{show(path)}: __metadata__ must be an object, found {type(metadata).__name__}")
    for key, value in metadata.items():
        if type(value) is not str:
            found = type(value).__name__
            raise CheckpointError(f'{show(path)}: __metadata__ key "{show(key)}" must be a string, found {found}')
    return metadata


def _entry(path: Path, name: str, entry: Any, data: int, stamp: tuple[int, int]) -> TensorInfo:
    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(f"{show(path)}: tensor {show(name)}: {problem}")

    if type(entry) is not dict or entry.keys() != _FIELDS:
        found = f"keys {some(sorted(entry)) or 'none'}" if type(entry) is dict else type(entry).__name__
        raise refuse(f"must be an object with just dtype, shape and data_offsets, found {found}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = DTYPE_BITS.get(dtype) if type(dtype) is str else None
    if bits is None:
        raise refuse(f"dtype {show(dtype)} is unknown, the format has {', '.join(DTYPE_BITS)}")
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise refuse(f"shape must be a list of non-negative integers, found {show(shape)}")
    if type(offsets) is not list or len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
        raise refuse(f"data_offsets must be two non-negative integers, found {show(offsets)}")
    begin, end = offsets
    if begin > end:
        raise refuse(f"data_offsets run backwards: {show(begin)} to {show(end)}")
    if (count := _product(shape)) is None or count * bits >= _LARGEST:
        raise refuse(f"shape {show(shape)} is too large for any file")
    if count * bits != 8 * (end - begin):
        need = count * bits / 8 if count * bits % 8 else count * bits // 8
        raise refuse(f"shape {show(shape)} of {dtype} needs {need} bytes, data_offsets span {show(end - begin)}")
    return TensorInfo(name, dtype, tuple(shape), path, data + begin, end - begin, stamp)


def _product(shape: list[int]) -> int | None:
    """The number of elements, or None when the product of the dimensions, zeros left out, passes 63 bits."""
    count, empty = 1, False
    for n in shape:
        empty = empty or n == 0
        count *= n or 1
        if count >= _LARGEST:
            return None
    return 0 if empty else count


def _check_layout(path: Path, tensors: dict[str, TensorInfo], data: int, size: int) -> None:
    position, before = data, "the header"
    for info in sorted(tensors.values(), key=lambda info: (info.offset, info.nbytes)):
        if info.offset != position:
            kind = "overlaps" if info.offset < position else "leaves a hole after"
            raise CheckpointError(
                f"{show(path)}: tensor {show(info.name)} {kind} {show(before)}: "
                f"begins at data offset {show(info.offset - data)}, expected {position - data}"
            )
        position, before = position + info.nbytes, info.name
    if position > size:
        raise CheckpointError(f"{show(path)}: truncated: the tensors need {show(position)} bytes, the file has {size}")
    if position < size:
        raise CheckpointError(f"{show(path)}: the tensors end at byte {position}, but the file has {size} bytes")


def _exactly(file: FileIO, count: int, path: Path) -> bytes:
    raw = bytes(file.read(count) or b"")
    if len(raw) != count:
        raise CheckpointError(f"{show(path)}: shrank while it was read: {count} bytes wanted, {len(raw)} there")
    return raw


def write(
    path: Path, tensors: Mapping[str, tuple[str, Sequence[int], Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `name -> (dtype, shape, data)`; data is a buffer, or a function that returns one when its turn comes.

    The layout is the reference library's: larger dtypes first, then by name, header padded to 8 bytes. The file
    appears under its name complete or not at all; a device or pipe is written to, never replaced. CheckpointError when
    data and shape disagree or writing fails.
    """
    path = Path(path)
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    order = sorted(tensors, key=lambda name: (-DTYPE_BITS[tensors[name][0]], name))
    position = 0
    for name in order:
        dtype, shape, _ = tensors[name]
        size = math.prod(int(n) for n in shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": [int(n) for n in shape], "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def buffers() -> Iterator[Any]:
        yield len(text).to_bytes(8, "little") + text
        for name in order:
            begin, end = header[name]["data_offsets"]
            yield from pieces(path, name, end - begin, tensors[name][2])

    write_pieces(path, buffers())
