"""mxfp4_halves - blocks of 32 four-bit floats with one power of two, in halves (GGUF).

Layout      X.weight [rows, cols / 32 * 17], row-major; a block of 17 bytes is
    byte  0       e, the exponent of the scale
    bytes 1..16   a nibble each: the low nibble of byte 1 + i is element i, its high nibble element 16 + i
                  (halves; the format mxfp4 of safetensors files has neighbours in a byte)
    nibble 0 1 2 ... means 0 1 2 3 4 6 8 12 0 -1 -2 -3 -4 -6 -8 -12: twice the value of its E2M1 code
Semantics   W_eff[r, 32b + i] = 2^(e - 128) * step[nibble i] of block b of row r; exact
Codes       the step, scale 2^(e - 128), no minimum; units of 32
Order       no rounding but overflow: e = 254 with steps of 4 and more, e = 255 with 2 and more give inf. e = 0, 1 are
            subnormal scales, used as they are
Special     nibble 8 is +0 (E2M1 has -0 there). e = 255 is 2^127, as in ggml (nan in the OCP specification)
Errors      cols must be a multiple of 32
Golden      formats/mxfp4_halves: every_code, every_exponent, rows_of_blocks
Origin      ggml type MXFP4, dequantize_row_mxfp4. Dissent: llama.cpp on a
            CPU rounds the activations to q8_0 as well and sums integers within a block; that product is not this one
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.jit import inlined, item_kernel, kernel
from refmoe.numerics.activation_codes import Codes, arranged
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_item
    from refmoe.kernels.pairs import stream_pairs, vector_of_pairs
    from refmoe.kernels.product_codes import product_codes_item
    from refmoe.numerics.vec import address, lane, vmul
    from refmoe.numerics.vec_bytes import WIDE, b_lookup, b_shr, load_byte, load_bytes, pick, signed, splat_bits
    from refmoe.numerics.vec_codes import load_bytes16, shift_right
    from refmoe.numerics.vec_dots import VNNI, Kind
    from refmoe.numerics.vec_int import put
    from refmoe.numerics.vec_unpack import four_apart, look_up, nibble_halves

    KIND = Kind(32, 24, 12)

suffixes = (".weight",)
dtypes = ("MXFP4",)
ELEMENTS, SIZE = 32, 17
STEPS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)
RAISED = STEPS + np.int8(12)
SMALLEST = 1 << 21  # pattern of 2^-128


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix, in bytes."""
    if cols % ELEMENTS:
        raise FormatError(f"mxfp4_halves: columns: expected a multiple of {ELEMENTS}, found {cols}")
    return {".weight": (rows, cols // ELEMENTS * SIZE)}


def _unpacked(weight):
    blocks = weight.parts[".weight"].reshape(-1, SIZE)
    e, q = blocks[:, :1].astype(np.uint32), blocks[:, 1:]
    scale = np.where(e < 2, SMALLEST << e, np.maximum(e, 1) - 1 << 23).astype(np.uint32).view(np.float32)
    return STEPS[np.concatenate([q & 15, q >> 4], axis=1)], scale


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    q, scale = _unpacked(weight)
    with np.errstate(over="ignore"):
        return (scale * q.astype(np.float32)).reshape(weight.rows, weight.cols)


def codes(weight: Weight) -> Codes:
    """q, scale and minimum for linear_a8."""
    return arranged(weight.rows, *_unpacked(weight))


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols // ELEMENTS * SIZE]


@inlined
def _scale(where):
    e = load_byte(where)
    return splat_bits(SMALLEST << e if e < 2 else e - 1 << 23)


@inlined
def _open(where):
    scale = _scale(where)
    return vmul(scale, signed(load_bytes(address(STEPS)))) if WIDE else scale  # WIDE: what each nibble means


@inlined
def _pair(where, scale, j):
    if WIDE:
        return pick(scale, load_bytes(where + 1), 0), pick(scale, load_bytes(where + 1), 4)
    q, steps = load_bytes(where + 1), load_bytes(address(STEPS))
    return vmul(scale, signed(b_lookup(steps, q))), vmul(scale, signed(b_lookup(steps, b_shr(q, 4))))


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
    first = where + 2 * SIZE * j + 1
    nibbles = nibble_halves(load_bytes16(first), load_bytes16(first + SIZE))
    return look_up(load_bytes16(address(RAISED)), nibbles)


@kernel
def _scales(where, d, r, k):
    found = _scale(where)
    for i in range(1, 16):
        found = put(found, i, lane(_scale(where + i * SIZE), 0))
    return found


@kernel
def _apart(where, j):
    q, steps = four_apart(where + 4 * SIZE * j + 1, SIZE), load_bytes16(address(RAISED))
    return look_up(steps, q), look_up(steps, shift_right(q, 4))


APART = _apart if jit.ENABLED and VNNI else None


@item_kernel
def _product_codes(block, item, slot):
    product_codes_item(KIND, SIZE * 16, _codes, _scales, None, block, item, slot, APART)


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(_product_codes())
