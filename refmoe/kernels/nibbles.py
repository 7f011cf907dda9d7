"""Rows of nibbles with a scale for each group of columns, where a register holds sixteen f32 (AVX-512): `stream` from a
table of what the sixteen codes mean.

    scaled, zeros    see kernels.groups
    table(where)     f32 of the sixteen codes of a group with its scale at `where`, its zero point ZEROS on
Of 64 columns, the codes of columns i, 16 + i, 32 + i and 48 + i come into word i, one byte each; a table is looked up
in one instruction, by the lowest bits of each word. Four rows go side by side as in kernels.groups.
"""

import numpy as np

from refmoe.jit import inlined
from refmoe.kernels.groups import CHUNK, HELD, LINE, hold
from refmoe.kernels.matrix import BASE, COLS, ROW_BYTES
from refmoe.kernels.scales import BLOCK_COLS, SCALE_COLS
from refmoe.numerics.vec import F32, load16, prefetch, splat, store1, tree, vfma
from refmoe.numerics.vec_int import local, nibble_words, picked


@inlined
def in_sixty_fours(d):
    """Whether rows are whole runs of 64 columns, and each lies in one group, in two or in four."""
    return d[COLS] % 64 == 0 and (d[BLOCK_COLS] % 64 == 0 or d[BLOCK_COLS] == 32 or d[BLOCK_COLS] == 16)


@inlined
def _run(where, t0, t1, t2, t3, x, a):
    """64 columns of one row, sixteen from each of four tables."""
    w = nibble_words(where)
    a = vfma(picked(t1, w, 1), x[1], vfma(picked(t0, w, 0), x[0], a))
    return vfma(picked(t3, w, 3), x[3], vfma(picked(t2, w, 2), x[2], a))


@inlined
def _twos(table, where, at, x, a):
    """The same in two groups; `at` is the scale of the first."""
    p, q = table(at), table(at + 4)
    return _run(where, p, p, q, q, x, a)


@inlined
def _fours(table, where, at, x, a):
    """The same in four groups."""
    return _run(where, table(at), table(at + 4), table(at + 8), table(at + 12), x, a)


@inlined
def _columns(where):
    return load16(F32, where), load16(F32, where + 64), load16(F32, where + 128), load16(F32, where + 192)


@inlined
def stream_nibbles(scaled, zeros, table, d, first, last, x, x_rows, out, width, out_rows):
    """`stream` of kernels.matrix where in_sixty_fours."""
    cols, span, step, groups, zero = d[COLS], d[BLOCK_COLS], d[ROW_BYTES], d[SCALE_COLS], splat(np.float32(0.0))
    each, held = max(64 // span, 1), local(HELD)  # groups in a run of 64 columns
    for r in range(first, last, 4):
        r1, r2, r3 = min(r + 1, last - 1), min(r + 2, last - 1), min(r + 3, last - 1)  # the last again
        w0, w1, w2, w3 = d[BASE] + r * step, d[BASE] + r1 * step, d[BASE] + r2 * step, d[BASE] + r3 * step
        for s in range(x_rows.shape[0]):
            xs, ahead, a0, a1, a2, a3 = x + x_rows[s] * cols * 4, w0 + 4 * step, zero, zero, zero, zero
            for low in range(0, groups, CHUNK):
                count = min(CHUNK, groups - low)
                for j in range(4):
                    hold(scaled, zeros, d, min(r + j, last - 1), low, count, held + j * LINE)
                k, end = low * span, min((low + count) * span, cols)
                if each == 1:
                    for g in range(count):
                        p0, p1 = table(held + 4 * g), table(held + 4 * g + LINE)
                        p2, p3 = table(held + 4 * g + 2 * LINE), table(held + 4 * g + 3 * LINE)
                        for _ in range(k, min(k + span, end), 64):
                            at, v = k // 2, _columns(xs + 4 * k)
                            prefetch(ahead + 4 * at)
                            prefetch(ahead + 4 * at + 64)
                            a0 = _run(w0 + at, p0, p0, p0, p0, v, a0)
                            a1 = _run(w1 + at, p1, p1, p1, p1, v, a1)
                            a2 = _run(w2 + at, p2, p2, p2, p2, v, a2)
                            a3 = _run(w3 + at, p3, p3, p3, p3, v, a3)
                            k += 64
                else:
                    for g in range(0, count, each):
                        at, v, here = k // 2, _columns(xs + 4 * k), held + 4 * g
                        prefetch(ahead + 4 * at)
                        prefetch(ahead + 4 * at + 64)
                        if each == 2:
                            a0, a1 = _twos(table, w0 + at, here, v, a0), _twos(table, w1 + at, here + LINE, v, a1)
                            a2 = _twos(table, w2 + at, here + 2 * LINE, v, a2)
                            a3 = _twos(table, w3 + at, here + 3 * LINE, v, a3)
                        else:
                            a0, a1 = _fours(table, w0 + at, here, v, a0), _fours(table, w1 + at, here + LINE, v, a1)
                            a2 = _fours(table, w2 + at, here + 2 * LINE, v, a2)
                            a3 = _fours(table, w3 + at, here + 3 * LINE, v, a3)
                        k += 64
            place = out + (out_rows[s] * width + r) * 4
            store1(place, tree(a0))
            if r + 1 < last:
                store1(place + 4, tree(a1))
            if r + 2 < last:
                store1(place + 8, tree(a2))
            if r + 3 < last:
                store1(place + 12, tree(a3))
