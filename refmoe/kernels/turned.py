"""turned - products of integer codes for many rows of x: chunks of W are turned, so that its rows lie side by side.

A turned chunk is 32 rows and 16 units of columns (see kernels.coded). Each of its vectors holds the same few columns of
16 rows: the sums of a unit are then whole lanes, one for each row, and the lanes of the clause (unit mod 16) are
sixteen vectors in memory. It holds, one after the other
    codes     [16 units][unit / QUAD][2][64 bytes]
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
    shift_left,
    to_float,
)
from refmoe.numerics.vec_dots import (
    CODE_BYTES,
    QUAD,
    VNNI,
    load_unit,
    store_panel_row,
    transpose16,
    unit_dots,
)

PANEL, PAIR = 32, 2 * LINE
TOKENS = 16  # rows of x per pass over a panel: their sums stay in the first-level cache
SUMS_BYTES = UNITS * TOKENS * PAIR  # the sums of one pass: [16 lanes][TOKENS][32 rows]
TABLE = UNITS * PAIR  # bytes of the scales, and of the minima
SPARE_BYTES = 16 * 8 + 16 * LONGEST + 16 * LINE * CODE_BYTES  # addresses, copies of chunks, rows to be turned
_COUNT_32, _COUNT_16 = 64 // QUAD, 32 // QUAD  # vectors of a unit


@kernel
def load_32(where):
    """The codes of a unit of 32 columns."""
    return load_unit(where, _COUNT_32)


@kernel
def load_16(where):
    """The codes of a unit of 16 columns."""
    return load_unit(where, _COUNT_16)


@kernel
def codes_bytes(unit):
    """Bytes of the codes of a turned chunk."""
    return UNITS * unit * PANEL * CODE_BYTES


@kernel
def scratch_bytes(cols):
    """Bytes of scratch of one thread for matrices of so many columns."""
    return SUMS_BYTES + SPARE_BYTES + (cols // (UNITS * 16) + 1) * (codes_bytes(32) + 2 * TABLE)


@inlined
def fill_rows(unit, stored, codes, scales, minima, d, first, last, k, place, spare):
    """The turned chunk of columns k .. k + 16 * unit - 1 of rows first..last, for formats that store row after row."""
    where, copies, rows = view64(spare, 16), spare + 16 * 8, spare + 16 * 8 + 16 * LONGEST
    tables, end = place + codes_bytes(unit), min(d[COLS], k + UNITS * unit)
    for half in range(0, min(PANEL, last - first), 16):
        for i in range(16):
            chunk = d[BASE] + min(first + half + i, last - 1) * d[ROW_BYTES] + k // (UNITS * unit) * stored
            where[i] = readable(chunk, stored, d[END], copies + i * LONGEST)
        for j in range((end - k + 63) // 64):
            for i in range(16):
                store_panel_row(rows + i * LINE * CODE_BYTES, codes(where[i], j))
            for part in range(CODE_BYTES):
                target = place + (j * CODE_BYTES + part) * 16 * PAIR + half * 4
                transpose16(rows + part * LINE, LINE * CODE_BYTES, target, PAIR)
        for i in range(16):
            store16(rows + i * LINE, scales(where[i], d, min(first + half + i, last - 1), k))
        transpose16(rows, LINE, tables + half * 4, PAIR)
        if minima is not None:
            for i in range(16):
                store16(rows + i * LINE, minima(where[i], d, min(first + half + i, last - 1), k))
            transpose16(rows, LINE, tables + TABLE + half * 4, PAIR)


@inlined
def _start(negated):
    """What sums start from: the bytes of VNNI are codes + 128, so less 128 times the sum of the codes of x."""
    if VNNI:
        return shift_left(isplat(negated), 7)
    return isplat(np.int32(0))


@inlined
def _multiply_chunk(load, minima, unit, chunk, k, cols, x, x_rows, sums):
    """Add one turned chunk, whose first column is k, times the rows x_rows of quantised x to their sums."""
    step, size, entries = codes_bytes(unit) // UNITS, row_bytes(cols), padded(cols) // unit * 4
    scales, tables = chunk + UNITS * step, tables_at(cols, unit)
    for u in range(min(UNITS, (cols - k + unit - 1) // unit)):
        codes, low, high = load(chunk + u * step), load16(F32, scales + u * PAIR), load16(F32, scales + u * PAIR + LINE)
        for t in range(x_rows.shape[0]):
            row, where = x + x_rows[t] * size, sums + (u * TOKENS + t) * PAIR
            entry = row + tables + (k // unit + u) * 4
            a, b = unit_dots(codes, row + (k + u * unit) * CODE_BYTES, _start(load_int(entry + entries)))
            factor = splat(load1(entry))
            first = vfma(to_float(a), vmul(low, factor), load16(F32, where))
            second = vfma(to_float(b), vmul(high, factor), load16(F32, where + LINE))
            if minima is not None:
                least, total = scales + TABLE + u * PAIR, splat(load1(entry + 2 * entries))
                first = vfma(total, vmul(load16(F32, least), factor), first)
                second = vfma(total, vmul(load16(F32, least + LINE), factor), second)
            store16(where, first)
            store16(where + LINE, second)


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
def multiply_codes(fill, load, unit, stored, codes, scales, minima, d, first, last, x, x_rows, out, width, out_rows,
                   scratch):  # fmt: skip
    """Rows first..last (at most 32) of the matrix `d` times the rows x_rows of quantised x.

    fill    fill_rows, or what a format has instead that does not store row after row; load: load_32 or load_16
    """
    cols, span = d[COLS], UNITS * unit
    sums, spare, panel = scratch, scratch + SUMS_BYTES, scratch + SUMS_BYTES + SPARE_BYTES
    # where one pass takes all rows of x, each chunk takes the place of the one before
    size = codes_bytes(unit) + 2 * TABLE if out_rows.shape[0] > TOKENS else 0
    for t in range(0, out_rows.shape[0], TOKENS):
        now, there = x_rows[t:t + TOKENS], out_rows[t:t + TOKENS]
        _clear(sums)
        for k in range(0, cols, span):
            chunk = panel + k // span * size
            if t == 0:
                fill(unit, stored, codes, scales, minima, d, first, last, k, chunk, spare)
            _multiply_chunk(load, minima, unit, chunk, k, cols, x, now, sums)
        _finish(sums, last - first, out + first * 4, width, there)
