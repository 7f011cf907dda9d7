"""Matrices of e2m1 codes, two to a byte, with one scale for each group of columns of a row.

Descriptor: BASE, COLS, ROW_BYTES, then the words of kernels.scales, then GLOBAL, the binary32 pattern of a second scale
of the whole matrix, and HOW it is used: 0 not at all, 1 the scale is divided by it, 2 multiplied. Groups are 16 or 32.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels.matmul import product_item
from refmoe.kernels.matrix import BASE, ROW_BYTES, stream_vectors
from refmoe.kernels.scales import BLOCK_COLS, SCALE_COLS, SCALE_KIND, SCALES, load_scale
from refmoe.numerics.vec import splat, vmul
from refmoe.numerics.vec_int import e2m1, float_of_bits, load_i64, spread4

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
