"""Just enough of the protobuf wire format to read a SentencePiece model: fields of a message, nothing nested by itself.

Every length is checked against what is left, so a hostile file costs one pass over its bytes.
"""

import struct
from collections.abc import Iterator

Value = int | float | bytes


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(field number, value) of a message: an int for a varint, a float for 32 bits, bytes for a length and 64 bits.
    ValueError when the bytes are no message."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"field 0 at byte {at}")
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if size > end - at:
            raise ValueError(f"{size} bytes announced at byte {at}, {end - at} are left")
        part = data[at : at + size]
        at += size
        yield number, struct.unpack("<f", part)[0] if kind == 5 else part


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"a number without an end at byte {at}")
