"""fp8_block - e4m3 codes with one scale for each block of rows and columns, named weight_scale_inv.

Layout      X.weight [rows, cols], row-major: one e4m3 code per weight (clause small_codes)
            X.weight_scale_inv [ceil(rows / block_rows), ceil(cols / block_cols)], row-major: f32, bf16, f16 or e8m0;
            the last block of a row or column may be partial. Without blocks, one scale: [] or [1]
Semantics   W_eff[r, c] = code[r, c] * scale[r // block_rows, c // block_cols]: the name says inverse, it multiplies
            params: block_rows and block_cols from weight_block_size (0: all)
Order       R1 the product rounds once, RN32; with bf16, f16 and e8m0 scales it is exact unless it leaves the range
Special     codes 0x7F and 0xFF are nan and stay nan; -0 stays -0; products below 2^-126 are subnormal, not flushed
Errors      a scale that is nan or inf is refused when it is loaded
Golden      formats/fp8_block: bf16_scales, e8m0_scales, every_code, one_scale, partial_blocks, tiny_and_large_scales
Origin      DeepSeek-V3, Kimi-K2 (f32 scales, 128 x 128), Qwen3 FP8 (bf16 scales); transformers FineGrainedFP8 has the
            unblocked form. Dissent: DeepSeek's fp8_cast_bf16.py and transformers round the product to bf16; their FP8
            kernels multiply 128 columns at a time and scale the sum, and quantise activations per 128 channels, which
            is not done here (activation_scheme is ignored)
"""

import numpy as np

from refmoe import jit
from refmoe.numerics.small_codes import e4m3_to_f32, scales_problem, scales_to_f32, spread
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.bytes8 import product_fp8 as product  # noqa: F401
    from refmoe.kernels.scales import KINDS

suffixes = (".weight", ".weight_scale_inv")
dtypes = ("F8_E4M3", "F32|BF16|F16|F8_E8M0")
params = ("block_rows", "block_cols")


def stored_shapes(rows: int, cols: int, block_rows: int, block_cols: int) -> dict:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    whole = block_rows == 0 and block_cols == 0
    blocks = (-(-rows // (block_rows or rows)), -(-cols // (block_cols or cols)))
    return {".weight": (rows, cols), ".weight_scale_inv": [(), (1,), (1, 1)] if whole else blocks}


def _blocks(weight: Weight) -> tuple[int, int]:
    return weight.params["block_rows"] or weight.rows, weight.params["block_cols"] or weight.cols


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return decode_rows(weight, np.arange(weight.rows))


def decode_rows(weight: Weight, rows: np.ndarray) -> np.ndarray:
    """Rows i64[n] of W_eff."""
    codes = weight.parts[".weight"].reshape(weight.rows, weight.cols)[rows]
    scales = scales_to_f32(weight.params[".weight_scale_inv"], weight.parts[".weight_scale_inv"])
    with np.errstate(all="ignore"):
        return e4m3_to_f32(codes) * spread(scales, rows, weight.cols, *_blocks(weight))  # R1


def check(weight: Weight) -> tuple[str, str] | None:
    """Every scale is finite."""
    suffix = ".weight_scale_inv"
    problem = scales_problem(weight.params[suffix], weight.parts[suffix])
    return (suffix, problem) if problem else None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.bytes8."""
    scales, (block_rows, block_cols) = weight.parts[".weight_scale_inv"], _blocks(weight)
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols, scales.ctypes.data,
            KINDS[weight.params[".weight_scale_inv"]], block_rows, block_cols, -(-weight.cols // block_cols)]
