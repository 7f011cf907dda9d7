"""q4_0 - blocks of 32 nibbles with one binary16 scale (GGUF).

Layout      X.weight [rows, cols / 32 * 18], row-major; a block of 18 bytes is
    bytes 0..1    d, binary16, little-endian
    bytes 2..17   q, a nibble each: the low nibble of byte 2 + i is element i, its high nibble element 16 + i
                  (halves, not neighbours); a nibble means q - 8
Semantics   W_eff[r, 32b + i] = d * (q[i] - 8) of block b of row r; exact
Codes       q - 8, scale d, no minimum; units of 32
Order       no rounding: 11 and 4 significant bits fit
Special     d = inf or nan gives what IEEE 754 says (inf * 0 is nan); the sign of d stays on zeros
Errors      cols must be a multiple of 32
Golden      formats/q4_0: every_code, extreme_scales, rows_of_blocks, special_scales
Origin      ggml type Q4_0, dequantize_row_q4_0. Dissent: llama.cpp on a
            CPU rounds the activations to q8_0 as well and sums integers within a block; that product is not this one
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
    from refmoe.numerics.vec import address, vmul
    from refmoe.numerics.vec_bytes import WIDE, b_and, b_shr, b_sub, load_bytes, pick, signed, splat_half
    from refmoe.numerics.vec_codes import load_bytes16
    from refmoe.numerics.vec_dots import VNNI, Kind
    from refmoe.numerics.vec_unpack import halves, nibble_halves, nibbles_apart

    KIND = Kind(32, 15, 8)

suffixes = (".weight",)
dtypes = ("Q4_0",)
ELEMENTS, SIZE = 32, 18
STEPS = np.arange(-8, 8).astype(np.int8)


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"q4_0: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    d, q = f16_to_f32(blocks[:, :2].copy().view(np.uint16)), blocks[:, 2:]
    return np.concatenate([q & 15, q >> 4], axis=1).astype(np.int8) - np.int8(8), d


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    q, d = _unpacked(weight)
    return (d * q.astype(np.float32)).reshape(weight.rows, weight.cols)


def codes(weight: Weight) -> Codes:
    """q, scale and minimum for linear_a8."""
    return arranged(weight.rows, *_unpacked(weight))


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols // ELEMENTS * SIZE]


@inlined
def _open(where):
    d = splat_half(where)
    return vmul(d, signed(load_bytes(address(STEPS)))) if WIDE else d  # WIDE: what each nibble means


@inlined
def _pair(where, d, j):
    q = load_bytes(where + 2)
    if WIDE:
        return pick(d, q, 0), pick(d, q, 4)
    return vmul(d, signed(b_sub(b_and(q, 15), 8))), vmul(d, signed(b_sub(b_shr(q, 4), 8)))


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
    first = where + 2 * SIZE * j + 2
    return nibble_halves(load_bytes16(first), load_bytes16(first + SIZE))


@kernel
def _scales(where, d, r, k):
    return halves(where, 0, SIZE)


@kernel
def _apart(where, j):
    return nibbles_apart(where + 4 * SIZE * j + 2, SIZE)


APART = _apart if jit.ENABLED and VNNI else None


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, SIZE * 16, _codes, _scales, None, block, item, slot, APART)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
