"""Scales of quantised matrices for the fast schedules: one number of any stored type, or those of sixteen columns.

Own words of a descriptor that uses `block_scales`: SCALES address of the scales, row-major, one for each block;
SCALE_KIND, a value of KINDS; BLOCK_ROWS and BLOCK_COLS, the size of a block; SCALE_COLS, scales in a row of blocks.
"""

import numpy as np

from refmoe.jit import inlined, kernel
from refmoe.kernels.matrix import COLS, OWN
from refmoe.numerics.codecs import widen_f16
from refmoe.numerics.vec import BF16, F16, F32, load16, load_partial, splat
from refmoe.numerics.vec_bytes import splat_bits, splat_half
from refmoe.numerics.vec_int import e4m3, float_of_bits, load_codes_partial, load_u8, load_u16, load_u32, power, put
from refmoe.numerics.vec_unpack import repeat_2, repeat_4

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
def splat_scale(kind, scales, index):
    """Scale number `index` at address `scales` in sixteen f32 lanes."""
    if kind == 1:
        return splat_bits(load_u16(scales + index * 2) << 16)
    if kind == 2:
        return splat_half(scales + index * 2)
    if kind == 3:
        return splat(e8m0_scalar(load_u8(scales + index)))
    return splat(load_scale(kind, scales, index))


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


@kernel
def some_scales(kind, where, count):
    """The first `count` (up to 16) scales at `where`, of a kind of 2 or 4 bytes; +0 in the other lanes."""
    if kind == 0:
        return load16(F32, where) if count == 16 else load_partial(F32, where, count)
    if kind == 1:
        return load16(BF16, where) if count == 16 else load_partial(BF16, where, count)
    return load16(F16, where) if count == 16 else load_partial(F16, where, count)


@kernel
def sixteen_scales(kind, scales, index, count):
    """`count` (0..16) scales of one of KINDS, e8m0 below 255, from number `index` at address `scales` on; of
    the other lanes, anything."""
    if kind == 3:
        return power(load_codes_partial(scales + index, count))
    if kind == 4:
        return e4m3(load_codes_partial(scales + index, count))
    return some_scales(kind, scales + index * (4 if kind == 0 else 2), count)


@kernel
def scale_of(d, r, g):
    """The scale of group g of row r."""
    return load_scale(d[SCALE_KIND], d[SCALES], r // d[BLOCK_ROWS] * d[SCALE_COLS] + g)


@kernel
def scales_of(d, r, g, count):
    """Those of `count` (0..16) groups from g on."""
    return sixteen_scales(d[SCALE_KIND], d[SCALES], r // d[BLOCK_ROWS] * d[SCALE_COLS] + g, count)


@inlined
def of_units(one, some, d, r, k, unit):
    """What belongs to 16 units of `unit` columns of row r from column k on: one(d, r, g) of a group, and of several
    some(d, r, g, count). No unit may lie in two groups. Of units beyond the last column, anything."""
    span, groups = d[BLOCK_COLS], d[SCALE_COLS]
    first, times = k // span, span // unit
    left = groups - first
    if left == 1 or (k + 16 * unit - 1) // span == first:
        return splat(one(d, r, first))
    if times == 1 or times == 2 or times == 4:
        found = some(d, r, first, min(left, 16 // times))
        return found if times == 1 else repeat_2(found) if times == 2 else repeat_4(found)
    found = splat(np.float32(0.0))
    for lane in range(16):
        found = put(found, lane, one(d, r, min((k + lane * unit) // span, groups - 1)))
    return found


@kernel
def unit_scales(d, r, k, unit):
    """The scales of 16 units; see of_units."""
    return of_units(scale_of, scales_of, d, r, k, unit)
