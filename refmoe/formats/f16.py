"""f16 - binary16 weights.

Layout      X.weight [rows, cols], row-major:
    one binary16 per weight, little-endian: bits 15 sign, 14..10 exponent (bias 15), 9..0 fraction; subnormals are used
Semantics   W_eff[r, c] = the stored value widened to binary32; exact, subnormals included
Order       no rounding
Special     inf and nan stay what they are; nothing is refused
Errors      the stored size must be rows * cols * 2 bytes (checked when the checkpoint is claimed)
Golden      formats/f16: all_codes, block_1x1, block_3x16, block_5x37
Origin      safetensors dtype F16
"""

import numpy as np

from refmoe.numerics.codecs import f16_to_f32
from refmoe.weight import Weight

suffixes = (".weight",)
dtypes = ("F16",)
TAG = np.empty(0, np.int16)  # element tag of numerics.vec


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    return {".weight": (rows, cols)}


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return f16_to_f32(weight.parts[".weight"].view(np.uint16)).reshape(weight.rows, weight.cols)


def address(weight: Weight) -> int:
    """Address of the first stored element."""
    return weight.parts[".weight"].ctypes.data
