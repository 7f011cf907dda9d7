"""Matrices in blocks of 32 or 256 elements along a row: the two functions of kernels.matrix from two of a format.

    open_block(where)         what all of a block shares (scales), as vectors
    pair(where, shared, j)    elements 32j .. 32j+31 of the block at address `where`, W_eff, as two vectors of 16
A row is a whole number of blocks of `size` bytes. Rows are streamed side by side, so that the sums of one do not wait
for each other, and the same places of the next rows are asked for; each sum is in the one reduction. The eight steps
of a large block are written out, so that shifts and lanes are constants in the machine code.
"""

import numpy as np

from refmoe.jit import inlined
from refmoe.kernels.matrix import BASE, COLS, ROW_BYTES
from refmoe.numerics.vec import F32, load16, prefetch, splat, store1, tree, vfma


@inlined
def vector_of_pairs(open_block, pair, elements, size, d, r, k):
    """`vector` of kernels.matrix."""
    where = d[BASE] + r * d[ROW_BYTES] + k * 16 // elements * size
    low, high = pair(where, open_block(where), k % (elements // 16) // 2)
    return low if k % 2 == 0 else high


@inlined
def stream_pairs(open_block, pair, size, d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of kernels.matrix for blocks of 32 elements, two rows side by side."""
    cols, zero, ahead = d[COLS], splat(np.float32(0.0)), 2 * d[ROW_BYTES]
    for r in range(first, last, 2):
        row0 = d[BASE] + r * d[ROW_BYTES]
        row1 = row0 + min(1, last - 1 - r) * d[ROW_BYTES]  # where there is none, the last one stands in
        for s in range(x_rows.shape[0]):
            xs = x + x_rows[s] * cols * 4
            a0, a1 = zero, zero
            for b in range(0, cols // 32 * size, size):
                prefetch(row0 + b + ahead)
                prefetch(row1 + b + ahead)
                low, high = load16(F32, xs), load16(F32, xs + 64)
                xs += 128
                p = pair(row0 + b, open_block(row0 + b), 0)
                a0 = vfma(p[1], high, vfma(p[0], low, a0))
                p = pair(row1 + b, open_block(row1 + b), 0)
                a1 = vfma(p[1], high, vfma(p[0], low, a1))
            place = out + (out_rows[s] * width + r) * 4
            store1(place, tree(a0))
            if r + 1 < last:
                store1(place + 4, tree(a1))


@inlined
def _step(pair, j, xs, w0, s0, a0, w1, s1, a1):
    """Step j of one block of two rows."""
    low, high = load16(F32, xs + 128 * j), load16(F32, xs + 128 * j + 64)
    p, q = pair(w0, s0, j), pair(w1, s1, j)
    return vfma(p[1], high, vfma(p[0], low, a0)), vfma(q[1], high, vfma(q[0], low, a1))


@inlined
def stream_large_pairs(open_block, pair, size, d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of kernels.matrix for blocks of 256 elements, two rows side by side."""
    cols, zero, ahead = d[COLS], splat(np.float32(0.0)), 2 * d[ROW_BYTES]
    for r in range(first, last, 2):
        row0 = d[BASE] + r * d[ROW_BYTES]
        row1 = row0 + min(1, last - 1 - r) * d[ROW_BYTES]  # where there is none, the last one stands in
        for s in range(x_rows.shape[0]):
            xs = x + x_rows[s] * cols * 4
            a0, a1 = zero, zero
            for b in range(0, cols // 256 * size, size):
                w0, w1 = row0 + b, row1 + b
                for line in range(0, size, 64):
                    prefetch(w0 + ahead + line)
                    prefetch(w1 + ahead + line)
                s0, s1 = open_block(w0), open_block(w1)
                a0, a1 = _step(pair, 0, xs, w0, s0, a0, w1, s1, a1)
                a0, a1 = _step(pair, 1, xs, w0, s0, a0, w1, s1, a1)
                a0, a1 = _step(pair, 2, xs, w0, s0, a0, w1, s1, a1)
                a0, a1 = _step(pair, 3, xs, w0, s0, a0, w1, s1, a1)
                a0, a1 = _step(pair, 4, xs, w0, s0, a0, w1, s1, a1)
                a0, a1 = _step(pair, 5, xs, w0, s0, a0, w1, s1, a1)
                a0, a1 = _step(pair, 6, xs, w0, s0, a0, w1, s1, a1)
                a0, a1 = _step(pair, 7, xs, w0, s0, a0, w1, s1, a1)
                xs += 1024
            place = out + (out_rows[s] * width + r) * 4
            store1(place, tree(a0))
            if r + 1 < last:
                store1(place + 4, tree(a1))
