"""matrix - how kernels see a stored matrix: a descriptor of sixteen int64, and two functions that read it.

    vector(d, r, k)    lanes 16k .. 16k+15 of row r of W_eff, +0 beyond the last column
    stream(d, first, last, x, x_rows, out, width, out_rows)
                       rows first..last times the rows x_rows[s] of x (contiguous f32 at address x), each sum in the
                       one reduction, into f32 out[out_rows[s]][r] at address out, rows of `width` values
Both are compiled functions that a format hands to kernels.matmul.product_item; `d` is the descriptor as int64[16]. A
format that only has `vector` streams with `stream_vectors`. This file has the two for the plain element types.
"""

import numpy as np

from refmoe.jit import inlined, kernel
from refmoe.numerics.vec import (
    BF16,
    F16,
    F32,
    lane,
    load16,
    load_partial,
    prefetch,
    splat,
    store1,
    tile_fma,
    tile_fma_partial,
    tile_trees,
    tile_zero,
    tree,
    vfma,
)

AHEAD = 3072  # bytes between the element in use and the line asked for; 4096 costs a Xeon 4 %
WORDS = 16  # int64 of one descriptor
BASE, COLS, ROW_BYTES = 0, 1, 2  # address of the first stored element; columns of W_eff; bytes from row to row
OWN = 3  # words 3 .. 12 belong to the format
END = 13  # address behind the last byte of the array that BASE points into
FIRST, PRODUCT = 14, 15  # first row of W_eff that takes part; address of the format's work item for kernels.matmul


@kernel
def load_x(x, cols, k):
    """Lanes 16k .. 16k+15 of a row of f32 at address x, +0 beyond the last."""
    rest = cols - k * 16
    return load16(F32, x + k * 64) if rest >= 16 else load_partial(F32, x + k * 64, rest)


@inlined
def stream_vectors(vector, d, first, last, x, x_rows, out, width, out_rows):
    """`stream` for any format, by its `vector`."""
    cols = d[COLS]
    for r in range(first, last):
        for s in range(x_rows.shape[0]):
            xs = x + x_rows[s] * cols * 4
            lanes = splat(np.float32(0.0))
            for k in range((cols + 15) // 16):
                lanes = vfma(vector(d, r, k), load_x(xs, cols, k), lanes)
            store1(out + (out_rows[s] * width + r) * 4, tree(lanes))


@kernel
def _vector(tag, d, r, k):
    where = d[BASE] + r * d[ROW_BYTES] + k * 16 * tag.itemsize
    rest = d[COLS] - k * 16
    return load16(tag, where) if rest >= 16 else load_partial(tag, where, rest)


@kernel
def _stream(tag, d, first, last, x, x_rows, out, width, out_rows):
    """W is read once, front to back: one linear walk through memory. Hardware prefetch follows it; asking for each line
    AHEAD of its use as well reaches 0.97 of the read bandwidth where memory is fast (41 GB/s for one core), else 0.85.
    """
    size, cols = tag.itemsize, d[COLS]
    whole = cols // 16 * 16
    pairs = whole // 32 * 32
    for r in range(first, last):
        row = d[BASE] + r * d[ROW_BYTES]
        for s in range(x_rows.shape[0]):
            xs = x + x_rows[s] * cols * 4
            t = tile_zero(1, 1)
            for k in range(0, pairs, 32):
                for line in range(k * size, (k + 32) * size, 64):
                    prefetch(row + line + AHEAD)
                t = tile_fma(t, tag, row + k * size, 0, xs + k * 4, 0)
                t = tile_fma(t, tag, row + (k + 16) * size, 0, xs + k * 4 + 64, 0)
            if pairs < whole:
                t = tile_fma(t, tag, row + pairs * size, 0, xs + pairs * 4, 0)
            if whole < cols:
                t = tile_fma_partial(t, tag, row + whole * size, 0, xs + whole * 4, 0, cols - whole)
            store1(out + (out_rows[s] * width + r) * 4, lane(tile_trees(t), 0))


@kernel
def vector_f32(d, r, k):
    """`vector` of binary32 elements."""
    return _vector(F32, d, r, k)


@kernel
def vector_bf16(d, r, k):
    """`vector` of bfloat16 elements."""
    return _vector(BF16, d, r, k)


@kernel
def vector_f16(d, r, k):
    """`vector` of binary16 elements."""
    return _vector(F16, d, r, k)


@kernel
def stream_f32(d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of binary32 elements."""
    _stream(F32, d, first, last, x, x_rows, out, width, out_rows)


@kernel
def stream_bf16(d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of bfloat16 elements."""
    _stream(BF16, d, first, last, x, x_rows, out, width, out_rows)


@kernel
def stream_f16(d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of binary16 elements."""
    _stream(F16, d, first, last, x, x_rows, out, width, out_rows)
