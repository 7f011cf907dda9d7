"""q6_k - blocks of 256 six-bit numbers, a signed byte as scale for each 16 (GGUF).

Layout      X.weight [rows, cols / 256 * 210], row-major; a block of 210 bytes is
    bytes 0..127    bits 3..0: of half h (0, 1) and l = 0..31, element 128h + l is the low nibble of byte 64h + l,
                    element 128h + 32 + l the low nibble of byte 64h + 32 + l, and 64 further on their high nibbles
    bytes 128..191  bits 5..4: element 128h + 32j + l (j = 0..3) is bits 2j+1..2j of byte 128 + 32h + l;
                    six bits q mean q - 32
    bytes 192..207  scale s, a signed byte, of elements 16s .. 16s + 15
    bytes 208..209  d, binary16, little-endian
Semantics   W_eff[r, 256b + i] = (d * scale[i / 16]) * (q[i] - 32) of block b of row r; exact
Codes       q - 32, scale d * scale, exact, no minimum; units of 16
Order       no rounding: 11, 7 and 5 significant bits fit (-128 and -32 have one)
Special     d = inf or nan gives what IEEE 754 says (inf * 0 is nan); the sign of d stays on zeros
Errors      cols must be a multiple of 256
Golden      formats/q6_k: every_scale, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q6_K, dequantize_row_q6_K. Dissent: llama.cpp on a
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
    from refmoe.numerics.vec_codes import ior, join, load_bytes32, load_bytes64, mask, shift_left, shift_right
    from refmoe.numerics.vec_dots import Kind

    KIND = Kind(16, 63, 32)

suffixes = (".weight",)
dtypes = ("Q6_K",)
ELEMENTS, SIZE = 256, 210


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q6_k: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d = f16_to_f32(blocks[:, 208:210].copy().view(np.uint16))
    scale = blocks[:, 192:208].view(np.int8).astype(np.float32)
    bytes64, halves = blocks[:, :128].reshape(-1, 2, 1, 64), blocks[:, 128:192].reshape(-1, 2, 1, 32)
    low = np.concatenate([bytes64 & 15, bytes64 >> 4], axis=2).reshape(-1, 8, 32)
    upper = np.concatenate([halves >> 2 * j & 3 for j in range(4)], axis=2).reshape(-1, 8, 32)
    return ((low | (upper << 4)).astype(np.int8) - np.int8(32)).reshape(-1, 16, 16), d * scale  # by scale


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
    return vmul(splat_half(where + 208), signed(load_bytes(where + 192)))


@inlined
def _sixteen(scales, s, j, q, upper):
    """Elements with scale s of run j (0..3 of a half): nibbles at address q, upper bits at `upper`."""
    nibbles = b_and(b_shr(load_bytes(q), j // 2 * 4), 15)
    bits = b_or(nibbles, b_shl(b_and(b_shr(load_bytes(upper), 2 * j), 3), 4))
    return vmul(splat(lane(scales, s)), signed(b_sub(bits, 32)))


@inlined
def _pair(where, scales, j):
    q, upper = where + j // 4 * 64 + j % 2 * 32, where + 128 + j // 4 * 32
    return _sixteen(scales, 2 * j, j % 4, q, upper), _sixteen(scales, 2 * j + 1, j % 4, q + 16, upper + 16)


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
    low = mask(shift_right(load_bytes64(where + j // 2 * 64), j % 2 * 4), 15)
    bits = shift_right(load_bytes32(where + 128 + j // 2 * 32), j % 2 * 4)
    return ior(low, shift_left(join(mask(bits, 3), mask(shift_right(bits, 2), 3)), 4))


@kernel
def _scales(where, d, r, k):
    return _open(where)


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, SIZE, _codes, _scales, None, block, item, slot)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
