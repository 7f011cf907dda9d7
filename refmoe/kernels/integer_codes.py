"""integer_codes - small integers of kernels.small_integers as codes for linear_a8: q less half their range, and minima
that make up for the zero points. A group is a whole row, 16 columns, or a multiple of 32; there is no order of columns.

Rows of bits (`packed`) go through kernels.coded. Words of GPTQ and AWQ hold columns or rows of W_eff that lie in other
places, so turned chunks (kernels.turned) are written from them at once, also for a single row of x.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels.product_codes import product_codes_item
from refmoe.kernels.scales import unit_scales
from refmoe.kernels.small_integers import (
    BITS,
    GROUP,
    GROUPS,
    SCALE_KIND,
    SCALES,
    packed_zero,
)
from refmoe.kernels.turned import load_16, load_32
from refmoe.numerics.vec import splat, vmul
from refmoe.numerics.vec_codes import load_bytes32, load_bytes64, minus, nibble_neighbours
from refmoe.numerics.vec_int import put


@kernel
def _nibbles(where, j):
    return minus(nibble_neighbours(load_bytes32(where + 32 * j)), 8)


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
    product_codes_item(32, 256, load_32, _nibbles, _scales_32, None, block, item, slot)


@item_kernel
def _nibbles_32_zeros(block, item, slot):
    product_codes_item(32, 256, load_32, _nibbles, _scales_32, _minima_32, block, item, slot)


@item_kernel
def _nibbles_16(block, item, slot):
    product_codes_item(16, 128, load_16, _nibbles, _scales_16, None, block, item, slot)


@item_kernel
def _nibbles_16_zeros(block, item, slot):
    product_codes_item(16, 128, load_16, _nibbles, _scales_16, _minima_16, block, item, slot)


@item_kernel
def _bytes_32(block, item, slot):
    product_codes_item(32, 512, load_32, _bytes, _scales_32, None, block, item, slot)


@item_kernel
def _bytes_32_zeros(block, item, slot):
    product_codes_item(32, 512, load_32, _bytes, _scales_32, _minima_32, block, item, slot)


@item_kernel
def _bytes_16(block, item, slot):
    product_codes_item(16, 256, load_16, _bytes, _scales_16, None, block, item, slot)


@item_kernel
def _bytes_16_zeros(block, item, slot):
    product_codes_item(16, 256, load_16, _bytes, _scales_16, _minima_16, block, item, slot)


PACKED = {(4, 32, True): _nibbles_32, (4, 32, False): _nibbles_32_zeros,
          (4, 16, True): _nibbles_16, (4, 16, False): _nibbles_16_zeros,
          (8, 32, True): _bytes_32, (8, 32, False): _bytes_32_zeros,
          (8, 16, True): _bytes_16, (8, 16, False): _bytes_16_zeros}  # fmt: skip
