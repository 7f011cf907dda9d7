"""integer_codes - packed integers of kernels.small_integers as codes for linear_a8: q less half their range, and minima
that make up for the zero points. A group is a whole row, 16 columns, or a multiple of 32; there is no order of columns.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels.product_codes import product_codes_item
from refmoe.kernels.scales import of_units, unit_scales
from refmoe.kernels.small_integers import (
    BITS,
    packed_zero,
    packed_zeros,
)
from refmoe.numerics.vec import splat, vmul, vsub
from refmoe.numerics.vec_codes import (
    load_bytes32,
    load_bytes64,
    minus,
)
from refmoe.numerics.vec_dots import Kind
from refmoe.numerics.vec_unpack import nibble_neighbours

NIBBLES_32, NIBBLES_16, SIGNED_32, SIGNED_16 = Kind(32, 15, 8), Kind(16, 15, 8), Kind(32), Kind(16)


@kernel
def _nibbles(where, j):
    return nibble_neighbours(load_bytes32(where + 32 * j))


@kernel
def _bytes(where, j):
    return minus(load_bytes64(where + 64 * j), 128)


@kernel
def _minima(d, r, k, unit):
    half, zeros = splat(np.float32(1 << (d[BITS] - 1))), of_units(packed_zero, packed_zeros, d, r, k, unit)
    return vmul(vsub(half, zeros), unit_scales(d, r, k, unit))


@kernel
def _scales_32(where, d, r, k):
    return unit_scales(d, r, k, 32)


@kernel
def _scales_16(where, d, r, k):
    return unit_scales(d, r, k, 16)


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


PACKED = {(4, 32, True): _nibbles_32, (4, 32, False): _nibbles_32_zeros,
          (4, 16, True): _nibbles_16, (4, 16, False): _nibbles_16_zeros,
          (8, 32, True): _bytes_32, (8, 32, False): _bytes_32_zeros,
          (8, 16, True): _bytes_16, (8, 16, False): _bytes_16_zeros}  # fmt: skip
