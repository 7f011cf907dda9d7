"""Small vocabulary files of the published kinds, and plain versions of the algorithms they belong to."""

import base64
import gzip
import json
import re
import struct
from itertools import pairwise

import pytest

from tests import fakes

LOW_BYTES = [bytes([b]) for b in range(256)]


def published(name):
    """A file of the shared data folder; skips the test where there is none."""
    path = fakes.SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"no published data at {path}")
    return path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())


def cases(name):
    """Published vectors: (text, ids)."""
    vectors = json.loads(published(name))
    groups = vectors.values() if isinstance(vectors, dict) else [vectors]
    return [(case["text"], case["ids"]) for group in groups for case in group]


def rank_file(tokens):
    """The text of a tiktoken file."""
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def by_rank(piece, ranks):
    """tiktoken's rule: a known piece is a token; else the neighbours of the lowest joined rank are joined first."""
    if piece in ranks:
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        found = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
        if not found:
            return [ranks[part] for part in parts]
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def varint(number):
    """Protobuf's numbers."""
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, value):
    """A protobuf field: int, float or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text, score=0.0, kind=1):
    """A SentencePiece piece: type 1 normal, 2 unknown, 3 control, 4 user defined, 6 byte."""
    return field(1, field(1, text.encode()) + field(2, score) + field(3, kind))


def sentencepiece(words, kind=2, fallback=1, normal=b"", more=()):
    """A model file with <unk>, <s>, </s>, 256 bytes, `more` pieces, and words with scores -0, -1, -2, ..."""
    parts = [piece("<unk>", kind=2), piece("<s>", kind=3), piece("</s>", kind=3)]
    parts += [piece(f"<0x{b:02X}>", kind=6) for b in range(256)] if fallback else []
    parts += [*more, *(piece(word, -float(n)) for n, word in enumerate(words))]
    trainer = field(2, field(3, kind) + field(35, fallback) + field(41, 1) + field(42, 2))
    return b"".join(parts) + trainer + field(3, normal or field(3, 1) + field(4, 0) + field(5, 1))


def write(folder, **files):
    """Put files into a folder: bytes as they are, other values as JSON. Dots are written as two underscores."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / re.sub("__", ".", name)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder
