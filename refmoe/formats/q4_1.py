"""q4_1 - blocks of 32 nibbles with a binary16 scale and minimum (GGUF).

Layout      X.weight [rows, cols / 32 * 20], row-major; a block of 20 bytes is
    bytes 0..1    d, binary16, little-endian
    bytes 2..3    m, binary16
    bytes 4..19   q, a nibble each: the low nibble of byte 4 + i is element i, its high nibble element 16 + i
Semantics   W_eff[r, 32b + i] = d * q[i] + m of block b of row r
Codes       q as it is, scale d, minimum m; units of 32
Order       R1 the product is exact (11 and 4 significant bits), so only the sum with m is rounded, once
Special     inf or nan in d or m give what IEEE 754 says (inf * 0 and inf - inf are nan); -0 as in binary32
Errors      cols must be a multiple of 32
Golden      formats/q4_1: every_code, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q4_1, dequantize_row_q4_1. Dissent: llama.cpp on a
            CPU rounds the activations to q8_1 as well and sums integers within a block; that product is not this one
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
    from refmoe.kernels.pairs import stream_pairs, vector_of_pairs
    from refmoe.kernels.product_codes import product_codes_item
    from refmoe.numerics.vec import address, vfma
    from refmoe.numerics.vec_bytes import WIDE, b_and, b_shr, load_bytes, pick, signed, splat_half, unsigned
    from refmoe.numerics.vec_codes import load_bytes16
    from refmoe.numerics.vec_dots import VNNI, Kind
    from refmoe.numerics.vec_unpack import halves, nibble_halves, nibbles_apart

    KIND = Kind(32, 15)

suffixes = (".weight",)
dtypes = ("Q4_1",)
ELEMENTS, SIZE = 32, 20
STEPS = np.arange(16).astype(np.int8)


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q4_1: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d, m = f16_to_f32(blocks[:, :4].copy().view(np.uint16)).T[:, :, None]
    return np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1), d, m


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    q, d, m = _unpacked(weight)
    return (d * q.astype(np.float32) + m).reshape(weight.rows, weight.cols)


def codes(weight: Weight) -> Codes:
    """q, scale and minimum for linear_a8."""
    return arranged(weight.rows, *_unpacked(weight))


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols // ELEMENTS * SIZE]


@inlined
def _open(where):
    d, m = splat_half(where), splat_half(where + 2)
    return (vfma(d, signed(load_bytes(address(STEPS))), m), m) if WIDE else (d, m)  # WIDE: what each nibble means


@inlined
def _pair(where, shared, j):
    d, m = shared
    q = load_bytes(where + 4)
    if WIDE:
        return pick(d, q, 0), pick(d, q, 4)
    return vfma(d, unsigned(b_and(q, 15)), m), vfma(d, unsigned(b_shr(q, 4)), m)


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


@kernel
def _codes(where, j):
    first = where + 2 * SIZE * j + 4
    return nibble_halves(load_bytes16(first), load_bytes16(first + SIZE))


@kernel
def _scales(where, d, r, k):
    return halves(where, 0, SIZE)


@kernel
def _minima(where, d, r, k):
    return halves(where, 2, SIZE)


@kernel
def _apart(where, j):
    return nibbles_apart(where + 4 * SIZE * j + 4, SIZE)


APART = _apart if jit.ENABLED and VNNI else None


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, SIZE * 16, _codes, _scales, _minima, block, item, slot, APART)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
