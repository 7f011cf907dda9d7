"""Matrices of e2m1 codes, two to a byte, with one scale for each group of columns of a row.

Descriptor: BASE, COLS, ROW_BYTES, then the words of kernels.scales, then GLOBAL, the binary32 pattern of a second scale
of the whole matrix, and HOW it is used: 0 not at all, 1 the scale is divided by it, 2 multiplied. Groups are 16 or 32.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels.matmul import product_item
from refmoe.kernels.matrix import BASE, ROW_BYTES, stream_vectors
from refmoe.kernels.product_codes import product_codes_item
from refmoe.kernels.scales import BLOCK_COLS, SCALE_COLS, SCALE_KIND, SCALES, load_scale
from refmoe.kernels.turned import load_16, load_32
from refmoe.numerics.vec import address, splat, vdiv, vmul
from refmoe.numerics.vec_codes import load_bytes16, load_bytes32
from refmoe.numerics.vec_int import e2m1, e4m3, float_of_bits, load_codes_partial, load_i64, power, spread4
from refmoe.numerics.vec_unpack import look_up, nibble_neighbours

GLOBAL, HOW = SCALE_COLS + 1, SCALE_COLS + 2


@kernel
def vector_fp4(d, r, k):
    """`vector` of e2m1 codes; columns come in whole groups."""
    scale = load_scale(d[SCALE_KIND], d[SCALES], r * d[SCALE_COLS] + k * 16 // d[BLOCK_COLS])
    if d[HOW] == 1:
        scale = np.float32(scale / float_of_bits(d[GLOBAL]))
    elif d[HOW] == 2:
        scale = np.float32(scale * float_of_bits(d[GLOBAL]))
    return vmul(e2m1(spread4(load_i64(d[BASE] + r * d[ROW_BYTES] + k * 8))), splat(scale))


@kernel
def _stream_fp4(d, first, last, x, x_rows, out, width, out_rows):
    stream_vectors(vector_fp4, d, first, last, x, x_rows, out, width, out_rows)


@item_kernel
def product_fp4(block, item, slot):
    """Work item of e2m1 codes."""
    product_item(_stream_fp4, vector_fp4, block, item, slot)


STEPS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)  # twice the value of e2m1


@kernel
def _codes(where, j):
    return look_up(load_bytes16(address(STEPS)), nibble_neighbours(load_bytes32(where + 32 * j)))


@kernel
def _scales(where, d, r, k):
    """Half the scales of 16 groups from column k on: the codes are doubled."""
    first = k // d[BLOCK_COLS]
    codes = load_codes_partial(d[SCALES] + r * d[SCALE_COLS] + first, min(16, d[SCALE_COLS] - first))
    found = e4m3(codes) if d[SCALE_KIND] == 4 else power(codes)
    if d[HOW] == 1:
        found = vdiv(found, splat(float_of_bits(d[GLOBAL])))
    elif d[HOW] == 2:
        found = vmul(found, splat(float_of_bits(d[GLOBAL])))
    return vmul(found, splat(np.float32(0.5)))


@item_kernel
def codes_32(block, item, slot):
    """Codes of groups of 32."""
    product_codes_item(32, 256, load_32, _codes, _scales, None, block, item, slot)


@item_kernel
def codes_16(block, item, slot):
    """Codes of groups of 16."""
    product_codes_item(16, 128, load_16, _codes, _scales, None, block, item, slot)
