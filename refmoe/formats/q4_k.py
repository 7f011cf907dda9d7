"""q4_k - blocks of 256 nibbles, a 6-bit scale and minimum for each 32 (GGUF).

Layout      X.weight [rows, cols / 256 * 144], row-major; a block of 144 bytes is
    bytes 0..1     d, binary16, little-endian
    bytes 2..3     dmin, binary16
    bytes 4..15    eight 6-bit scales and eight 6-bit minima (numerics.k_scales), one of each for 32 elements
    bytes 16..143  element 64g + l (g = 0..3; l = 0..31) is the low nibble of byte 16 + 32g + l, element
                   64g + 32 + l its high nibble
Semantics   W_eff[r, 256b + i] = (d * scale[i / 32]) * q[i] - dmin * minimum[i / 32] of block b of row r
Codes       q as it is, scale d * scale, minimum -(dmin * minimum), both exact; units of 32
Order       R1 all products are exact (11, 6 and 4 significant bits), so only the difference is rounded, once
Special     inf or nan in d or dmin give what IEEE 754 says (inf * 0 and inf - inf are nan); -0 as in binary32
Errors      cols must be a multiple of 256
Golden      formats/q4_k: every_scale, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q4_K, dequantize_row_q4_K. Dissent: llama.cpp on a
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
    from refmoe.numerics.vec_bytes import b_and, b_shr, load_bytes, splat_half, unsigned
    from refmoe.numerics.vec_codes import join, load_bytes32, mask, shift_right
    from refmoe.numerics.vec_dots import Kind

    KIND = Kind(32, 15)

suffixes = (".weight",)
dtypes = ("Q4_K",)
ELEMENTS, SIZE = 256, 144


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q4_k: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d, dmin = f16_to_f32(blocks[:, :4].copy().view(np.uint16)).T[:, :, None]
    scale, minimum = (part.astype(np.float32) for part in scales_and_minima(blocks[:, 4:16]))
    bytes32 = blocks[:, 16:].reshape(-1, 4, 1, 32)
    q = np.concatenate([bytes32 & 15, bytes32 >> 4], axis=2).reshape(-1, 8, 32)  # by scale
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
def _pair(where, shared, j):
    factor, term = splat(lane(shared[0], j)), splat(lane(shared[1], 8 + j))
    q, shift = where + 16 + j // 2 * 32, j % 2 * 4
    low, high = b_and(b_shr(load_bytes(q), shift), 15), b_and(b_shr(load_bytes(q + 16), shift), 15)
    return vfma(factor, unsigned(low), term), vfma(factor, unsigned(high), term)


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
    q = load_bytes32(where + j // 4 * SIZE + 16 + j % 4 * 32)
    return join(mask(q, 15), shift_right(q, 4))


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
