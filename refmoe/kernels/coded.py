"""coded - products of integer codes: quantised rows of x (kernels.quantise) times rows of W, exact within a unit.

A unit is 32 columns, or 16; a chunk is 16 units of columns of one row of W. How a format offers its codes:
    stored                     bytes of a chunk in the array of codes, rows of which are d[ROW_BYTES] long
    codes(where, j)            columns 64j .. 64j+63 of the chunk at address `where`, 64 bytes of the format's Kind
    scales(where, d, r, k)     f32 scales of the 16 units of row r from column k on
    minima(where, d, r, k)     what is added to each code times its scale, or None
    apart(where, j)            or None: columns 128j .. 128j+127 in the order of the stored bytes, where a unit has its
                               first half in lower nibbles: 64 bytes of first halves and 64 of second ones (VNNI)
`where` is readable for `stored` bytes: at the end of the matrix it is a copy. What these return beyond the last column
or the last unit is not used. This file goes through W row by row, for few rows of x; kernels.turned has many.
"""

import numpy as np

from refmoe.jit import inlined, kernel
from refmoe.kernels.matrix import BASE, COLS, END, ROW_BYTES
from refmoe.kernels.quantise import halves_at, padded, row_bytes, tables_at
from refmoe.numerics.vec import F32, load16, prefetch, splat, store1, tree, vfma, vmul
from refmoe.numerics.vec_codes import (
    copy_byte,
    first_lanes,
    iadd,
    load_ints,
    times,
    to_float,
)
from refmoe.numerics.vec_dots import (
    excess_of,
    halves_dot,
    no_part,
    row_dot,
    sums_of_4,
    sums_of_8,
    unit_of,
)

UNITS, LINE = 16, 64
LONGEST = 640  # no chunk is stored in more bytes
AHEAD = 2048  # bytes between what is read and what is asked for; 8192 costs a quarter on an Intel core


@kernel
def readable(where, stored, end, spare):
    """`where`, or a copy at `spare` of what is there before `end` if a chunk does not fit."""
    if where + stored <= end:
        return where
    for i in range(end - where):
        copy_byte(where + i, spare + i)
    return spare


@inlined
def _dots(kind, codes, where, j, x, left):
    """Partial sums of columns 64j .. 64j+63 of a chunk, of which `left` columns are there."""
    if j * 64 >= left:
        return no_part()
    return row_dot(kind, codes(where, j), x + j * 64)


@inlined
def _chunk(kind, codes, where, x, left):
    """Sums over 16 units."""
    if unit_of(kind) == 32:
        return _chunk_32(kind, codes, where, x, left)
    return _chunk_16(kind, codes, where, x, left)


@inlined
def _chunk_32(kind, codes, where, x, left):
    """Sums over 16 units of 32 columns."""
    return sums_of_8(kind, _dots(kind, codes, where, 0, x, left), _dots(kind, codes, where, 1, x, left),
                     _dots(kind, codes, where, 2, x, left), _dots(kind, codes, where, 3, x, left),
                     _dots(kind, codes, where, 4, x, left), _dots(kind, codes, where, 5, x, left),
                     _dots(kind, codes, where, 6, x, left), _dots(kind, codes, where, 7, x, left))  # fmt: skip


@inlined
def _chunk_16(kind, codes, where, x, left):
    """Sums over 16 units of 16 columns."""
    return sums_of_4(kind, _dots(kind, codes, where, 0, x, left), _dots(kind, codes, where, 1, x, left),
                     _dots(kind, codes, where, 2, x, left), _dots(kind, codes, where, 3, x, left))  # fmt: skip


@inlined
def _dots_apart(kind, apart, where, j, x, left):
    """Partial sums of columns 128j .. 128j+127 of a chunk."""
    if j * 128 >= left:
        return no_part()
    first, second = apart(where, j)
    return halves_dot(kind, first, second, x + j * 128)


@inlined
def _chunk_apart(kind, apart, where, x, left):
    """Sums over 16 units of 32 columns; x: codes in halves."""
    return sums_of_4(kind, _dots_apart(kind, apart, where, 0, x, left), _dots_apart(kind, apart, where, 1, x, left),
                     _dots_apart(kind, apart, where, 2, x, left), _dots_apart(kind, apart, where, 3, x, left))


@inlined
def stream_codes(kind, stored, codes, scales, minima, apart, d, first, last, x, x_rows, out, width, out_rows, spare):
    """Rows first..last of the matrix `d` times the rows x_rows of quantised x."""
    unit = unit_of(kind)
    cols, end, size, span = d[COLS], d[END], row_bytes(d[COLS]), UNITS * unit
    entries, tables = padded(cols) // unit * 4, tables_at(cols, unit)
    for r in range(first, last):
        row = d[BASE] + r * d[ROW_BYTES]
        for s in range(x_rows.shape[0]):
            xs, lanes = x + x_rows[s] * size, splat(np.float32(0.0))
            for k in range(0, cols, span):
                where = readable(row + k // span * stored, stored, end, spare)
                for line in range(0, stored, LINE):
                    prefetch(where + AHEAD + line)
                entry, left = xs + tables + k // unit * 4, cols - k
                if apart is not None:
                    n = _chunk_apart(kind, apart, where, xs + halves_at(cols) + k, left)
                else:
                    n = _chunk(kind, codes, where, xs + k, left)
                if excess_of(kind) != 0:
                    n = iadd(n, times(load_ints(entry + entries), excess_of(kind)))
                factors = load16(F32, entry)
                new = vfma(to_float(n), vmul(scales(where, d, r, k), factors), lanes)
                if minima is not None:
                    new = vfma(load16(F32, entry + 2 * entries), vmul(minima(where, d, r, k), factors), new)
                lanes = new if left >= span else first_lanes(new, lanes, (left + unit - 1) // unit)
            store1(out + (out_rows[s] * width + r) * 4, tree(lanes))
