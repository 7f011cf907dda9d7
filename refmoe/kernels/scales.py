"""Scales of quantised matrices for the fast schedules: one number of any stored type, or those of sixteen columns.

Own words of a descriptor that uses `block_scales`: SCALES address of the scales, row-major, one for each block;
SCALE_KIND, a value of KINDS; BLOCK_ROWS and BLOCK_COLS, the size of a block; SCALE_COLS, scales in a row of blocks.
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.kernels.matrix import COLS, OWN
from refmoe.numerics.codecs import widen_f16
from refmoe.numerics.vec import splat
from refmoe.numerics.vec_int import float_of_bits, load_u8, load_u16, load_u32, put

SCALES, SCALE_KIND, BLOCK_ROWS, BLOCK_COLS, SCALE_COLS = range(OWN, OWN + 5)
KINDS = {"F32": 0, "BF16": 1, "F16": 2, "F8_E8M0": 3, "U8": 3, "F8_E4M3": 4}


@kernel
def e4m3_scalar(code):
    """f32 of one e4m3 code."""
    exponent, fraction = (code >> 3) & 15, code & 7
    if code & 127 == 127:
        size = np.float32(np.nan)
    elif exponent == 0:
        size = np.float32(np.float32(fraction) * np.float32(2.0**-9))
    else:
        size = float_of_bits(((exponent + 120) << 23) | (fraction << 20))
    return np.float32(-size) if code & 128 else size


@kernel
def e8m0_scalar(code):
    """f32 of one e8m0 code: 2^(code - 127), code 0 a subnormal, 255 nan."""
    return float_of_bits(0x00400000 if code == 0 else 0x7FC00000 if code == 255 else code << 23)


@kernel
def load_scale(kind, scales, index):
    """f32 of scale number `index` at address `scales`."""
    if kind == 0:
        return float_of_bits(load_u32(scales + index * 4))
    if kind == 1:
        return float_of_bits(load_u16(scales + index * 2) << 16)
    if kind == 2:
        return widen_f16(load_u16(scales + index * 2))
    if kind == 3:
        return e8m0_scalar(load_u8(scales + index))
    return e4m3_scalar(load_u8(scales + index))


@kernel
def block_scales(d, r, k):
    """Scales of columns 16k .. 16k+15 of row r; of columns beyond the last, the last one's."""
    scales = d[SCALES]
    row, low, end = r // d[BLOCK_ROWS] * d[SCALE_COLS], k * 16, d[COLS] - 1
    first = low // d[BLOCK_COLS]
    found = splat(load_scale(d[SCALE_KIND], scales, row + first))
    if min(low + 15, end) // d[BLOCK_COLS] != first:
        for lane in range(16):
            at = min(low + lane, end) // d[BLOCK_COLS]
            found = put(found, lane, load_scale(d[SCALE_KIND], scales, row + at))
    return found
