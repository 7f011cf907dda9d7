"""Rows of codes with a scale for each group of columns (kernels.scales): `stream` from what a format says of a group.

    open_group(d, r, g, scale)   what group g of row r shares, as vectors; scale is its own, in all lanes
    pair(where, shared)          32 elements, whose codes are the `size` bytes at address `where`, as two vectors of 16
`abreast` rows, 2 or 4, go side by side, so that the sums of one do not wait for each other; the same place of the next
ones is asked for, one line for each line that is used. Two are read faster from memory, four share what they have in
common. Each sum is in the one reduction. Matrices whose groups, or rows, are not whole multiples of 32 columns go
through `vector` of the format.
"""

import numpy as np

from refmoe.jit import inlined
from refmoe.kernels.matrix import BASE, COLS, ROW_BYTES, stream_vectors
from refmoe.kernels.scales import BLOCK_COLS, BLOCK_ROWS, SCALE_COLS, SCALE_KIND, SCALES, splat_scale
from refmoe.numerics.vec import F32, load16, prefetch, splat, store1, tree, vfma


@inlined
def stream_groups(abreast, open_group, pair, vector, size, d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of kernels.matrix."""
    cols, span, step, kind, scales = d[COLS], d[BLOCK_COLS], d[ROW_BYTES], d[SCALE_KIND], d[SCALES]
    if cols % 32 != 0 or span % 32 != 0:
        stream_vectors(vector, d, first, last, x, x_rows, out, width, out_rows)
        return
    for r in range(first, last, abreast):
        r1, r2, r3 = min(r + 1, last - 1), min(r + 2, last - 1), min(r + 3, last - 1)  # the last again
        w0, w1, w2, w3 = d[BASE] + r * step, d[BASE] + r1 * step, d[BASE] + r2 * step, d[BASE] + r3 * step
        g0, g1 = r // d[BLOCK_ROWS] * d[SCALE_COLS], r1 // d[BLOCK_ROWS] * d[SCALE_COLS]
        g2, g3 = r2 // d[BLOCK_ROWS] * d[SCALE_COLS], r3 // d[BLOCK_ROWS] * d[SCALE_COLS]
        for s in range(x_rows.shape[0]):
            xs, ahead = x + x_rows[s] * cols * 4, w0 + abreast * step
            a0 = splat(np.float32(0.0))
            a1, a2, a3 = a0, a0, a0
            for g in range(d[SCALE_COLS]):
                p0 = open_group(d, r, g, splat_scale(kind, scales, g0 + g))
                p1 = open_group(d, r1, g, splat_scale(kind, scales, g1 + g))
                p2 = open_group(d, r2, g, splat_scale(kind, scales, g2 + g))
                p3 = open_group(d, r3, g, splat_scale(kind, scales, g3 + g))
                for k in range(g * span, min(g * span + span, cols), 32):
                    at = k // 32 * size
                    for line in range(0, abreast * size, 64):
                        prefetch(ahead + abreast * at + line)
                    left, right = load16(F32, xs + k * 4), load16(F32, xs + k * 4 + 64)
                    p = pair(w0 + at, p0)
                    a0 = vfma(p[1], right, vfma(p[0], left, a0))
                    p = pair(w1 + at, p1)
                    a1 = vfma(p[1], right, vfma(p[0], left, a1))
                    p = pair(w2 + at, p2)
                    a2 = vfma(p[1], right, vfma(p[0], left, a2))
                    p = pair(w3 + at, p3)
                    a3 = vfma(p[1], right, vfma(p[0], left, a3))
            place = out + (out_rows[s] * width + r) * 4
            store1(place, tree(a0))
            if r + 1 < last:
                store1(place + 4, tree(a1))
            if abreast > 2 and r + 2 < last:  # with two, all of the others is never computed
                store1(place + 8, tree(a2))
            if abreast > 2 and r + 3 < last:
                store1(place + 12, tree(a3))
