"""Cache of one sequence: what every layer keeps for each position, in chunks of 512, so that it grows without copying.

A layer holds for keys and for values a list of chunks [heads, 512, width], width = numbers of a head rounded up to
whole vectors of 16, the padding zero; the tables of chunk addresses are what the attention kernels read. Under latent
attention there is one list of chunks [1, 512, width]: a row is the latent followed by the rotated key, and serves as
key and as value. The chunks of all layers for the same 512 positions are one block of memory, large enough for huge
pages: with small pages a decoded token spends more time on address translation than on its short attention. Numbers are
rounded once when they are stored: f32 not at all, bf16 to nearest even (R1 of the attention clauses).
"""

from itertools import accumulate, islice, pairwise
from math import prod

import numpy as np

from refmoe.errors import UsageError
from refmoe.jit import kernel
from refmoe.numerics.codecs import bf16_bits, bf16_to_f32
from refmoe.ops.attention import CHUNK
from refmoe.steps import CacheRow

DTYPES = {"f32": np.float32, "bf16": np.uint16}


@kernel
def _store_f32(a, b, chunk_a, chunk_b, first, shift):
    """Rows a, b f32[T, heads * size] into positions first.. of chunks f32[heads, 512, width], b from column `shift`."""
    size_a, size_b = a.shape[1] // chunk_a.shape[0], b.shape[1] // chunk_b.shape[0]
    for t in range(a.shape[0]):
        for g in range(chunk_a.shape[0]):
            for d in range(size_a):
                chunk_a[g, first + t, d] = a[t, g * size_a + d]
            for d in range(size_b):
                chunk_b[g, first + t, shift + d] = b[t, g * size_b + d]


@kernel
def _store_bf16(a, b, chunk_a, chunk_b, first, shift):
    """The same into chunks of bf16 codes u16[heads, 512, width]."""
    size_a, size_b = a.shape[1] // chunk_a.shape[0], b.shape[1] // chunk_b.shape[0]
    for t in range(a.shape[0]):
        for g in range(chunk_a.shape[0]):
            for d in range(size_a):
                chunk_a[g, first + t, d] = np.uint16(bf16_bits(a[t, g * size_a + d]))
            for d in range(size_b):
                chunk_b[g, first + t, shift + d] = np.uint16(bf16_bits(b[t, g * size_b + d]))


class LayerCache:
    """What one layer keeps; `tag` and the tables are the operands of the attention kernels."""

    def __init__(self, row: CacheRow, dtype: str):
        self.row, self.length = row, 0
        self.tag = np.empty(0, DTYPES[dtype])
        self.k_chunks: list = []
        self.v_chunks: list = self.k_chunks if row.joined else []
        self.k_table = np.zeros(8, np.int64)
        self.v_table = self.k_table if row.joined else np.zeros(8, np.int64)
        self.addresses = (self.k_table.ctypes.data, self.v_table.ctypes.data)
        self._shift = row.widths[0] if row.joined else 0
        self._store = _store_f32 if dtype == "f32" else _store_bf16

    def append(self, a: np.ndarray, b: np.ndarray) -> int:
        """Store new rows (keys and values, or latents and rotated keys) f32[T, heads * width] in reserved room; returns
        the position of the first."""
        at, row = self.length, 0
        while row < a.shape[0]:
            chunk, first = divmod(at + row, CHUNK)
            end = min(a.shape[0], row + CHUNK - first)
            self._store(a[row:end], b[row:end], self.k_chunks[chunk], self.v_chunks[chunk], first, self._shift)
            row = end
        self.length += row
        return at

    def shapes(self) -> list[tuple[int, int, int]]:
        """Shapes of the chunks that `grow` takes."""
        widths = (sum(self.row.widths),) if self.row.joined else self.row.widths
        return [(self.row.heads, CHUNK, (width + 15) // 16 * 16) for width in widths]

    def grow(self, *chunks: np.ndarray) -> None:
        """Take room for 512 more positions: zeros in the shapes of `shapes`."""
        number = len(self.k_chunks)
        if number == self.k_table.shape[0]:
            self.k_table = np.resize(self.k_table, 2 * number)
            self.v_table = self.k_table if self.row.joined else np.resize(self.v_table, 2 * number)
            self.addresses = (self.k_table.ctypes.data, self.v_table.ctypes.data)
        places = ((self.k_chunks, self.k_table), (self.v_chunks, self.v_table))
        for chunk, (kept, table) in zip(chunks, places, strict=False):
            kept.append(chunk)
            table[number] = chunk.ctypes.data

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Everything stored, as f32: keys and values [S, heads * width], or latents and rotated keys, S = length."""
        first, second = self.row.widths
        return self._dense(self.k_chunks, 0, first), self._dense(self.v_chunks, self._shift, second)

    def _dense(self, chunks, start, count):
        stored = np.concatenate(chunks, axis=1)[:, :self.length, start:start + count].transpose(1, 0, 2)
        flat = np.ascontiguousarray(stored).reshape(self.length, -1)
        return flat if self.tag.dtype == np.float32 else bf16_to_f32(flat)


class Sequence:
    """One token sequence of the engine: its length and one LayerCache per layer."""

    def __init__(self, rows: list[CacheRow], dtype: str):
        if dtype not in DTYPES:
            raise UsageError(f"kv dtype: expected f32 or bf16, found {dtype!r}")
        self.layers = [LayerCache(row, dtype) for row in rows]
        self.nbytes = 0  # of all blocks allocated so far

    @property
    def length(self) -> int:
        """Positions stored so far."""
        return self.layers[0].length

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        for layer in self.layers:
            layer.length = min(layer.length, length)

    def reserve(self, count: int) -> None:
        """Make room for `count` more positions in every layer."""
        first = self.layers[0]
        while len(first.k_chunks) * CHUNK < first.length + count:
            shapes = [shape for layer in self.layers for shape in layer.shapes()]
            ends = list(accumulate((prod(shape) for shape in shapes), initial=0))
            # empty and fill, not zeros: NumPy asks for huge pages only for arrays from `empty`
            block = np.empty(ends[-1], first.tag.dtype)
            block.fill(0)
            self.nbytes += block.nbytes
            pieces = (block[at:end].reshape(shape) for (at, end), shape in zip(pairwise(ends), shapes, strict=True))
            for layer in self.layers:
                layer.grow(*islice(pieces, len(layer.shapes())))
