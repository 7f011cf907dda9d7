"""awq - 4-bit integers packed along the rows of W_eff in the order of AWQ's gemm kernels.

Layout      X.qweight [cols, rows / 8] int32: word (c, j) holds column c of rows 8j .. 8j+7; row 8j + i is the nibble
                number 0, 4, 1, 5, 2, 6, 3, 7 for i = 0 .. 7, nibble 0 being bits 0 to 3
            X.qzeros [groups, rows / 8] int32: zero points of rows 8j .. 8j+7 in the same order
            X.scales [groups, rows]: f16, bf16 or f32
Semantics   W_eff[r, c] = (q - z) * scale[g, r], g = c // group; nothing is added to a stored zero point
            params: group (0: the whole row)
Codes       q - 8, scale of the group, minimum = (8 - z) * scale, rounded once; units of 32. None for groups that are
            not whole units
Order       q - z is exact; R1 the product rounds once, RN32; with f16 and bf16 scales it is exact
Special     q = z times a negative scale is -0
Errors      rows must be a multiple of 8, and group must divide cols; a scale that is nan or inf is refused when it is
            loaded; other versions (gemv, gemv_fast, marlin) are refused by the config
Golden      formats/awq: distinct_nibbles, groups, one_group
Origin      AutoAWQ, version gemm. Dissent: kernels on binary16 round the weight to it
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.numerics.activation_codes import Codes
from refmoe.numerics.small_codes import nibbles, scales_problem, scales_to_f32
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels import turning
    from refmoe.kernels.scales import KINDS
    from refmoe.kernels.small_integers import product_awq as product  # noqa: F401

suffixes = (".qweight", ".qzeros", ".scales")
dtypes = ("I32", "I32", "F16|BF16|F32")
params = ("group",)
ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # nibble of each of eight rows


def stored_shapes(rows: int, cols: int, group: int) -> dict:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    if rows % 8 or cols % (group or cols):
        raise FormatError(f"{rows} rows and {cols} columns, expected multiples of 8 and of the group size {group}")
    groups = cols // group if group else 1
    return {".qweight": (cols, rows // 8), ".qzeros": (groups, rows // 8), ".scales": (groups, rows)}


def _unpacked(stored: np.ndarray, lines: int) -> np.ndarray:
    """i16[rows, lines] of words [lines, rows / 8]."""
    words = nibbles(stored.reshape(lines, -1, 4))[:, :, ORDER]
    return words.reshape(lines, -1).T.astype(np.int16)


def _parts(weight: Weight, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q [n, cols], z [n, groups], scale f32[n, groups] of rows i64[n]."""
    groups = weight.cols // (weight.params["group"] or weight.cols)
    q, z = _unpacked(weight.parts[".qweight"], weight.cols), _unpacked(weight.parts[".qzeros"], groups)
    scale = scales_to_f32(weight.params[".scales"], weight.parts[".scales"]).reshape(groups, weight.rows).T
    return q[rows], z[rows], scale[rows]


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return decode_rows(weight, np.arange(weight.rows))


def decode_rows(weight: Weight, rows: np.ndarray) -> np.ndarray:
    """Rows i64[n] of W_eff."""
    (q, z, scale), group = _parts(weight, rows), np.arange(weight.cols) // (weight.params["group"] or weight.cols)
    return (q - z[:, group]).astype(np.float32) * scale[:, group]  # R1


def codes(weight: Weight) -> Codes | None:
    """q, scale and minimum for linear_a8, or None."""
    if weight.params["group"] % 32:
        return None
    q, z, scale = _parts(weight, np.arange(weight.rows))
    first = np.arange(0, weight.cols, 32) // (weight.params["group"] or weight.cols)  # the group of each unit
    return (q - 8).astype(np.int64), scale[:, first], (np.float32(8 - z) * scale)[:, first]


def in_rows(weight: Weight, in_place: bool) -> Weight:
    """The same matrix as int_packed where it has codes, else as it is."""
    zeros = 0, turning.AWQ_ORDER
    return weight if weight.params["group"] % 32 else turning.packed(weight, in_place, 4, turning.turn_awq, zeros)


def check(weight: Weight) -> tuple[str, str] | None:
    """Finite scales."""
    problem = scales_problem(weight.params[".scales"], weight.parts[".scales"])
    return (".scales", problem) if problem else None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.small_integers."""
    size = weight.params["group"] or weight.cols
    return [weight.parts[".qweight"].ctypes.data, weight.cols, 0, weight.parts[".scales"].ctypes.data,
            KINDS[weight.params[".scales"]], 1, size, weight.cols // size, 4, weight.parts[".qzeros"].ctypes.data, 0, 0,
            weight.rows]  # fmt: skip
