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

from refmoe import jit
from refmoe.numerics.codecs import f16_to_f32
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_f16 as product  # noqa: F401

suffixes = (".weight",)
dtypes = ("F16",)


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    return {".weight": (rows, cols)}


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return f16_to_f32(weight.parts[".weight"].view(np.uint16)).reshape(weight.rows, weight.cols)


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols * 2]
