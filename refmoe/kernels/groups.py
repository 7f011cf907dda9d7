"""Rows of codes with a scale for each group of columns (kernels.scales): `stream` from what a format says of a group.

    scaled(d, scales)        the f32 scales of sixteen groups of a row as they are used
    zeros(d, r, g, count)    f32 zero points of `count` groups of row r from group g on, or None
    open_group(where)        what a group shares, as vectors: its scale is at address `where`, its zero point ZEROS on
    pair(where, shared)      32 elements, whose codes are the `size` bytes at address `where`, as two vectors of 16
Two rows go side by side, so that the sums of one do not wait for each other; the same place of the next two is asked
for, one line for each line that is used. Each sum is in the one reduction. Matrices whose groups, or rows, are not
whole multiples of 32 columns go through `vector` of the format.
"""

import numpy as np

from refmoe.jit import inlined
from refmoe.kernels.matrix import BASE, COLS, ROW_BYTES, stream_vectors
from refmoe.kernels.scales import BLOCK_COLS, SCALE_COLS, scales_of
from refmoe.numerics.vec import F32, load1, load16, prefetch, splat, store1, store16, tree, vfma
from refmoe.numerics.vec_int import local

CHUNK = 16  # groups of a row whose scales are taken together
LINE = 4 * CHUNK  # bytes of their scales
ZEROS = 4 * LINE  # from the scales of up to four rows to their zero points
HELD = 2 * ZEROS


@inlined
def as_stored(d, scales):
    """`scaled` that changes nothing."""
    return scales


@inlined
def scale_at(where):
    """`open_group` where a scale is all."""
    return splat(load1(where))


@inlined
def zero_and_scale(where):
    """`open_group` where there are zero points."""
    return splat(load1(where + ZEROS)), splat(load1(where))


@inlined
def hold(scaled, zeros, d, r, low, count, where):
    """Put scales and zero points of `count` groups of row r from group `low` on where open_group looks for them."""
    store16(where, scaled(d, scales_of(d, r, low, count)))
    if zeros is not None:
        store16(where + ZEROS, zeros(d, r, low, count))


@inlined
def stream_groups(scaled, zeros, open_group, pair, vector, size, d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of kernels.matrix."""
    cols, span, step, groups, held = d[COLS], d[BLOCK_COLS], d[ROW_BYTES], d[SCALE_COLS], local(HELD)
    if cols % 32 != 0 or span % 32 != 0:
        stream_vectors(vector, d, first, last, x, x_rows, out, width, out_rows)
        return
    for r in range(first, last, 2):
        other = min(r + 1, last - 1)  # where there is none, the same again
        row0, row1 = d[BASE] + r * step, d[BASE] + other * step
        for s in range(x_rows.shape[0]):
            xs, ahead, a0 = x + x_rows[s] * cols * 4, row0 + 2 * step, splat(np.float32(0.0))
            a1 = a0
            for low in range(0, groups, CHUNK):
                count = min(CHUNK, groups - low)
                hold(scaled, zeros, d, r, low, count, held)
                hold(scaled, zeros, d, other, low, count, held + LINE)
                for g in range(count):
                    begin, p0, p1 = (low + g) * span, open_group(held + 4 * g), open_group(held + LINE + 4 * g)
                    for k in range(begin, min(begin + span, cols), 32):
                        at = k // 32 * size
                        for line in range(0, 2 * size, 64):
                            prefetch(ahead + 2 * at + line)
                        left, right = load16(F32, xs + k * 4), load16(F32, xs + k * 4 + 64)
                        p = pair(row0 + at, p0)
                        a0 = vfma(p[1], right, vfma(p[0], left, a0))
                        p = pair(row1 + at, p1)
                        a1 = vfma(p[1], right, vfma(p[0], left, a1))
            place = out + (out_rows[s] * width + r) * 4
            store1(place, tree(a0))
            if r + 1 < last:
                store1(place + 4, tree(a1))
