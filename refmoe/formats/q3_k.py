"""q3_k - blocks of 256 three-bit numbers, a 6-bit scale for each 16 (GGUF).

Layout      X.weight [rows, cols / 256 * 110], row-major; a block of 110 bytes is
    bytes 0..31   bit p of byte l is bit 2 of element 32p + l (p = 0..7; l = 0..31)
    bytes 32..95  bits 1..0: element 128h + 32j + l (h = 0, 1; j = 0..3) is bits 2j+1..2j of byte 32 + 32h + l;
                  three bits q mean q - 4
    bytes 96..107 sixteen 6-bit scales (numerics.k_scales); six bits s mean s - 32
    bytes 108..109  d, binary16, little-endian
Semantics   W_eff[r, 256b + i] = (d * (scale[i / 16] - 32)) * (q[i] - 4) of block b of row r; exact
Codes       q - 4, scale d * (scale - 32), exact, no minimum; units of 16
Order       no rounding: 11, 5 and 2 significant bits fit (-32 and -4 have one)
Special     d = inf or nan gives what IEEE 754 says (inf * 0 is nan); the sign of d stays on zeros
Errors      cols must be a multiple of 256
Golden      formats/q3_k: every_scale, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q3_K, dequantize_row_q3_K. Dissent: llama.cpp on a
            CPU rounds the activations to q8_K as well and sums integers within a block; that product is not this one
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.jit import inlined, item_kernel, kernel
from refmoe.numerics.activation_codes import Codes, arranged
from refmoe.numerics.codecs import f16_to_f32
from refmoe.numerics.k_scales import load_sixteen_scales, sixteen_scales
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_item
    from refmoe.kernels.pairs import stream_large_pairs, vector_of_pairs
    from refmoe.kernels.product_codes import product_codes_item
    from refmoe.numerics.vec import lane, splat, vmul
    from refmoe.numerics.vec_bytes import (
        b_and,
        b_or,
        b_shl,
        b_shr,
        b_sub,
        load_bytes,
        signed,
        splat_half,
    )
    from refmoe.numerics.vec_codes import ior, join, load_bytes32, mask, shift_left, shift_right
    from refmoe.numerics.vec_dots import Kind

    KIND = Kind(16, 7, 4)

suffixes = (".weight",)
dtypes = ("Q3_K",)
ELEMENTS, SIZE = 256, 110


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q3_k: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d = f16_to_f32(blocks[:, 108:110].copy().view(np.uint16))
    scale = (sixteen_scales(blocks[:, 96:108]).astype(np.int8) - np.int8(32)).astype(np.float32)
    halves = blocks[:, 32:96].reshape(-1, 2, 1, 32)
    low = np.concatenate([halves >> 2 * j & 3 for j in range(4)], axis=2).reshape(-1, 8, 32)
    third = np.concatenate([blocks[:, None, :32] >> p & 1 for p in range(8)], axis=1)
    return ((low | (third << 2)).astype(np.int8) - np.int8(4)).reshape(-1, 16, 16), d * scale  # by scale


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
    return vmul(splat_half(where + 108), signed(b_sub(load_sixteen_scales(where + 96), 32)))


@inlined
def _sixteen(scales, s, j, q, third):
    """Elements with scale s of run j: low bits from the bytes at address q, the third from those at `third`."""
    low = b_and(b_shr(load_bytes(q), j % 4 * 2), 3)
    bits = b_or(low, b_shl(b_and(b_shr(load_bytes(third), j), 1), 2))
    return vmul(splat(lane(scales, s)), signed(b_sub(bits, 4)))


@inlined
def _pair(where, scales, j):
    q = where + 32 + j // 4 * 32
    return _sixteen(scales, 2 * j, j, q, where), _sixteen(scales, 2 * j + 1, j, q + 16, where + 16)


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
    low = shift_right(load_bytes32(where + 32 + j // 2 * 32), j % 2 * 4)
    third = shift_right(load_bytes32(where), 2 * j)
    bits = join(mask(third, 1), mask(shift_right(third, 1), 1))
    return ior(join(mask(low, 3), mask(shift_right(low, 2), 3)), shift_left(bits, 2))


@kernel
def _scales(where, d, r, k):
    return _open(where)


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, SIZE, _codes, _scales, None, block, item, slot)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
