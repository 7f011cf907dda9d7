"""Matrices of one byte per weight times a scale of a block: e4m3 codes, and signed integers with a zero point.

Descriptor: BASE, COLS, ROW_BYTES, then the words of kernels.scales, then ZEROS, the address of the zero points of
signed integers (one signed byte for each scale, in the order of the scales), or 0.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels.matmul import product_item
from refmoe.kernels.matrix import BASE, COLS, ROW_BYTES, stream_vectors
from refmoe.kernels.scales import BLOCK_COLS, BLOCK_ROWS, SCALE_COLS, block_scales
from refmoe.numerics.vec import splat, vmul, vsub
from refmoe.numerics.vec_int import e4m3, keep, load_codes, load_codes_partial, load_u8, put, to_float, viadd, vxor

ZEROS = SCALE_COLS + 1


@kernel
def _codes(d, r, k):
    where, rest = d[BASE] + r * d[ROW_BYTES] + k * 16, d[COLS] - k * 16
    return load_codes(where) if rest >= 16 else load_codes_partial(where, rest)


@kernel
def vector_fp8(d, r, k):
    """`vector` of e4m3 codes times block scales."""
    rest, w = d[COLS] - k * 16, vmul(e4m3(_codes(d, r, k)), block_scales(d, r, k))
    return w if rest >= 16 else keep(w, rest)


@kernel
def _zeros(d, r, k):
    row, low, end = r // d[BLOCK_ROWS] * d[SCALE_COLS], k * 16, d[COLS] - 1
    found = splat(np.float32(0.0))
    for lane in range(16):
        at = d[ZEROS] + row + min(low + lane, end) // d[BLOCK_COLS]
        found = put(found, lane, np.float32((load_u8(at) ^ 128) - 128))
    return found


@kernel
def vector_int8(d, r, k):
    """`vector` of signed bytes, less their zero point, times block scales."""
    rest = d[COLS] - k * 16
    w = to_float(viadd(vxor(_codes(d, r, k), splat(np.int32(128))), splat(np.int32(-128))))
    if d[ZEROS] != 0:
        w = vsub(w, _zeros(d, r, k))
    w = vmul(w, block_scales(d, r, k))
    return w if rest >= 16 else keep(w, rest)


@kernel
def _stream_fp8(d, first, last, x, x_rows, out, width, out_rows):
    stream_vectors(vector_fp8, d, first, last, x, x_rows, out, width, out_rows)


@kernel
def _stream_int8(d, first, last, x, x_rows, out, width, out_rows):
    stream_vectors(vector_int8, d, first, last, x, x_rows, out, width, out_rows)


@item_kernel
def product_fp8(block, item, slot):
    """Work item of e4m3 codes times block scales."""
    product_item(_stream_fp8, vector_fp8, block, item, slot)


@item_kernel
def product_int8(block, item, slot):
    """Work item of signed bytes."""
    product_item(_stream_int8, vector_int8, block, item, slot)
