"""fp8_scaled - e4m3 codes with weight_scale: of the tensor, of each row, of groups of a row, or of blocks.

Layout      X.weight [rows, cols], row-major: one e4m3 code per weight (clause small_codes)
            X.weight_scale: f32, bf16, f16 or e8m0 (stored as U8 too), by strategy
                tensor [], [1] or [1, 1]; channel [rows, 1] or [rows]; group [rows, ceil(cols / size)];
                block [ceil(rows / block_rows), ceil(cols / block_cols)]
Semantics   W_eff[r, c] = code[r, c] * scale[r // block_rows, c // block_cols]
            params: block_rows and block_cols, 0 for all: tensor (0, 0), channel (1, 0), group (1, size), block
Order       R1 the product rounds once, RN32; with bf16, f16 and e8m0 scales it is exact unless it leaves the range
Special     codes 0x7F and 0xFF are nan and stay nan; -0 stays -0; products below 2^-126 are subnormal, not flushed
Errors      a scale that is nan or inf is refused when it is loaded
Golden      formats/fp8_scaled: blocks, channel_bf16, every_code, groups_e8m0, tensor_f32
Origin      compressed-tensors float-quantized and mxfp8-quantized, ModelOpt FP8, fp8 of one scale. Dissent:
            compressed-tensors multiplies in the type of the scale and so rounds to bf16 or f16; engines that quantise
            activations too (W8A8) scale the sum of the products. input_scale is not used
"""

import numpy as np

from refmoe import jit
from refmoe.numerics.small_codes import e4m3_to_f32, scales_problem, scales_to_f32, spread
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.bytes8 import product_fp8 as product  # noqa: F401
    from refmoe.kernels.scales import KINDS

suffixes = (".weight", ".weight_scale")
dtypes = ("F8_E4M3", "F32|BF16|F16|F8_E8M0|U8")
params = ("block_rows", "block_cols")
unused = {".weight_zero_point": "e4m3 codes have no zero point"}


def stored_shapes(rows: int, cols: int, block_rows: int, block_cols: int) -> dict:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    per_column, per_row = -(-rows // (block_rows or rows)), -(-cols // (block_cols or cols))
    shapes: list = [(per_column, per_row)]
    if block_cols == 0:
        shapes += [(), (1,)] if block_rows == 0 else [(rows,)]
    return {".weight": (rows, cols), ".weight_scale": shapes}


def _blocks(weight: Weight) -> tuple[int, int]:
    return weight.params["block_rows"] or weight.rows, weight.params["block_cols"] or weight.cols


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return decode_rows(weight, np.arange(weight.rows))


def decode_rows(weight: Weight, rows: np.ndarray) -> np.ndarray:
    """Rows i64[n] of W_eff."""
    codes = weight.parts[".weight"].reshape(weight.rows, weight.cols)[rows]
    scales = scales_to_f32(weight.params[".weight_scale"], weight.parts[".weight_scale"])
    with np.errstate(all="ignore"):
        return e4m3_to_f32(codes) * spread(scales, rows, weight.cols, *_blocks(weight))  # R1


def check(weight: Weight) -> tuple[str, str] | None:
    """Every scale is finite."""
    problem = scales_problem(weight.params[".weight_scale"], weight.parts[".weight_scale"])
    return (".weight_scale", problem) if problem else None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.bytes8."""
    scales, (block_rows, block_cols) = weight.parts[".weight_scale"], _blocks(weight)
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols, scales.ctypes.data,
            KINDS[weight.params[".weight_scale"]], block_rows, block_cols, -(-weight.cols // block_cols)]
