"""mxfp4_blocks - e2m1 codes in blocks of 32 with a power of two each, as gpt-oss stores its experts.

Layout      X_blocks [rows, cols / 32, 16] u8: byte b of a block holds its elements 2b (low half) and 2b + 1 (high half)
            X_scales [rows, cols / 32] u8: e8m0, one for each block
            stacks of experts have one more axis in front; each expert is a matrix of its own
Semantics   W_eff[r, 32g + e] = e2m1[element e of block g] * 2^(scale[r, g] - 127) (clause small_codes)
Codes       q = twice the e2m1 value, scale half of 2^(scale - 127), exact, no minimum; units of 32
Order       R1 the product rounds once, RN32: exact, except that 2^128 and more is inf (scales 253 and 254)
Special     code 8 is -0; scale 0 is 2^-127, and products with it are subnormal and exact
Errors      cols must be a multiple of 32; a scale of 255 (nan) is refused when it is loaded
Golden      formats/mxfp4_blocks: distinct_elements, every_pair, every_scale
Origin      openai/gpt-oss; OCP microscaling formats 1.0. Dissent: transformers and the model's own code keep the weight
            in bf16, which has the same values between 2^-126 and the largest, and activations in bf16
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

suffixes = ("_blocks", "_scales")
dtypes = ("U8", "U8")
params = ()
GROUP = 32


def stored_shapes(rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    if cols % GROUP:
        raise FormatError(f"{cols} columns, expected a multiple of {GROUP}")
    return {"_blocks": (rows, cols // GROUP, GROUP // 2), "_scales": (rows, cols // GROUP)}


def _unpacked(weight):
    steps = e2m1_to_f32(nibbles(weight.parts["_blocks"].reshape(-1, GROUP // 2)))  # [rows * groups, 32]
    return steps, e8m0_to_f32(weight.parts["_scales"])[:, None]


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
    problem = scales_problem("U8", weight.parts["_scales"])
    return ("_scales", problem) if problem else None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.fp4."""
    return [weight.parts["_blocks"].ctypes.data, weight.cols, weight.cols // 2, weight.parts["_scales"].ctypes.data,
            KINDS["U8"], 1, GROUP, weight.cols // GROUP, 0, 0]  # fmt: skip
