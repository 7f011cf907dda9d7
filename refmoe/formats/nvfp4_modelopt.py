"""nvfp4_modelopt - e2m1 codes in groups of 16 with an e4m3 scale each and a factor of the tensor (ModelOpt).

Layout      X.weight [rows, cols / 2] u8: byte b of a row holds its elements 2b (low half) and 2b + 1 (high half)
            X.weight_scale [rows, cols / 16]: e4m3 (clause small_codes)
            X.weight_scale_2 [] or [1]: f32; the reciprocal of what compressed-tensors stores
Semantics   W_eff[r, c] = e2m1[element c of row r] * (scale[r, c // 16] * scale_2)
Codes       q = twice the e2m1 value, scale half of R1, rounded, no minimum; units of 16
Order       R1 scale * scale_2 rounds to binary32; R2 the product rounds to binary32
Special     code 8 is -0; a negative scale turns signs, as IEEE 754 says
Errors      cols must be a multiple of 16; a scale that is nan or inf is refused when it is loaded
Golden      formats/nvfp4_modelopt: distinct_elements, every_pair, every_scale
Origin      NVIDIA ModelOpt, quant_algo NVFP4. Dissent: NVFP4 engines quantise activations too and apply scale_2 to the
            sum; decoders into bf16 round once more. input_scale is not used
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.numerics.activation_codes import Codes, arranged
from refmoe.numerics.small_codes import e2m1_to_f32, e4m3_to_f32, nibbles, scales_problem
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.fp4 import codes_16
    from refmoe.kernels.fp4 import product_fp4 as product  # noqa: F401
    from refmoe.kernels.scales import KINDS

suffixes = (".weight", ".weight_scale", ".weight_scale_2")
dtypes = ("U8", "F8_E4M3", "F32")
params = ()
GROUP = 16
whole = (".weight_scale_2",)


def stored_shapes(rows: int, cols: int) -> dict:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    if cols % GROUP:
        raise FormatError(f"{cols} columns, expected a multiple of {GROUP}")
    return {".weight": (rows, cols // 2), ".weight_scale": (rows, cols // GROUP), ".weight_scale_2": [(), (1,)]}


def _unpacked(weight):
    steps = e2m1_to_f32(nibbles(weight.parts[".weight"].reshape(-1, GROUP // 2)))  # [rows * groups, 16]
    whole = weight.parts[".weight_scale_2"].view(np.float32)
    with np.errstate(all="ignore"):
        return steps, (e4m3_to_f32(weight.parts[".weight_scale"]) * whole)[:, None]  # R1


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    steps, scale = _unpacked(weight)
    with np.errstate(all="ignore"):
        return (steps * scale).reshape(weight.rows, weight.cols)  # R2


def codes(weight: Weight) -> Codes:
    """q, scale and minimum for linear_a8."""
    steps, scale = _unpacked(weight)
    with np.errstate(all="ignore"):
        return arranged(weight.rows, steps * np.float32(2.0), scale * np.float32(0.5))


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes."""
    return int(codes_16())


def check(weight: Weight) -> tuple[str, str] | None:
    """Finite scales."""
    for suffix, dtype in ((".weight_scale", "F8_E4M3"), (".weight_scale_2", "F32")):
        if problem := scales_problem(dtype, weight.parts[suffix]):
            return suffix, problem
    return None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.fp4."""
    bits = int(weight.parts[".weight_scale_2"].view(np.uint32)[0])
    packed, scales = weight.parts[".weight"], weight.parts[".weight_scale"]
    return [packed.ctypes.data, weight.cols, weight.cols // 2, scales.ctypes.data, KINDS["F8_E4M3"], 1, GROUP,
            weight.cols // GROUP, bits, 2]  # fmt: skip
