"""Matrices of small unsigned integers q with a scale, and perhaps a zero point z, for each group of columns of a row.

W_eff[r, c] = (q - z) * scale of group g of row r, where g is c // GROUP or, with an order of columns, the c-th entry of
the int32 table at G_IDX. Three layouts: `packed` rows of bits (compressed-tensors), `gptq` and `awq` words.

Own words of a descriptor: those of kernels.scales (GROUP columns of a group, GROUPS of a row), BITS, ZEROS address of
packed zero points or 0, ZERO what is added to a stored zero point, or the zero point where there are none, G_IDX
address or 0, ROWS of the matrix. ROW_BYTES counts for the packed layout only.
"""

import numpy as np

from refmoe.jit import inlined, item_kernel, kernel
from refmoe.kernels.groups import as_stored, scale_at, stream_groups, zero_and_scale
from refmoe.kernels.matmul import product_item
from refmoe.kernels.matrix import BASE, COLS, ROW_BYTES, stream_vectors
from refmoe.kernels.nibbles import in_sixty_fours, stream_nibbles
from refmoe.kernels.scales import BLOCK_COLS, SCALE_COLS, SCALE_KIND, SCALES, load_scale, scale_of
from refmoe.numerics.vec import splat, vmul, vsub
from refmoe.numerics.vec_bytes import WIDE, b_and, b_shr, b_sub, load_bytes, signed, unsigned, zip_high, zip_low
from refmoe.numerics.vec_codes import load_some_ints, mask, shift_right
from refmoe.numerics.vec_codes import to_float as ints_to_float
from refmoe.numerics.vec_int import (
    SIXTEEN,
    keep,
    load_codes,
    load_codes_partial,
    load_i32,
    load_i64,
    load_u8,
    load_u32,
    put,
    spread4,
    spread8,
    to_float,
    vand,
    vshr,
)

GROUP, GROUPS = BLOCK_COLS, SCALE_COLS
BITS, ZEROS, ZERO, G_IDX, ROWS = range(SCALE_COLS + 1, SCALE_COLS + 6)
AWQ_ORDER = 0x73625140  # hexadecimal digit j: which nibble of a word belongs to its row j


@inlined
def _vector(codes, zero, scale, d, r, k):
    """Lanes 16k .. 16k+15 of row r from the three functions of a layout."""
    low, last = k * 16, min(k * 16 + 15, d[COLS] - 1)
    q, first = codes(d, r, k), low // d[GROUP]
    if d[G_IDX] == 0 and last // d[GROUP] == first:
        w = vmul(vsub(q, splat(zero(d, r, first))), splat(scale(d, r, first)))
    else:
        z, s = splat(np.float32(0.0)), splat(np.float32(0.0))
        for lane in range(last - low + 1):
            g = (low + lane) // d[GROUP] if d[G_IDX] == 0 else load_i32(d[G_IDX] + (low + lane) * 4)
            z, s = put(z, lane, zero(d, r, g)), put(s, lane, scale(d, r, g))
        w = vmul(vsub(q, z), s)
    return w if last == low + 15 else keep(w, last - low + 1)


@kernel
def _packed_codes(d, r, k):
    """Bits of a row, the lowest first; rows begin at whole words."""
    row, bits = d[BASE] + r * d[ROW_BYTES], d[BITS]
    where, rest = row + 2 * bits * k, d[ROW_BYTES] - 2 * bits * k
    if bits == 4:
        return to_float(spread4(load_i64(where) if rest >= 8 else load_u32(where)))
    if bits == 8:
        return to_float(load_codes(where) if rest >= 16 else load_codes_partial(where, rest))
    found = splat(np.float32(0.0))
    for lane in range(min(16, d[COLS] - 16 * k)):
        at, shift = where + (lane * bits >> 3), lane * bits & 7
        value = load_u8(at)
        if shift + bits > 8:
            value |= load_u8(at + 1) << 8
        found = put(found, lane, np.float32((value >> shift) & ((1 << bits) - 1)))
    return found


@kernel
def packed_zero(d, r, g):
    """Zero points are bits of a column, the lowest first."""
    if d[ZEROS] == 0:
        return np.float32(d[ZERO])
    bit, bits = r * d[BITS], d[BITS]
    at, shift = d[ZEROS] + ((bit >> 5) * d[GROUPS] + g) * 4, bit & 31
    value = load_u32(at) >> shift
    if shift + bits > 32:
        value |= load_u32(at + d[GROUPS] * 4) << (32 - shift)
    return np.float32(value & ((1 << bits) - 1))


@kernel
def packed_zeros(d, r, g, count):
    """Zero points of `count` (0..16) groups from g on, of 4 or 8 bits."""
    bit = r * d[BITS]
    words = load_some_ints(d[ZEROS] + ((bit >> 5) * d[GROUPS] + g) * 4, count)
    return ints_to_float(mask(shift_right(words, bit & 31), (1 << d[BITS]) - 1))


@kernel
def vector_packed(d, r, k):
    """`vector` of compressed-tensors pack-quantized."""
    return _vector(_packed_codes, packed_zero, scale_of, d, r, k)


@kernel
def _pair(d, r, word):
    """Words `word` and `word` + 1 of column r of a table of ROWS columns, the second only if it is there."""
    at, step = d[BASE] + (word * d[ROWS] + r) * 4, d[ROWS] * 4
    return load_u32(at) | (load_u32(at + step) << 32 if (word + 1) * 32 < d[COLS] * d[BITS] else 0)


@kernel
def _gptq_codes(d, r, k):
    """Words run along the columns of W_eff, one column of words for each row."""
    if d[BITS] == 4:
        return to_float(spread4(_pair(d, r, 2 * k)))
    return to_float(spread8(_pair(d, r, 4 * k), _pair(d, r, 4 * k + 2) if 16 * k + 8 < d[COLS] else 0))


@kernel
def gptq_zero(d, r, g):
    if d[ZEROS] == 0:
        return np.float32(d[ZERO])
    bit, mask = r * d[BITS], (1 << d[BITS]) - 1
    word = load_u32(d[ZEROS] + (g * (d[ROWS] * d[BITS] + 31 >> 5) + (bit >> 5)) * 4)
    return np.float32(((word >> (bit & 31)) + d[ZERO]) & mask)


@kernel
def _gptq_scale(d, r, g):
    return load_scale(d[SCALE_KIND], d[SCALES], g * d[ROWS] + r)


@kernel
def vector_gptq(d, r, k):
    """`vector` of GPTQ."""
    return _vector(_gptq_codes, gptq_zero, _gptq_scale, d, r, k)


@kernel
def awq_nibble(table, d, r, line):
    word = load_u32(table + (line * (d[ROWS] >> 3) + (r >> 3)) * 4)
    return np.float32(word >> 4 * (AWQ_ORDER >> 4 * (r & 7) & 15) & 15)


@kernel
def _awq_codes(d, r, k):
    """One word holds eight rows of one column."""
    step, found = d[ROWS] >> 1, splat(np.int32(0))
    where = d[BASE] + 16 * k * step + (r >> 3) * 4
    for lane in range(16):
        found = put(found, lane, np.int32(load_i32(where + min(lane, d[COLS] - 1 - 16 * k) * step)))
    return to_float(vand(vshr(found, splat(np.int32(4 * (AWQ_ORDER >> 4 * (r & 7) & 15)))), splat(np.int32(15))))


@kernel
def _awq_zero(d, r, g):
    return awq_nibble(d[ZEROS], d, r, g)


@kernel
def vector_awq(d, r, k):
    """`vector` of AWQ, gemm order."""
    return _vector(_awq_codes, _awq_zero, _gptq_scale, d, r, k)


@inlined
def weights(codes, shared):
    """W_eff from codes, zero points and scales."""
    return vmul(vsub(codes, shared[0]), shared[1])


@inlined
def _nibbles(where, shared):
    q = load_bytes(where)
    low, high = b_and(q, 15), b_shr(q, 4)
    return weights(unsigned(zip_low(low, high)), shared), weights(unsigned(zip_high(low, high)), shared)


@kernel
def _zeros(d, r, g, count):
    return splat(np.float32(d[ZERO])) if d[ZEROS] == 0 else packed_zeros(d, r, g, count)


@inlined
def _table(where):
    return weights(to_float(spread4(SIXTEEN)), zero_and_scale(where))


@inlined
def _bytes(where, shared):
    return weights(to_float(load_codes(where)), shared), weights(to_float(load_codes(where + 16)), shared)


@inlined
def _signed_bytes(where, scale):
    return vmul(signed(b_sub(load_bytes(where), 128)), scale), vmul(signed(b_sub(load_bytes(where + 16), 128)), scale)


@kernel
def _stream_packed(d, first, last, x, x_rows, out, width, out_rows):
    if d[G_IDX] != 0 or (d[BITS] != 4 and d[BITS] != 8):
        stream_vectors(vector_packed, d, first, last, x, x_rows, out, width, out_rows)
    elif WIDE and d[BITS] == 4 and in_sixty_fours(d):
        stream_nibbles(as_stored, _zeros, _table, d, first, last, x, x_rows, out, width, out_rows)
    elif d[BITS] == 4:
        stream_groups(as_stored, _zeros, zero_and_scale, _nibbles, vector_packed, 16, d, first, last, x, x_rows, out,
                      width, out_rows)
    elif d[ZEROS] == 0:
        stream_groups(as_stored, None, scale_at, _signed_bytes, vector_packed, 32, d, first, last, x, x_rows, out,
                      width, out_rows)
    else:
        stream_groups(as_stored, _zeros, zero_and_scale, _bytes, vector_packed, 32, d, first, last, x, x_rows, out,
                      width, out_rows)


@item_kernel
def product_packed(block, item, slot):
    """Work item of compressed-tensors pack-quantized."""
    product_item(_stream_packed, vector_packed, block, item, slot)


@kernel
def _stream_awq(d, first, last, x, x_rows, out, width, out_rows):
    stream_vectors(vector_awq, d, first, last, x, x_rows, out, width, out_rows)


@item_kernel
def product_awq(block, item, slot):
    """Work item of AWQ whose groups are not whole multiples of 32 columns; others are turned (kernels.turning)."""
    product_item(_stream_awq, vector_awq, block, item, slot)
