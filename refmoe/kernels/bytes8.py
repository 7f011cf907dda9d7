"""Matrices of one byte per weight times a scale of a block: e4m3 codes, and signed integers with a zero point.

Descriptor: BASE, COLS, ROW_BYTES, then the words of kernels.scales, then ZEROS, the address of the zero points of
signed integers (one signed byte for each scale, in the order of the scales), or 0.
"""

import numpy as np

from refmoe.jit import inlined, item_kernel, kernel
from refmoe.kernels.groups import CHUNK, as_stored, scale_at, stream_groups, zero_and_scale
from refmoe.kernels.matmul import product_item
from refmoe.kernels.matrix import BASE, COLS, ROW_BYTES, stream_vectors
from refmoe.kernels.product_codes import product_codes_item
from refmoe.kernels.scales import (
    BLOCK_COLS,
    BLOCK_ROWS,
    SCALE_COLS,
    SCALE_KIND,
    SCALES,
    block_scales,
    of_units,
    sixteen_scales,
    unit_scales,
)
from refmoe.numerics.vec import splat, vmul, vsub
from refmoe.numerics.vec_bytes import load_bytes, signed, small_e4m3
from refmoe.numerics.vec_codes import bits, imax, isplat, largest, load_bytes64, mask
from refmoe.numerics.vec_dots import Kind
from refmoe.numerics.vec_int import e4m3, keep, load_codes, load_codes_partial, load_u8, put, to_float, viadd, vxor

ZEROS = SCALE_COLS + 1
SIGNED_32, SIGNED_16 = Kind(32), Kind(16)


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
def _zero(d, index):
    return np.float32((load_u8(d[ZEROS] + index) ^ 128) - 128 if d[ZEROS] != 0 else 0)


@kernel
def _zeros(d, r, k):
    row, low, end = r // d[BLOCK_ROWS] * d[SCALE_COLS], k * 16, d[COLS] - 1
    first = low // d[BLOCK_COLS]
    found = splat(_zero(d, row + first))
    if min(low + 15, end) // d[BLOCK_COLS] != first:
        for lane in range(16):
            found = put(found, lane, _zero(d, row + min(low + lane, end) // d[BLOCK_COLS]))
    return found


@kernel
def vector_int8(d, r, k):
    """`vector` of signed bytes, less their zero point, times block scales."""
    rest = d[COLS] - k * 16
    w = to_float(viadd(vxor(_codes(d, r, k), splat(np.int32(128))), splat(np.int32(-128))))
    w = vmul(vsub(w, _zeros(d, r, k)), block_scales(d, r, k))
    return w if rest >= 16 else keep(w, rest)


@kernel
def _large_scales(d, first, last):
    """Whether some scale of rows first..last, times 256, is not a finite number."""
    rows, groups, top = d[BLOCK_ROWS], d[SCALE_COLS], isplat(np.int32(0))
    begin, end = first // rows * groups, ((last - 1) // rows + 1) * groups
    for i in range(begin, end, CHUNK):
        top = imax(top, mask(bits(sixteen_scales(d[SCALE_KIND], d[SCALES], i, min(CHUNK, end - i))), 0x7FFFFFFF))
    return largest(top) >= 247 << 23  # the pattern of 2^120


@inlined
def _times_256(d, scales):
    return vmul(scales, splat(np.float32(256.0)))


@inlined
def _pair_fp8(where, scale):
    low, high = small_e4m3(where)
    return vmul(low, scale), vmul(high, scale)


@kernel
def _some_zeros(d, r, g, count):
    codes = load_codes_partial(d[ZEROS] + r // d[BLOCK_ROWS] * d[SCALE_COLS] + g, count)
    return to_float(viadd(vxor(codes, splat(np.int32(128))), splat(np.int32(-128))))


@inlined
def _pair_int8(where, shared):
    zero, scale = shared
    return (vmul(vsub(signed(load_bytes(where)), zero), scale),
            vmul(vsub(signed(load_bytes(where + 16)), zero), scale))  # fmt: skip


@kernel
def _stream_fp8(d, first, last, x, x_rows, out, width, out_rows):
    if _large_scales(d, first, last):
        stream_vectors(vector_fp8, d, first, last, x, x_rows, out, width, out_rows)
    else:
        stream_groups(_times_256, None, scale_at, _pair_fp8, vector_fp8, 32, d, first, last, x, x_rows, out, width,
                      out_rows)


@inlined
def _pair_signed(where, scale):
    return vmul(signed(load_bytes(where)), scale), vmul(signed(load_bytes(where + 16)), scale)


@kernel
def _stream_int8(d, first, last, x, x_rows, out, width, out_rows):
    if d[ZEROS] == 0:
        stream_groups(as_stored, None, scale_at, _pair_signed, vector_int8, 32, d, first, last, x, x_rows, out, width,
                      out_rows)
    else:
        stream_groups(as_stored, _some_zeros, zero_and_scale, _pair_int8, vector_int8, 32, d, first, last, x, x_rows,
                      out, width, out_rows)


@item_kernel
def product_fp8(block, item, slot):
    """Work item of e4m3 codes times block scales."""
    product_item(_stream_fp8, vector_fp8, block, item, slot)


@item_kernel
def product_int8(block, item, slot):
    """Work item of signed bytes."""
    product_item(_stream_int8, vector_int8, block, item, slot)


@kernel
def _bytes(where, j):
    return load_bytes64(where + 64 * j)


@kernel
def _scales_32(where, d, r, k):
    return unit_scales(d, r, k, 32)


@kernel
def _scales_16(where, d, r, k):
    return unit_scales(d, r, k, 16)


@kernel
def _one_zero(d, r, g):
    return _zero(d, r // d[BLOCK_ROWS] * d[SCALE_COLS] + g)


@kernel
def _minima(d, r, k, unit):
    zeros = of_units(_one_zero, _some_zeros, d, r, k, unit)
    return vmul(vsub(splat(np.float32(0.0)), zeros), unit_scales(d, r, k, unit))


@kernel
def _minima_32(where, d, r, k):
    return _minima(d, r, k, 32)


@kernel
def _minima_16(where, d, r, k):
    return _minima(d, r, k, 16)


@item_kernel
def _codes_32(block, item, slot):
    """Signed bytes as codes in units of 32."""
    product_codes_item(SIGNED_32, 512, _bytes, _scales_32, None, block, item, slot)


@item_kernel
def _codes_16(block, item, slot):
    """Signed bytes as codes in units of 16."""
    product_codes_item(SIGNED_16, 256, _bytes, _scales_16, None, block, item, slot)


@item_kernel
def _codes_32_zeros(block, item, slot):
    """Signed bytes with zero points as codes in units of 32."""
    product_codes_item(SIGNED_32, 512, _bytes, _scales_32, _minima_32, block, item, slot)


@item_kernel
def _codes_16_zeros(block, item, slot):
    """Signed bytes with zero points as codes in units of 16."""
    product_codes_item(SIGNED_16, 256, _bytes, _scales_16, _minima_16, block, item, slot)


CODES = {(32, True): _codes_32, (16, True): _codes_16, (32, False): _codes_32_zeros, (16, False): _codes_16_zeros}
