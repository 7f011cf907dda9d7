"""q2_k - blocks of 256 two-bit numbers, a 4-bit scale and minimum for each 16 (GGUF).

Layout      X.weight [rows, cols / 256 * 84], row-major; a block of 84 bytes is
    bytes 0..15   byte s: low nibble scale s, high nibble minimum s of elements 16s .. 16s + 15
    bytes 16..79  two bits each: element 128h + 32j + l (h = 0, 1; j = 0..3; l = 0..31) is bits 2j+1..2j of byte
                  16 + 32h + l
    bytes 80..81  d, binary16, little-endian
    bytes 82..83  dmin, binary16
Semantics   W_eff[r, 256b + i] = (d * scale[i / 16]) * q[i] - dmin * minimum[i / 16] of block b of row r
Codes       q as it is, scale d * scale, minimum -(dmin * minimum), both exact; units of 16
Order       R1 all products are exact (11, 4 and 2 significant bits), so only the difference is rounded, once
Special     inf or nan in d or dmin give what IEEE 754 says (inf * 0 and inf - inf are nan); -0 as in binary32
Errors      cols must be a multiple of 256
Golden      formats/q2_k: every_scale, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q2_K, dequantize_row_q2_K. Dissent: llama.cpp on a
            CPU rounds the activations to q8_K as well and sums integers within a block; that product is not this one
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.jit import inlined, item_kernel, kernel
from refmoe.numerics.activation_codes import Codes, arranged
from refmoe.numerics.codecs import f16_to_f32
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_item
    from refmoe.kernels.pairs import stream_large_pairs, vector_of_pairs
    from refmoe.kernels.product_codes import product_codes_item
    from refmoe.numerics.vec import lane, splat, vfma, vmul
    from refmoe.numerics.vec_bytes import b_and, b_shr, load_bytes, splat_half, unsigned
    from refmoe.numerics.vec_codes import join, load_bytes32, mask, shift_right
    from refmoe.numerics.vec_dots import Kind

    KIND = Kind(16, 3)

suffixes = (".weight",)
dtypes = ("Q2_K",)
ELEMENTS, SIZE = 256, 84


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q2_k: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d, dmin = f16_to_f32(blocks[:, 80:84].copy().view(np.uint16)).T[:, :, None]
    scale, minimum = (blocks[:, :16] & 15).astype(np.float32), (blocks[:, :16] >> 4).astype(np.float32)
    halves = blocks[:, 16:80].reshape(-1, 2, 1, 32)
    q = np.concatenate([halves >> 2 * j & 3 for j in range(4)], axis=2).reshape(-1, 16, 16)  # by scale
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
    both, minus = load_bytes(where), vmul(splat(np.float32(-1.0)), splat_half(where + 82))
    return vmul(splat_half(where + 80), unsigned(b_and(both, 15))), vmul(minus, unsigned(b_shr(both, 4)))


@inlined
def _sixteen(shared, s, j, q):
    """Elements with scale s, two bits each from bit 2j of the bytes at address q."""
    scale, minimum = splat(lane(shared[0], s)), splat(lane(shared[1], s))
    return vfma(scale, unsigned(b_and(b_shr(load_bytes(q), 2 * j), 3)), minimum)


@inlined
def _pair(where, shared, j):
    q = where + 16 + j // 4 * 32
    return _sixteen(shared, 2 * j, j % 4, q), _sixteen(shared, 2 * j + 1, j % 4, q + 16)


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
    q = shift_right(load_bytes32(where + 16 + j // 2 * 32), j % 2 * 4)
    return join(mask(q, 3), mask(shift_right(q, 2), 3))


@kernel
def _scales(where, d, r, k):
    return _open(where)[0]


@kernel
def _minima(where, d, r, k):
    return _open(where)[1]


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, SIZE, _codes, _scales, _minima, block, item, slot)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
