"""Key-value cache of one sequence: chunks of 512 positions, so that it grows without copying.

One layer holds for keys and for values a list of chunks [kv_heads, 512, width], width = head_dim rounded up to whole
vectors of 16, the padding zero; the tables of chunk addresses are what kernels.attention reads. The chunks of all
layers for the same 512 positions are one block of memory, large enough for huge pages: with small pages a decoded
token spends more time on address translation than on its short attention. Values are rounded once when they are
stored: f32 not at all, bf16 to nearest even (clause attention R1).
"""

import numpy as np

from refmoe.errors import UsageError
from refmoe.jit import kernel
from refmoe.numerics.codecs import bf16_bits, bf16_to_f32
from refmoe.ops.attention import CHUNK

DTYPES = {"f32": np.float32, "bf16": np.uint16}


@kernel
def _store_f32(k, v, keys, values, first):
    """Rows k, v f32[T, G*D] into positions first.. of chunks keys, values f32[G, 512, width]."""
    size = k.shape[1] // keys.shape[0]
    for t in range(k.shape[0]):
        for g in range(keys.shape[0]):
            for d in range(size):
                keys[g, first + t, d] = k[t, g * size + d]
                values[g, first + t, d] = v[t, g * size + d]


@kernel
def _store_bf16(k, v, keys, values, first):
    """The same into chunks of bf16 codes u16[G, 512, width]."""
    size = k.shape[1] // keys.shape[0]
    for t in range(k.shape[0]):
        for g in range(keys.shape[0]):
            for d in range(size):
                keys[g, first + t, d] = np.uint16(bf16_bits(k[t, g * size + d]))
                values[g, first + t, d] = np.uint16(bf16_bits(v[t, g * size + d]))


class LayerCache:
    """Keys and values of one layer; `tag` and the tables are the operands of kernels.attention."""

    def __init__(self, kv_heads: int, head_dim: int, dtype: str):
        self.kv_heads, self.head_dim, self.length = kv_heads, head_dim, 0
        self.tag = np.empty(0, DTYPES[dtype])
        self.chunks: tuple[list, list] = ([], [])
        self.k_table, self.v_table = np.zeros(8, np.int64), np.zeros(8, np.int64)
        self._store = _store_f32 if dtype == "f32" else _store_bf16

    def append(self, k: np.ndarray, v: np.ndarray) -> int:
        """Store new rows k, v f32[T, kv_heads * head_dim] in reserved room; returns the position of the first."""
        at, row = self.length, 0
        while row < k.shape[0]:
            chunk, first = divmod(at + row, CHUNK)
            end = min(k.shape[0], row + CHUNK - first)
            self._store(k[row:end], v[row:end], self.chunks[0][chunk], self.chunks[1][chunk], first)
            row = end
        self.length += row
        return at

    def grow(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Take two more chunks [kv_heads, 512, width] of zeros."""
        number = len(self.chunks[0])
        if number == self.k_table.shape[0]:
            self.k_table, self.v_table = np.resize(self.k_table, 2 * number), np.resize(self.v_table, 2 * number)
        for chunk, chunks, table in ((keys, self.chunks[0], self.k_table), (values, self.chunks[1], self.v_table)):
            chunks.append(chunk)
            table[number] = chunk.ctypes.data

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """All stored keys and values as f32[S, kv_heads * head_dim], S = length."""
        return tuple(self._dense(chunks) for chunks in self.chunks)

    def _dense(self, chunks):
        stored = np.concatenate(chunks, axis=1)[:, :self.length, :self.head_dim].transpose(1, 0, 2)
        flat = np.ascontiguousarray(stored).reshape(self.length, -1)
        return flat if self.tag.dtype == np.float32 else bf16_to_f32(flat)


class Sequence:
    """One token sequence of the engine: its length and one LayerCache per layer."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int, dtype: str):
        if dtype not in DTYPES:
            raise UsageError(f"kv dtype: expected f32 or bf16, found {dtype!r}")
        self.layers = [LayerCache(kv_heads, head_dim, dtype) for _ in range(layers)]
        self.nbytes = 0  # of all blocks allocated so far

    @property
    def length(self) -> int:
        """Positions stored so far."""
        return self.layers[0].length

    def reserve(self, count: int) -> None:
        """Make room for `count` more positions in every layer."""
        first = self.layers[0]
        while len(first.chunks[0]) * CHUNK < first.length + count:
            width = (first.head_dim + 15) // 16 * 16
            # empty and fill, not zeros: NumPy asks for huge pages only for arrays from `empty`
            block = np.empty((len(self.layers), 2, first.kv_heads, CHUNK, width), first.tag.dtype)
            block.fill(0)
            self.nbytes += block.nbytes
            for layer, (keys, values) in zip(self.layers, block, strict=True):
                layer.grow(keys, values)
