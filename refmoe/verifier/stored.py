"""stored - a stored matrix as named parts, and what our decoder makes of it when parts are changed."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from refmoe import formats, golden
from refmoe.numerics import codecs


class Stored:
    """The stored parts of a case by name, and what they decode to when some are changed."""

    def __init__(self, format: str, inputs: dict[str, Any], right: np.ndarray):
        self.format = format
        self.parts = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
        self.attrs = {name: value for name, value in inputs.items() if not isinstance(value, np.ndarray)}
        self.shape = right.shape
        self.y = right.astype(np.float64)

    def decode(self, attrs=None, **parts) -> np.ndarray:
        """The matrix, in binary64."""
        like = np.empty(self.shape, np.float32)
        case = golden.Case("", "", {**self.parts, **parts, "decoded": like}, {**self.attrs, **(attrs or {})},
                           ("decoded",), "", (), self.format)  # fmt: skip
        return formats.decode(golden.stored(case)).astype(np.float64)

    def scales(self) -> Iterator[tuple[str, np.ndarray]]:
        """The parts that hold scales in a type stated by an attribute, as binary32."""
        for name, array in self.parts.items():
            kind = self.attrs.get(f".{name}")
            if kind == "F32":
                yield name, array.view(np.float32)
            elif kind == "BF16":
                yield name, codecs.bf16_to_f32(array.view(np.uint16))
            elif kind == "F16":
                yield name, codecs.f16_to_f32(array.view(np.uint16))
            elif kind in ("F8_E8M0", "U8"):
                yield name, np.ldexp(1.0, array.astype(np.int64) - 127).astype(np.float32)

    def rescaled(self, change) -> Iterator[np.ndarray]:
        """Decoded with the scales of one part changed."""
        for name, scale in self.scales():
            new = np.ascontiguousarray(change(scale), np.float32)
            yield self.decode({f".{name}": "F32"}, **{name: new})

    @cached_property
    def codes(self) -> str:
        """The part that holds the codes: the largest."""
        return max(self.parts, key=lambda name: self.parts[name].nbytes)

    def zeros(self) -> list[str]:
        """The parts that hold zero points."""
        return [name for name in self.parts if "zero" in name]

    def magnitude(self) -> np.ndarray:
        """The size of what is added up to a weight: code times scale and zero point times scale apart."""
        size = abs(self.y)
        for name in self.zeros():
            without = self.decode(**{name: np.zeros_like(self.parts[name])})
            size = np.maximum(size, abs(without) + abs(without - self.y))
        return size
