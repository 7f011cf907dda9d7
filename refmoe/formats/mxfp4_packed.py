"""mxfp4_packed - e2m1 codes in groups of 32 with a power of two each, as compressed-tensors stores them.

Layout      X.weight_packed [rows, cols / 2] u8: byte b of a row holds its elements 2b (low half) and 2b + 1 (high half)
            X.weight_scale [rows, cols / 32] u8 or F8_E8M0: e8m0, one for each group
Semantics   W_eff[r, c] = e2m1[element c of row r] * 2^(scale[r, c // 32] - 127) (clause small_codes)
Codes       q = twice the e2m1 value, scale half of 2^(scale - 127), exact, no minimum; units of 32
Order       R1 the product rounds once, RN32: exact, except that 2^128 and more is inf (scales 253 and 254)
Special     code 8 is -0; scale 0 is 2^-127, and products with it are subnormal and exact
Errors      cols must be a multiple of 32; a scale of 255 (nan) is refused when it is loaded
Golden      formats/mxfp4_packed: distinct_elements, every_pair, every_scale
Origin      compressed-tensors mxfp4-pack-quantized. Dissent: its decoder multiplies in bf16 (equal where bf16 has the
            value); engines that quantise activations to mxfp4 as well, which is not done here
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.numerics.activation_codes import Codes, arranged
from refmoe.numerics.small_codes import e2m1_to_f32, e8m0_to_f32, nibbles, scales_problem
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.fp4 import codes_32
    from refmoe.kernels.fp4 import product_fp4 as product  # noqa: F401
    from refmoe.kernels.scales import KINDS

suffixes = (".weight_packed", ".weight_scale")
dtypes = ("U8", "U8|F8_E8M0")
params = ()
GROUP = 32


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    if cols % GROUP:
        raise FormatError(f"{cols} columns, expected a multiple of {GROUP}")
    return {".weight_packed": (rows, cols // 2), ".weight_scale": (rows, cols // GROUP)}


def _unpacked(weight):
    steps = e2m1_to_f32(nibbles(weight.parts[".weight_packed"].reshape(-1, GROUP // 2)))  # [rows * groups, 32]
    return steps, e8m0_to_f32(weight.parts[".weight_scale"])[:, None]


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    steps, scale = _unpacked(weight)
    with np.errstate(all="ignore"):
        return (steps * scale).reshape(weight.rows, weight.cols)  # R1


def codes(weight: Weight) -> Codes:
    """q, scale and minimum for linear_a8."""
    steps, scale = _unpacked(weight)
    with np.errstate(all="ignore"):
        return arranged(weight.rows, steps * np.float32(2.0), scale * np.float32(0.5))


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(codes_32())


def check(weight: Weight) -> tuple[str, str] | None:
    """Finite scales."""
    problem = scales_problem("U8", weight.parts[".weight_scale"])
    return (".weight_scale", problem) if problem else None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.fp4."""
    packed, scales = weight.parts[".weight_packed"], weight.parts[".weight_scale"]
    return [packed.ctypes.data, weight.cols, weight.cols // 2, scales.ctypes.data, KINDS["U8"], 1, GROUP,
            weight.cols // GROUP, 0, 0]  # fmt: skip
