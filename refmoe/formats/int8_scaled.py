"""int8_scaled - signed bytes with weight_scale and perhaps weight_zero_point: of the tensor, of rows, groups or blocks.

Layout      X.weight [rows, cols], row-major: one two's complement byte q per weight
            X.weight_scale: f32, bf16 or f16, by strategy
                tensor [], [1] or [1, 1]; channel [rows, 1] or [rows]; group [rows, ceil(cols / size)];
                block [ceil(rows / block_rows), ceil(cols / block_cols)]
            X.weight_zero_point (only if asymmetric): signed bytes z, shape of the scales
Semantics   W_eff[r, c] = (q[r, c] - z[b]) * scale[b], b = (r // block_rows, c // block_cols); symmetric: z = 0
            params: block_rows and block_cols, 0 for all: tensor (0, 0), channel (1, 0), group (1, size), block;
            symmetric
Codes       q as it is, scale of its block, minimum = -z * scale, rounded once; units of 16 if blocks are 16 wide, else
            of 32. None where block_cols is neither 0 nor 16 nor a multiple of 32
Order       q - z is exact; R1 the product rounds once, RN32; with bf16 and f16 scales it is exact
Special     q = 0 times a negative scale is -0; zero points stored beside a symmetric encoding are not read
Errors      a scale that is nan or inf is refused when it is loaded
Golden      formats/int8_scaled: blocks, channel_asymmetric, every_code, groups, symmetric_with_zeros, tensor_f32
Origin      compressed-tensors int-quantized (W8A8). Dissent: compressed-tensors subtracts and multiplies in the type of
            the scale, so that in bf16 differences above 256 and products are rounded; W8A8 engines quantise
            activations as well and scale an integer sum. Activations stay binary32 here
"""

import numpy as np

from refmoe import jit
from refmoe.numerics.activation_codes import Codes, unit_of
from refmoe.numerics.small_codes import scales_problem, scales_to_f32, spread
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels import bytes8
    from refmoe.kernels.bytes8 import product_int8 as product  # noqa: F401
    from refmoe.kernels.scales import KINDS

suffixes = (".weight", ".weight_scale")
dtypes = ("I8", "F32|BF16|F16")
params = ("block_rows", "block_cols", "symmetric")
extras = {".weight_zero_point": "I8"}
unused = {".weight_zero_point": "the config says symmetric: there is no zero point"}


def stored_shapes(rows: int, cols: int, block_rows: int, block_cols: int, symmetric: int) -> dict:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    per_column, per_row = -(-rows // (block_rows or rows)), -(-cols // (block_cols or cols))
    shapes: list = [(per_column, per_row)]
    if block_cols == 0:
        shapes += [(), (1,)] if block_rows == 0 else [(rows,)]
    found = {".weight": (rows, cols), ".weight_scale": shapes}
    return found if symmetric else found | {".weight_zero_point": shapes}


def _blocks(weight: Weight) -> tuple[int, int]:
    return weight.params["block_rows"] or weight.rows, weight.params["block_cols"] or weight.cols


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return decode_rows(weight, np.arange(weight.rows))


def decode_rows(weight: Weight, rows: np.ndarray) -> np.ndarray:
    """Rows i64[n] of W_eff."""
    blocks = rows, weight.cols, *_blocks(weight)
    q = weight.parts[".weight"].view(np.int8).reshape(weight.rows, weight.cols)[rows].astype(np.int16)
    if not weight.params["symmetric"]:
        q -= spread(weight.parts[".weight_zero_point"].view(np.int8), *blocks)
    scales = scales_to_f32(weight.params[".weight_scale"], weight.parts[".weight_scale"])
    return q.astype(np.float32) * spread(scales, *blocks)  # R1


def codes(weight: Weight) -> Codes | None:
    """See Codes."""
    unit, (block_rows, block_cols) = unit_of(weight.params["block_cols"]), _blocks(weight)
    if unit == 0:
        return None
    units = -(-weight.cols // unit)
    blocks = weight.rows, units, block_rows, block_cols // unit if weight.params["block_cols"] else units
    q = weight.parts[".weight"].view(np.int8).reshape(weight.rows, weight.cols).astype(np.int64)
    scale = spread(scales_to_f32(weight.params[".weight_scale"], weight.parts[".weight_scale"]), *blocks)
    if weight.params["symmetric"]:
        return q, scale, np.zeros_like(scale)
    zeros = spread(weight.parts[".weight_zero_point"].view(np.int8), *blocks)
    return q, scale, -zeros.astype(np.int16) * scale


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes, or 0."""
    unit, symmetric = unit_of(weight.params["block_cols"]), weight.params["symmetric"]
    return 0 if unit == 0 else bytes8.CODES[unit, bool(symmetric)]()


def check(weight: Weight) -> tuple[str, str] | None:
    """Every scale is finite."""
    problem = scales_problem(weight.params[".weight_scale"], weight.parts[".weight_scale"])
    return (".weight_scale", problem) if problem else None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.bytes8."""
    scales, (block_rows, block_cols) = weight.parts[".weight_scale"], _blocks(weight)
    zeros = 0 if weight.params["symmetric"] else weight.parts[".weight_zero_point"].ctypes.data
    return [weight.parts[".weight"].ctypes.data, weight.cols, weight.cols, scales.ctypes.data,
            KINDS[weight.params[".weight_scale"]], block_rows, block_cols, -(-weight.cols // block_cols), zeros]
