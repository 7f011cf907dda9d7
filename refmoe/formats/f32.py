"""f32 - binary32 weights, as stored.

Layout      X.weight [rows, cols], row-major:
    one binary32 per weight, little-endian: bits 31 sign, 30..23 exponent, 22..0 fraction
Semantics   W_eff[r, c] = stored[r, c], bit for bit
Order       no rounding
Special     inf and nan stay what they are; nothing is refused
Errors      the stored size must be rows * cols * 4 bytes (checked when the checkpoint is claimed)
Golden      formats/f32: block_1x1, block_3x16, block_5x37, every_exponent
Origin      safetensors dtype F32
"""

import numpy as np

from refmoe import jit
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.matmul import product_f32 as product  # noqa: F401

suffixes = (".weight",)
dtypes = ("F32",)


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    return {".weight": (rows, cols)}


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return weight.parts[".weight"].view(np.float32).reshape(weight.rows, weight.cols)


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor: address, columns, bytes of a row."""
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols * 4]
