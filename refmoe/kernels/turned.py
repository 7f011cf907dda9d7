"""turned - products of integer codes for many rows of x: chunks of W are turned, so that its rows lie side by side.

A turned chunk is 32 rows and 16 units of columns (see kernels.coded). Each of its vectors holds the same few columns of
16 rows: the sums of a unit are then whole lanes, one for each row, and the lanes of the clause (unit mod 16) are
sixteen vectors in memory. It holds, one after the other
    codes     [16 units][unit / 4][2][64 bytes]
    scales    f32[16 units][2][16 rows]
    minima    f32[16 units][2][16 rows]
What is written there beyond the last row or unit is never used; codes beyond the last column are multiplied by 0.
"""

import numpy as np

from refmoe.jit import inlined, kernel
from refmoe.kernels.coded import LINE, LONGEST, UNITS, readable
from refmoe.kernels.matrix import BASE, COLS, END, ROW_BYTES
from refmoe.kernels.quantise import padded, row_bytes, tables_at
from refmoe.numerics.vec import F32, load1, load16, splat, store16, store_partial, vadd, vfma, view64, vmul
from refmoe.numerics.vec_codes import (
    isplat,
    load_int,
    to_float,
)
from refmoe.numerics.vec_dots import excess_of, unit_of
from refmoe.numerics.vec_panels import hold_unit, store_panel, transpose16, unit_dots

PANEL, PAIR = 32, 2 * LINE
TOKENS = 8  # rows of x per pass over a panel: their sums stay in the first-level cache
SUMS_BYTES = UNITS * TOKENS * PAIR  # the sums of one pass: [16 lanes][TOKENS][32 rows]
TABLE = UNITS * PAIR  # bytes of the scales, and of the minima
SPARE_BYTES = 16 * 8 + 16 * LONGEST + 16 * LINE  # addresses, copies of chunks, rows to be turned


@kernel
def codes_bytes(unit):
    """Bytes of the codes of a turned chunk."""
    return UNITS * unit * PANEL


@kernel
def scratch_bytes(cols):
    """Bytes of scratch of one thread for matrices of so many columns."""
    return SUMS_BYTES + SPARE_BYTES + (cols // (UNITS * 16) + 1) * (codes_bytes(32) + 2 * TABLE)


@inlined
def _fill(kind, stored, codes, scales, minima, d, first, last, k, place, spare):
    """The turned chunk of columns k .. k + 16 * unit - 1 of rows first..last."""
    unit, where, copies, rows = unit_of(kind), view64(spare, 16), spare + 16 * 8, spare + 16 * 8 + 16 * LONGEST
    tables, end = place + codes_bytes(unit), min(d[COLS], k + UNITS * unit)
    for half in range(0, min(PANEL, last - first), 16):
        for i in range(16):
            chunk = d[BASE] + min(first + half + i, last - 1) * d[ROW_BYTES] + k // (UNITS * unit) * stored
            where[i] = readable(chunk, stored, d[END], copies + i * LONGEST)
        for j in range((end - k + 63) // 64):
            for i in range(16):
                store_panel(kind, rows + i * LINE, codes(where[i], j))
            transpose16(rows, LINE, place + j * 16 * PAIR + half * 4, PAIR)
        for i in range(16):
            store16(rows + i * LINE, scales(where[i], d, min(first + half + i, last - 1), k))
        transpose16(rows, LINE, tables + half * 4, PAIR)
        if minima is not None:
            for i in range(16):
                store16(rows + i * LINE, minima(where[i], d, min(first + half + i, last - 1), k))
            transpose16(rows, LINE, tables + TABLE + half * 4, PAIR)


@inlined
def _add(minima, sums, tables, low, high, entry, total, a, b):
    """Sums of 32 rows with one unit: a and b are the integer products, `entry` the scale of x, `total` its codes."""
    factor = splat(load1(entry))
    first = vfma(to_float(a), vmul(low, factor), load16(F32, sums))
    second = vfma(to_float(b), vmul(high, factor), load16(F32, sums + LINE))
    if minima is not None:
        codes = splat(load1(total))
        first = vfma(codes, vmul(load16(F32, tables + TABLE), factor), first)
        second = vfma(codes, vmul(load16(F32, tables + TABLE + LINE), factor), second)
    return first, second


@inlined
def _multiply_chunk(kind, minima, chunk, k, cols, x, x_rows, sums):
    """Add one turned chunk, whose first column is k, times the rows x_rows of quantised x to their sums. Rows of x go
    in twos; an odd last one is done twice, with the same result."""
    unit = unit_of(kind)
    step, size, entries = codes_bytes(unit) // UNITS, row_bytes(cols), padded(cols) // unit * 4
    tables, excess, last = tables_at(cols, unit) + k // unit * 4, excess_of(kind), x_rows.shape[0] - 1
    for u in range(min(UNITS, (cols - k + unit - 1) // unit)):
        scales = chunk + UNITS * step + u * PAIR
        codes, low, high = hold_unit(kind, chunk + u * step), load16(F32, scales), load16(F32, scales + LINE)
        at, column = tables + u * 4, k + u * unit
        for t in range(0, last + 1, 2):
            other = min(t + 1, last)
            one, two = x + x_rows[t] * size, x + x_rows[other] * size
            a, b, c, e = unit_dots(kind, codes, one + column, two + column,
                                   isplat(load_int(one + at + entries) * excess),
                                   isplat(load_int(two + at + entries) * excess))  # fmt: skip
            where, there = sums + (u * TOKENS + t) * PAIR, sums + (u * TOKENS + other) * PAIR
            a, b = _add(minima, where, scales, low, high, one + at, one + at + 2 * entries, a, b)
            c, e = _add(minima, there, scales, low, high, two + at, two + at + 2 * entries, c, e)
            store16(where, a)
            store16(where + LINE, b)
            store16(there, c)
            store16(there + LINE, e)


@kernel
def _clear(sums):
    for i in range(sums, sums + SUMS_BYTES, LINE):
        store16(i, splat(np.float32(0.0)))


@kernel
def _tree(sums):
    """The halving tree over sixteen lanes, each a vector of 16 rows."""
    h, step = UNITS // 2, TOKENS * PAIR
    while h > 0:
        for i in range(sums, sums + h * step, step):
            store16(i, vadd(load16(F32, i), load16(F32, i + h * step)))
        h //= 2
    return load16(F32, sums)


@kernel
def _finish(sums, rows, out, width, out_rows):
    """Trees of all sums, stored where they belong; `rows` rows of the panel are there, `out` is its first column."""
    for t in range(out_rows.shape[0]):
        for half in range(0, rows, 16):
            y, where = _tree(sums + t * PAIR + half * 4), out + (out_rows[t] * width + half) * 4
            if rows - half >= 16:
                store16(where, y)
            else:
                store_partial(where, y, rows - half)


@inlined
def multiply_codes(kind, stored, codes, scales, minima, d, first, last, x, x_rows, out, width, out_rows, scratch):
    """Rows first..last (at most 32) of the matrix `d` times the rows x_rows of quantised x."""
    cols, span = d[COLS], UNITS * unit_of(kind)
    sums, spare, panel = scratch, scratch + SUMS_BYTES, scratch + SUMS_BYTES + SPARE_BYTES
    # where one pass takes all rows of x, each chunk takes the place of the one before
    size = codes_bytes(unit_of(kind)) + 2 * TABLE if out_rows.shape[0] > TOKENS else 0
    for t in range(0, out_rows.shape[0], TOKENS):
        now, there = x_rows[t:t + TOKENS], out_rows[t:t + TOKENS]
        _clear(sums)
        for k in range(0, cols, span):
            chunk = panel + k // span * size
            if t == 0:
                _fill(kind, stored, codes, scales, minima, d, first, last, k, chunk, spare)
            _multiply_chunk(kind, minima, chunk, k, cols, x, now, sums)
        _finish(sums, last - first, out + first * 4, width, there)
