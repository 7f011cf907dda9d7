"""Matrices of e2m1 codes, two to a byte, with one scale for each group of columns of a row.

Descriptor: BASE, COLS, ROW_BYTES, then the words of kernels.scales, then GLOBAL, the binary32 pattern of a second scale
of the whole matrix, and HOW it is used: 0 not at all, 1 the scale is divided by it, 2 multiplied. Groups are 16 or 32.
"""

import numpy as np

from refmoe.jit import inlined, item_kernel, kernel
from refmoe.kernels.groups import scale_at, stream_groups
from refmoe.kernels.matmul import product_item
from refmoe.kernels.matrix import BASE, ROW_BYTES
from refmoe.kernels.nibbles import in_sixty_fours, stream_nibbles
from refmoe.kernels.product_codes import product_codes_item
from refmoe.kernels.scales import BLOCK_COLS, SCALE_COLS, SCALE_KIND, SCALES, scales_of, splat_scale
from refmoe.numerics.vec import address, splat, vdiv, vmul
from refmoe.numerics.vec_bytes import WIDE, b_lookup, b_shr, load_bytes, upper_bytes, zip_high, zip_low
from refmoe.numerics.vec_codes import load_bytes16, load_bytes32
from refmoe.numerics.vec_dots import Kind
from refmoe.numerics.vec_int import (
    SIXTEEN,
    e2m1,
    float_of_bits,
    load_i64,
    spread4,
)
from refmoe.numerics.vec_unpack import look_up, nibble_neighbours

GLOBAL, HOW = SCALE_COLS + 1, SCALE_COLS + 2


@kernel
def _whole_scale(d, scale):
    """Scales of groups with that of the whole matrix."""
    if d[HOW] == 1:
        return vdiv(scale, splat(float_of_bits(d[GLOBAL])))
    if d[HOW] == 2:
        return vmul(scale, splat(float_of_bits(d[GLOBAL])))
    return scale


@kernel
def vector_fp4(d, r, k):
    """`vector` of e2m1 codes; columns come in whole groups."""
    scale = splat_scale(d[SCALE_KIND], d[SCALES], r * d[SCALE_COLS] + k * 16 // d[BLOCK_COLS])
    return vmul(e2m1(spread4(load_i64(d[BASE] + r * d[ROW_BYTES] + k * 8))), _whole_scale(d, scale))


@inlined
def _pair(where, scale):
    values, low = load_bytes(address(UPPER)), load_bytes(where)
    high = b_shr(low, 4)
    return (vmul(upper_bytes(b_lookup(values, zip_low(low, high))), scale),
            vmul(upper_bytes(b_lookup(values, zip_high(low, high))), scale))  # fmt: skip


@inlined
def _table(where):
    return vmul(e2m1(spread4(SIXTEEN)), scale_at(where))


@kernel
def _stream_fp4(d, first, last, x, x_rows, out, width, out_rows):
    if WIDE and in_sixty_fours(d):
        stream_nibbles(_whole_scale, None, _table, d, first, last, x, x_rows, out, width, out_rows)
    else:
        stream_groups(_whole_scale, None, scale_at, _pair, vector_fp4, 16, d, first, last, x, x_rows, out, width,
                      out_rows)


@item_kernel
def product_fp4(block, item, slot):
    """Work item of e2m1 codes."""
    product_item(_stream_fp4, vector_fp4, block, item, slot)


UPPER = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float16).view(np.uint8)[1::2]
UPPER = np.concatenate([UPPER, UPPER | 128])  # upper bytes of e2m1 values in binary16; the lower ones are 0
STEPS = np.array([12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0], np.int8)  # twice the value of e2m1 + 12
FOURS_32, FOURS_16 = Kind(32, 24, 12), Kind(16, 24, 12)


@kernel
def _codes(where, j):
    return look_up(load_bytes16(address(STEPS)), nibble_neighbours(load_bytes32(where + 32 * j)))


@kernel
def _scales(where, d, r, k):
    """Half the scales of 16 groups from column k on: the codes are doubled."""
    first = k // d[BLOCK_COLS]
    found = _whole_scale(d, scales_of(d, r, first, min(16, d[SCALE_COLS] - first)))
    return vmul(found, splat(np.float32(0.5)))


@item_kernel
def codes_32(block, item, slot):
    """Codes of groups of 32."""
    product_codes_item(FOURS_32, 256, _codes, _scales, None, block, item, slot)


@item_kernel
def codes_16(block, item, slot):
    """Codes of groups of 16."""
    product_codes_item(FOURS_16, 128, _codes, _scales, None, block, item, slot)
