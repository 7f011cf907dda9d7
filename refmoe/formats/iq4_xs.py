"""iq4_xs - blocks of 256 nibbles that index sixteen uneven steps, a 6-bit scale for each 32 (GGUF).

Layout      X.weight [rows, cols / 256 * 136], row-major; a block of 136 bytes is
    bytes 0..1    d, binary16, little-endian
    bytes 2..3    bits 2p+1..2p of this 16-bit number are bits 5..4 of scale p (p = 0..7)
    bytes 4..7    bits 3..0 of scale p: the low (p even) or high (p odd) nibble of byte 4 + p / 2;
                  six bits s mean s - 32
    bytes 8..135  the low nibble of byte 8 + 16p + l (l = 0..15) is element 32p + l, its high nibble element
                  32p + 16 + l
    nibble 0 1 2 ... means -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
Semantics   W_eff[r, 256b + i] = (d * (scale[i / 32] - 32)) * step[nibble i] of block b of row r; exact
Codes       the step, scale d * (scale - 32), exact, no minimum; units of 32
Order       no rounding: 11, 5 and 7 significant bits fit (-32 has one)
Special     d = inf or nan gives what IEEE 754 says (inf * 0 is nan); the sign of d stays on zeros
Errors      cols must be a multiple of 256
Golden      formats/iq4_xs: every_scale, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type IQ4_XS, dequantize_row_iq4_xs. Dissent: llama.cpp on a
            CPU rounds the activations to q8_K as well and sums integers within a block; that product is not this one
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.jit import inlined, item_kernel, kernel
from refmoe.numerics.activation_codes import Codes, arranged
from refmoe.numerics.codecs import f16_to_f32
from refmoe.numerics.k_scales import uneven_scales
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_item
    from refmoe.kernels.pairs import stream_large_pairs, vector_of_pairs
    from refmoe.kernels.product_codes import product_codes_item
    from refmoe.numerics.vec import address, vmul
    from refmoe.numerics.vec_bytes import (
        WIDE,
        b_lookup,
        b_shr,
        load_byte,
        load_bytes,
        load_short,
        pick,
        signed,
        splat_half,
        splat_number,
    )
    from refmoe.numerics.vec_codes import load_bytes16
    from refmoe.numerics.vec_dots import Kind
    from refmoe.numerics.vec_unpack import look_up, lower_halves, nibble_halves

    KIND = Kind(32)

suffixes = (".weight",)
dtypes = ("IQ4_XS",)
ELEMENTS, SIZE = 256, 136
STEPS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"iq4_xs: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d = f16_to_f32(blocks[:, :2].copy().view(np.uint16))
    upper = np.concatenate([blocks[:, 2:4] >> 2 * j & 3 for j in range(4)], axis=1)[:, [0, 2, 4, 6, 1, 3, 5, 7]]
    low = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], axis=2).reshape(-1, 8)
    scale = ((low | (upper << 4)).astype(np.int8) - np.int8(32)).astype(np.float32)
    runs = blocks[:, 8:].reshape(-1, 8, 16)
    return STEPS[np.concatenate([runs & 15, runs >> 4], axis=2)], d * scale  # by scale


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    q, scale = _unpacked(weight)
    return (scale[:, :, None] * q.astype(np.float32)).reshape(weight.rows, weight.cols)


def codes(weight: Weight) -> Codes:
    """q, scale and minimum for linear_a8."""
    return arranged(weight.rows, *_unpacked(weight))


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols // ELEMENTS * SIZE]


@inlined
def _open(where):
    return splat_half(where)


@inlined
def _pair(where, d, j):
    low, upper = load_byte(where + 4 + j // 2) >> j % 2 * 4 & 15, load_short(where + 2) >> 2 * j & 3
    factor = vmul(d, splat_number((low | (upper << 4)) - 32))
    q, steps = load_bytes(where + 8 + 16 * j), load_bytes(address(STEPS))
    if WIDE:
        table = vmul(factor, signed(steps))  # what each nibble means
        return pick(table, q, 0), pick(table, q, 4)
    return vmul(factor, signed(b_lookup(steps, q))), vmul(factor, signed(b_lookup(steps, b_shr(q, 4))))


@kernel
def _vector(d, r, k):
    return vector_of_pairs(_open, _pair, ELEMENTS, SIZE, d, r, k)


@kernel
def _stream(d, first, last, x, x_rows, out, width, out_rows):
    stream_large_pairs(_open, _pair, SIZE, d, first, last, x, x_rows, out, width, out_rows)


@item_kernel
def product(block, item, slot):
    """The work item of kernels.matmul."""
    product_item(_stream, _vector, block, item, slot)


@kernel
def _codes(where, j):
    first = where + j // 4 * SIZE + 8 + j % 4 * 32
    return look_up(load_bytes16(address(STEPS)), nibble_halves(load_bytes16(first), load_bytes16(first + 16)))


@kernel
def _scales(where, d, r, k):
    return lower_halves(uneven_scales(where), uneven_scales(where + SIZE))


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, 2 * SIZE, _codes, _scales, None, block, item, slot)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
