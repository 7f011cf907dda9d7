"""q5_k - blocks of 256 five-bit numbers, a 6-bit scale and minimum for each 32 (GGUF).

Layout      X.weight [rows, cols / 256 * 176], row-major; a block of 176 bytes is
    bytes 0..1     d, binary16, little-endian
    bytes 2..3     dmin, binary16
    bytes 4..15    eight 6-bit scales and eight 6-bit minima (numerics.k_scales), one of each for 32 elements
    bytes 16..47   bit p of byte 16 + l is bit 4 of element 32p + l (p = 0..7; l = 0..31)
    bytes 48..175  bits 3..0: element 64g + l (g = 0..3) is the low nibble of byte 48 + 32g + l, element
                   64g + 32 + l its high nibble
Semantics   W_eff[r, 256b + i] = (d * scale[i / 32]) * q[i] - dmin * minimum[i / 32] of block b of row r
Codes       q as it is, scale d * scale, minimum -(dmin * minimum), both exact; units of 32
Order       R1 all products are exact (11, 6 and 5 significant bits), so only the difference is rounded, once
Special     inf or nan in d or dmin give what IEEE 754 says (inf * 0 and inf - inf are nan); -0 as in binary32
Errors      cols must be a multiple of 256
Golden      formats/q5_k: every_scale, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q5_K, dequantize_row_q5_K. Dissent: llama.cpp on a
            CPU rounds the activations to q8_K as well and sums integers within a block; that product is not this one
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.jit import inlined, item_kernel, kernel
from refmoe.numerics.activation_codes import Codes, arranged
from refmoe.numerics.codecs import f16_to_f32
from refmoe.numerics.k_scales import load_scales_and_minima, minima_of_two, scales_and_minima, scales_of_two
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_item
    from refmoe.kernels.pairs import stream_large_pairs, vector_of_pairs
    from refmoe.kernels.product_codes import product_codes_item
    from refmoe.numerics.vec import lane, splat, vfma, vmul
    from refmoe.numerics.vec_bytes import b_and, b_or, b_shl, b_shr, load_bytes, splat_half, unsigned
    from refmoe.numerics.vec_codes import ior, join, load_bytes32, mask, shift_left, shift_right
    from refmoe.numerics.vec_dots import Kind

    KIND = Kind(32, 31)

suffixes = (".weight",)
dtypes = ("Q5_K",)
ELEMENTS, SIZE = 256, 176


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q5_k: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d, dmin = f16_to_f32(blocks[:, :4].copy().view(np.uint16)).T[:, :, None]
    scale, minimum = (part.astype(np.float32) for part in scales_and_minima(blocks[:, 4:16]))
    fifth = np.concatenate([blocks[:, None, 16:48] >> p & 1 for p in range(8)], axis=1)
    bytes32 = blocks[:, 48:].reshape(-1, 4, 1, 32)
    q = np.concatenate([bytes32 & 15, bytes32 >> 4], axis=2).reshape(-1, 8, 32) | (fifth << 4)  # by scale
    return q, d * scale, dmin * minimum


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    q, scale, minimum = _unpacked(weight)
    return (scale[:, :, None] * q.astype(np.float32) - minimum[:, :, None]).reshape(weight.rows, weight.cols)


def codes(weight: Weight) -> Codes:
    """q, scale and minimum for linear_a8."""
    q, scale, minimum = _unpacked(weight)
    return arranged(weight.rows, q, scale, -minimum)


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols // ELEMENTS * SIZE]


@inlined
def _open(where):
    both, minus = unsigned(load_scales_and_minima(where + 4)), vmul(splat(np.float32(-1.0)), splat_half(where + 2))
    return vmul(splat_half(where), both), vmul(minus, both)  # lanes 0..7 of the first, 8..15 of the second count


@inlined
def _five(q, fifth, j):
    """Run j: nibbles from the bytes at address q, fifth bits from those at `fifth`."""
    nibbles = b_and(b_shr(load_bytes(q), j % 2 * 4), 15)
    return unsigned(b_or(nibbles, b_shl(b_and(b_shr(load_bytes(fifth), j), 1), 4)))


@inlined
def _pair(where, shared, j):
    factor, term = splat(lane(shared[0], j)), splat(lane(shared[1], 8 + j))
    q = where + 48 + j // 2 * 32
    return vfma(factor, _five(q, where + 16, j), term), vfma(factor, _five(q + 16, where + 32, j), term)


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
    block, part = where + j // 4 * SIZE, j % 4
    q, fifth = load_bytes32(block + 48 + part * 32), shift_right(load_bytes32(block + 16), 2 * part)
    upper = join(mask(fifth, 1), mask(shift_right(fifth, 1), 1))
    return ior(join(mask(q, 15), shift_right(q, 4)), shift_left(upper, 4))


@kernel
def _scales(where, d, r, k):
    return scales_of_two(where, where + SIZE)


@kernel
def _minima(where, d, r, k):
    return minima_of_two(where, where + SIZE)


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, 2 * SIZE, _codes, _scales, _minima, block, item, slot)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
