"""columns - GPTQ whose columns have an order (kernels.small_integers): `stream` of words side by side for the rows.

A vector holds one column of sixteen rows, so that the group of the column is one for all lanes. Lane l of the one
reduction, the columns l, l + 16 and so on, is then a whole vector of sums; eight of the sixteen fit into registers, so
that W is gone through twice, for columns with l < 8 and for the others. What is read beyond the last row is not used.
Without an order of columns matrices are turned into rows (kernels.turning); what is left goes through `vector`.
"""

import numpy as np

from refmoe.jit import inlined, item_kernel, kernel
from refmoe.kernels.matmul import product_item
from refmoe.kernels.matrix import BASE, COLS, END, stream_vectors
from refmoe.kernels.scales import SCALE_KIND, SCALES, some_scales
from refmoe.kernels.small_integers import (
    BITS,
    G_IDX,
    ROWS,
    ZERO,
    ZEROS,
    gptq_zero,
    vector_gptq,
    weights,
)
from refmoe.numerics.vec import load1, prefetch, splat, store16, store_partial, vadd, vfma
from refmoe.numerics.vec_codes import load_ints, load_some_ints, mask, shift_right, to_float
from refmoe.numerics.vec_int import (
    load_codes,
    load_i32,
    load_i64,
    put,
    spread4,
    vand,
    viadd,
)
from refmoe.numerics.vec_int import to_float as lanes_to_float

NEXT = 127  # bytes to what is asked for: the last byte of the next 64, so that a whole line further on is there


@kernel
def _words(where, count, end):
    """16 words of 32 bits at `where`, of which `count` belong to rows that are there."""
    return load_ints(where) if where + 64 <= end else load_some_ints(where, count)


@kernel
def _scales(d, r, count, g):
    """Scales of group g for `count` rows from r on."""
    size = 4 if d[SCALE_KIND] == 0 else 2
    return some_scales(d[SCALE_KIND], d[SCALES] + (g * d[ROWS] + r) * size, count)


@kernel
def _zeros(d, r, count, g):
    """Zero points of group g for `count` rows from r on."""
    if d[ZEROS] == 0:
        return splat(gptq_zero(d, r, g))
    bits = d[BITS]
    if count == 16 and r % 8 == 0:
        where = d[ZEROS] + (g * (d[ROWS] * bits + 31 >> 5) + (r * bits >> 5)) * 4
        codes = spread4(load_i64(where)) if bits == 4 else load_codes(where)
        return lanes_to_float(vand(viadd(codes, splat(np.int32(d[ZERO]))), splat(np.int32((1 << bits) - 1))))
    found = splat(np.float32(0.0))
    for i in range(count):
        found = put(found, i, gptq_zero(d, r + i, g))
    return found


@inlined
def _nibbles(d, r, count, k):
    """Codes of eight columns from k on."""
    step = d[ROWS] * 4
    where = d[BASE] + k // 8 * step + r * 4
    prefetch(where + NEXT)
    w = _words(where, count, d[END])
    return (to_float(mask(w, 15)), to_float(mask(shift_right(w, 4), 15)), to_float(mask(shift_right(w, 8), 15)),
            to_float(mask(shift_right(w, 12), 15)), to_float(mask(shift_right(w, 16), 15)),
            to_float(mask(shift_right(w, 20), 15)), to_float(mask(shift_right(w, 24), 15)),
            to_float(shift_right(w, 28)))  # fmt: skip


@inlined
def _bytes(d, r, count, k):
    step = d[ROWS] * 4
    where = d[BASE] + k // 4 * step + r * 4
    prefetch(where + NEXT)
    prefetch(where + step + NEXT)
    v, w = _words(where, count, d[END]), _words(where + step, count, d[END])
    return (to_float(mask(v, 255)), to_float(mask(shift_right(v, 8), 255)), to_float(mask(shift_right(v, 16), 255)),
            to_float(shift_right(v, 24)), to_float(mask(w, 255)), to_float(mask(shift_right(w, 8), 255)),
            to_float(mask(shift_right(w, 16), 255)), to_float(shift_right(w, 24)))  # fmt: skip


@inlined
def _add(a, codes, shared, xs):
    """One column more."""
    return vfma(weights(codes, shared), splat(load1(xs)), a)


@inlined
def _of_column(d, r, count, k):
    """What the group of column k shares, where columns have an order."""
    g = load_i32(d[G_IDX] + k * 4)
    return _zeros(d, r, count, g), _scales(d, r, count, g)


@inlined
def _sums(columns, d, r, count, first, xs):
    """Eight lanes of the reduction, from lane `first` on, each for 16 rows from r on."""
    a0 = splat(np.float32(0.0))
    a1, a2, a3, a4, a5, a6, a7 = a0, a0, a0, a0, a0, a0, a0
    for k in range(first, d[COLS], 16):
        q, xk = columns(d, r, count, k), xs + k * 4
        a0 = _add(a0, q[0], _of_column(d, r, count, k), xk)
        a1 = _add(a1, q[1], _of_column(d, r, count, k + 1), xk + 4)
        a2 = _add(a2, q[2], _of_column(d, r, count, k + 2), xk + 8)
        a3 = _add(a3, q[3], _of_column(d, r, count, k + 3), xk + 12)
        a4 = _add(a4, q[4], _of_column(d, r, count, k + 4), xk + 16)
        a5 = _add(a5, q[5], _of_column(d, r, count, k + 5), xk + 20)
        a6 = _add(a6, q[6], _of_column(d, r, count, k + 6), xk + 24)
        a7 = _add(a7, q[7], _of_column(d, r, count, k + 7), xk + 28)
    return a0, a1, a2, a3, a4, a5, a6, a7


@inlined
def _stream(columns, d, first, last, x, x_rows, out, width, out_rows):
    for r in range(first, last, 16):
        count = min(16, last - r)
        for s in range(x_rows.shape[0]):
            xs, place = x + x_rows[s] * d[COLS] * 4, out + (out_rows[s] * width + r) * 4
            a, b = _sums(columns, d, r, count, 0, xs), _sums(columns, d, r, count, 8, xs)
            y0, y2 = vadd(vadd(a[0], b[0]), vadd(a[4], b[4])), vadd(vadd(a[2], b[2]), vadd(a[6], b[6]))
            y1, y3 = vadd(vadd(a[1], b[1]), vadd(a[5], b[5])), vadd(vadd(a[3], b[3]), vadd(a[7], b[7]))
            y = vadd(vadd(y0, y2), vadd(y1, y3))  # the halving tree
            if count == 16:
                store16(place, y)
            else:
                store_partial(place, y, count)


@kernel
def _stream_gptq(d, first, last, x, x_rows, out, width, out_rows):
    if d[G_IDX] == 0 or d[COLS] % 16 != 0:
        stream_vectors(vector_gptq, d, first, last, x, x_rows, out, width, out_rows)
    elif d[BITS] == 4:
        _stream(_nibbles, d, first, last, x, x_rows, out, width, out_rows)
    else:
        _stream(_bytes, d, first, last, x, x_rows, out, width, out_rows)


@item_kernel
def product_gptq(block, item, slot):
    """Work item of GPTQ."""
    product_item(_stream_gptq, vector_gptq, block, item, slot)
