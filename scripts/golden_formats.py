"""The format vectors: every code of the 16-bit formats, blocks of awkward shape; `decoded` by the format itself.

Files named golden_formats_*.py beside this one hold those of further formats: each has a function drafts().
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from refmoe import formats
from refmoe.numerics import counter
from refmoe.weight import Weight

SEED = 1
CODES = {"bf16": np.uint16, "f16": np.uint16, "f32": np.uint32}


@dataclass(frozen=True)
class Draft:
    """One vector: stored tensors by suffix without dot, and `decoded`; what the format reads from a config."""

    format: str
    name: str
    tensors: dict[str, np.ndarray]
    hunts: str
    sources: dict[str, str]
    params: dict = field(default_factory=dict)
    bugs: tuple[str, ...] = ()


def draft(format, name, rows, cols, stored, params, hunts, bugs=(), sources=None):
    """A vector of any format: `stored` maps suffixes to arrays of codes; `decoded` by the format itself."""
    parts = {suffix: np.ascontiguousarray(array).reshape(-1).view(np.uint8) for suffix, array in stored.items()}
    decoded = np.ascontiguousarray(formats.decode(Weight(format, rows, cols, parts, params)))
    tensors = {suffix.removeprefix("."): array for suffix, array in stored.items()} | {"decoded": decoded}
    sources = {suffix.removeprefix("."): text for suffix, text in (sources or {}).items()}
    return Draft(format, name, tensors, hunts, {name: "literal" for name in tensors if name != "decoded"} | sources,
                 params, tuple(bugs))


def _draft(format, name, codes, hunts, source):
    rows, cols = codes.shape
    weight = Weight(format, rows, cols, {".weight": codes.reshape(-1).view(np.uint8)})
    decoded = np.ascontiguousarray(formats.decode(weight))
    return Draft(format, name, {"weight": codes, "decoded": decoded}, hunts, {"weight": source})


def _random_codes(format, name, rows, cols):
    """Codes rows*cols of the format, from the bits of counter.fill_uniform."""
    stream = f"formats/{format}/{name}/weight"
    bits = counter.fill_uniform(SEED, counter.stream_of(stream), rows * cols).view(np.uint32)
    if format == "f32":
        return bits.reshape(rows, cols), f"bits of uniform(seed={SEED}, stream={stream!r})"
    return ((bits >> 9) & 0xFFFF).astype(np.uint16).reshape(rows, cols), \
        f"bits 9..24 of uniform(seed={SEED}, stream={stream!r})"


def drafts():
    """All format vectors."""
    made = []
    for format, dtype in CODES.items():
        if dtype == np.uint16:
            made.append(_draft(format, "all_codes", np.arange(65536, dtype=np.uint16).reshape(256, 256),
                               "every code: byte order, subnormals flushed or scaled wrongly, inf and nan, signed zero",
                               "code r * 256 + c at [r, c]"))
        else:
            exponents = np.arange(256, dtype=np.uint32) << 23
            fractions = np.array([0, 1, 0x400000, 0x7FFFFF], np.uint32)
            codes = (exponents[:, None] | fractions).reshape(256, 4)
            made.append(_draft(format, "every_exponent", np.concatenate([codes, codes | 0x80000000], axis=1),
                               "every exponent, four fractions, both signs: flushed subnormals, changed nan bits",
                               "literal"))
        for rows, cols in ((5, 37), (1, 1), (3, 16)):
            name = f"block_{rows}x{cols}"
            codes, source = _random_codes(format, name, rows, cols)
            made.append(_draft(format, name, codes, "row length: rows and columns exchanged, padding assumed", source))
    for path in sorted(Path(__file__).parent.glob("golden_formats_*.py")):
        made += importlib.import_module(path.stem).drafts()
    return made
