"""q5_0 - blocks of 32 five-bit numbers with one binary16 scale (GGUF).

Layout      X.weight [rows, cols / 32 * 22], row-major; a block of 22 bytes is
    bytes 0..1    d, binary16, little-endian
    bytes 2..5    bit i of this 32-bit number, lowest byte first, is bit 4 of element i
    bytes 6..21   bits 3..0: the low nibble of byte 6 + i is element i, its high nibble element 16 + i;
                  five bits q mean q - 16
Semantics   W_eff[r, 32b + i] = d * (q[i] - 16) of block b of row r; exact
Order       no rounding: 11 and 5 significant bits fit
Special     d = inf or nan gives what IEEE 754 says (inf * 0 is nan); the sign of d stays on zeros
Errors      cols must be a multiple of 32
Golden      formats/q5_0: every_code, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q5_0, dequantize_row_q5_0. Dissent: llama.cpp on a
            CPU rounds the activations to q8_0 as well and sums integers within a block; that product is not this one
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.jit import inlined, item_kernel, kernel
from refmoe.numerics.codecs import f16_to_f32
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_item
    from refmoe.kernels.pairs import stream_pairs, vector_of_pairs
    from refmoe.numerics.vec import vmul
    from refmoe.numerics.vec_bytes import (
        b_and,
        b_or,
        b_shl,
        b_shr,
        b_sub,
        load_bytes,
        load_short,
        signed,
        splat_half,
        spread_bits,
    )

suffixes = (".weight",)
dtypes = ("Q5_0",)
ELEMENTS, SIZE = 32, 22


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q5_0: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d, q = f16_to_f32(blocks[:, :2].copy().view(np.uint16)), blocks[:, 6:]
    fifth = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")
    q = (np.concatenate([q & 15, q >> 4], axis=1) | (fifth << 4)).astype(np.int8) - np.int8(16)
    return (d * q.astype(np.float32)).reshape(weight.rows, weight.cols)


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols // ELEMENTS * SIZE]


@inlined
def _open(where):
    return splat_half(where)


@inlined
def _pair(where, d, j):
    q = load_bytes(where + 6)
    low = b_or(b_and(q, 15), b_shl(spread_bits(load_short(where + 2)), 4))
    high = b_or(b_shr(q, 4), b_shl(spread_bits(load_short(where + 4)), 4))
    return vmul(d, signed(b_sub(low, 16))), vmul(d, signed(b_sub(high, 16)))


@kernel
def _vector(d, r, k):
    return vector_of_pairs(_open, _pair, ELEMENTS, SIZE, d, r, k)


@kernel
def _stream(d, first, last, x, x_rows, out, width, out_rows):
    stream_pairs(_open, _pair, SIZE, d, first, last, x, x_rows, out, width, out_rows)


@item_kernel
def product(block, item, slot):
    """The work item of kernels.matmul."""
    product_item(_stream, _vector, block, item, slot)
