"""integer_codes - small integers of kernels.small_integers as codes for linear_a8: q less half their range, and minima
that make up for the zero points. A group is a whole row, 16 columns, or a multiple of 32; there is no order of columns.

Rows of bits (`packed`) go through kernels.coded. Words of GPTQ and AWQ hold columns or rows of W_eff that lie in other
places, so turned chunks (kernels.turned) are written from them at once, also for a single row of x.
"""

import numpy as np

from refmoe.jit import inlined, item_kernel, kernel
from refmoe.kernels.columns import awq_zeros, gptq_zeros, load_words, scales_of_rows
from refmoe.kernels.matrix import BASE, COLS, END
from refmoe.kernels.product_codes import product_codes_item, product_turned_item
from refmoe.kernels.scales import unit_scales
from refmoe.kernels.small_integers import (
    BITS,
    GROUP,
    GROUPS,
    ROWS,
    SCALE_KIND,
    SCALES,
    packed_zero,
)
from refmoe.kernels.turned import PAIR, TABLE, UNITS, codes_bytes
from refmoe.numerics.vec import splat, store16, vmul, vsub
from refmoe.numerics.vec_codes import (
    copy_byte,
    load_bytes16,
    load_bytes32,
    load_bytes64,
    minus,
    to_bytes,
)
from refmoe.numerics.vec_dots import Kind
from refmoe.numerics.vec_int import put
from refmoe.numerics.vec_panels import awq_rows, nibble_columns, store_panel
from refmoe.numerics.vec_unpack import nibble_neighbours

NIBBLES_32, NIBBLES_16, SIGNED_32, SIGNED_16 = Kind(32, 15, 8), Kind(16, 15, 8), Kind(32), Kind(16)


@kernel
def _nibbles(where, j):
    return nibble_neighbours(load_bytes32(where + 32 * j))


@kernel
def _bytes(where, j):
    return minus(load_bytes64(where + 64 * j), 128)


@kernel
def _scales(d, r, k, unit):
    return unit_scales(d[SCALE_KIND], d[SCALES], r * d[GROUPS], d[GROUPS], d[GROUP], k, unit)


@kernel
def _minima(d, r, k, unit):
    half, found = np.float32(1 << (d[BITS] - 1)), splat(np.float32(0.0))
    for lane in range(16):
        g = min((k + lane * unit) // d[GROUP], d[GROUPS] - 1)
        found = put(found, lane, np.float32(half - packed_zero(d, r, g)))
    return vmul(found, _scales(d, r, k, unit))


@kernel
def _scales_32(where, d, r, k):
    return _scales(d, r, k, 32)


@kernel
def _scales_16(where, d, r, k):
    return _scales(d, r, k, 16)


@kernel
def _minima_32(where, d, r, k):
    return _minima(d, r, k, 32)


@kernel
def _minima_16(where, d, r, k):
    return _minima(d, r, k, 16)


@item_kernel
def _nibbles_32(block, item, slot):
    product_codes_item(NIBBLES_32, 256, _nibbles, _scales_32, None, block, item, slot)


@item_kernel
def _nibbles_32_zeros(block, item, slot):
    product_codes_item(NIBBLES_32, 256, _nibbles, _scales_32, _minima_32, block, item, slot)


@item_kernel
def _nibbles_16(block, item, slot):
    product_codes_item(NIBBLES_16, 128, _nibbles, _scales_16, None, block, item, slot)


@item_kernel
def _nibbles_16_zeros(block, item, slot):
    product_codes_item(NIBBLES_16, 128, _nibbles, _scales_16, _minima_16, block, item, slot)


@item_kernel
def _bytes_32(block, item, slot):
    product_codes_item(SIGNED_32, 512, _bytes, _scales_32, None, block, item, slot)


@item_kernel
def _bytes_32_zeros(block, item, slot):
    product_codes_item(SIGNED_32, 512, _bytes, _scales_32, _minima_32, block, item, slot)


@item_kernel
def _bytes_16(block, item, slot):
    product_codes_item(SIGNED_16, 256, _bytes, _scales_16, None, block, item, slot)


@item_kernel
def _bytes_16_zeros(block, item, slot):
    product_codes_item(SIGNED_16, 256, _bytes, _scales_16, _minima_16, block, item, slot)


@kernel
def _fill_scales(d, first, count, k, place, half, zeros):
    """Scales and, with zero points, minima of 16 rows from `first` on: `count` rows are there."""
    middle = splat(np.float32(1 << (d[BITS] - 1)))
    for u in range(UNITS):
        g = min((k + 32 * u) // d[GROUP], d[GROUPS] - 1)
        scales = scales_of_rows(d, first, count, g)
        target = place + codes_bytes(32) + u * PAIR + half * 64
        store16(target, scales)
        if zeros is not None:
            store16(target + TABLE, vmul(vsub(middle, zeros(d, first, count, g)), scales))


@inlined
def _fill_gptq(kind, stored, codes, scales, minima, d, first, last, k, place, spare):
    """kernels.turned: 32 rows and 512 columns of GPTQ; a word holds columns of one row."""
    each = 32 // d[BITS]
    words = (min(d[COLS], k + 512) - k + each - 1) // each
    for half in range((last - first + 15) // 16):
        row = first + 16 * half
        count = min(16, last - row)
        for j in range(words):
            where = d[BASE] + ((k // each + j) * d[ROWS] + row) * 4
            word, target = load_words(where, count, d[END]), place + j * (each // 4) * PAIR + half * 64
            if d[BITS] == 8:
                store_panel(kind, target, minus(to_bytes(word), 128))
            else:
                a, b = nibble_columns(word)
                store_panel(kind, target, a)
                store_panel(kind, target + PAIR, b)
        _fill_scales(d, row, count, k, place, half, minima)


@inlined
def _fill_awq(kind, stored, codes, scales, minima, d, first, last, k, place, spare):
    """kernels.turned: 32 rows and 512 columns of AWQ; a word holds eight rows of one column, four columns at a time."""
    step, rest = d[ROWS] // 2, d[COLS] - k
    for c in range(0, min(512, rest), 4):
        where = d[BASE] + (k + c) * step + first // 2
        if where + 3 * step + 16 <= d[END] and c + 4 <= rest:
            a, b = awq_rows(load_bytes16(where), load_bytes16(where + step), load_bytes16(where + 2 * step),
                            load_bytes16(where + 3 * step))  # fmt: skip
        else:
            for i in range(4):
                for n in range((last - first) // 2 if c + i < rest else 0):
                    copy_byte(where + i * step + n, spare + 16 * i + n)
            a, b = awq_rows(load_bytes16(spare), load_bytes16(spare + 16), load_bytes16(spare + 32),
                            load_bytes16(spare + 48))  # fmt: skip
        target = place + c // 4 * PAIR
        store_panel(kind, target, a)
        store_panel(kind, target + 64, b)
    for half in range((last - first + 15) // 16):
        _fill_scales(d, first + 16 * half, min(16, last - first - 16 * half), k, place, half, minima)


@item_kernel
def _gptq_nibbles(block, item, slot):
    product_turned_item(_fill_gptq, NIBBLES_32, None, block, item, slot)


@item_kernel
def _gptq_nibbles_zeros(block, item, slot):
    product_turned_item(_fill_gptq, NIBBLES_32, gptq_zeros, block, item, slot)


@item_kernel
def _gptq_bytes(block, item, slot):
    product_turned_item(_fill_gptq, SIGNED_32, None, block, item, slot)


@item_kernel
def _gptq_bytes_zeros(block, item, slot):
    product_turned_item(_fill_gptq, SIGNED_32, gptq_zeros, block, item, slot)


@item_kernel
def awq_codes(block, item, slot):
    """AWQ."""
    product_turned_item(_fill_awq, NIBBLES_32, awq_zeros, block, item, slot)


GPTQ = {(4, True): _gptq_nibbles, (4, False): _gptq_nibbles_zeros,
        (8, True): _gptq_bytes, (8, False): _gptq_bytes_zeros}  # fmt: skip
PACKED = {(4, 32, True): _nibbles_32, (4, 32, False): _nibbles_32_zeros,
          (4, 16, True): _nibbles_16, (4, 16, False): _nibbles_16_zeros,
          (8, 32, True): _bytes_32, (8, 32, False): _bytes_32_zeros,
          (8, 16, True): _bytes_16, (8, 16, False): _bytes_16_zeros}  # fmt: skip
