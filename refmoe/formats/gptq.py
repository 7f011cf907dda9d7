"""gptq - 4- or 8-bit integers packed along the columns of W_eff, zero points packed along its rows.

Layout      X.qweight [ceil(cols * bits / 32), rows] int32: word (i, r) holds the codes q of row r, columns i * n to
                i * n + n-1, n = 32 / bits, the lowest bits first
            X.qzeros [groups, ceil(rows * bits / 32)] int32: word (g, j) holds the zero points v of rows j * n to
                j * n + n-1 of group g
            X.scales [groups, rows]: f16, bf16 or f32
            X.g_idx [cols] int32: the group of each column (may be absent without act_order: c // group)
Semantics   W_eff[r, c] = (q - z) * scale[g, r], g = g_idx[c]; z of row r in group g is
                symmetric: 2^(bits-1); stored zero points are not read, since labels and contents do not always agree
                else (v + zero_offset) mod 2^bits: files of checkpoint_format gptq (or none) store z - 1, offset 1;
                gptq_v2 stores z, offset 0. A stored 2^bits - 1 with offset 1 is z = 0, as it was before 1 was taken off
            params: bits, group (0: the whole row), symmetric, act_order, zero_offset
Codes       q - 2^(bits-1), scale of the group, minimum = (2^(bits-1) - z) * scale, rounded once; units of 32. None for
            groups that are not whole units, and with a g_idx that reorders the columns
Order       q - z is exact; R1 the product rounds once, RN32; with f16 and bf16 scales it is exact
Special     q = z times a negative scale is -0
Errors      a scale that is nan or inf and a g_idx outside the groups are refused when they are loaded; the last group
            and the last words may be partial
Golden      formats/gptq: act_order, distinct_nibbles, groups_v1, groups_v2, int8, partial_words,
            symmetric_other_zeros, zero_wraps
Origin      AutoGPTQ, GPTQModel, Qwen3 GPTQ. Dissent, where a zero point is 0 in a file that stores z - 1: exllama and
            llama.cpp do not wrap and take 16 for a stored 15; GPTQModel takes 0x1111.. off whole words and adds it
            again, so that the next zero point in the word is 1 less in its files than here. Elsewhere: kernels on
            binary16 round the weight to it
"""

import numpy as np

from refmoe import jit
from refmoe.numerics.activation_codes import Codes
from refmoe.numerics.small_codes import bit_fields, scales_problem, scales_to_f32
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels import turning
    from refmoe.kernels.columns import product_gptq as product  # noqa: F401
    from refmoe.kernels.scales import KINDS

suffixes = (".qweight", ".qzeros", ".scales")
dtypes = ("I32", "I32", "F16|BF16|F32")
params = ("bits", "group", "symmetric", "act_order", "zero_offset")
extras = {".g_idx": "I32"}


def stored_shapes(
    rows: int, cols: int, bits: int, group: int, symmetric: int, act_order: int, zero_offset: int
) -> dict:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    each, groups = 32 // bits, -(-cols // group) if group else 1
    return {".qweight": (-(-cols // each), rows), ".qzeros": (groups, -(-rows // each)), ".scales": (groups, rows),
            ".g_idx": (cols,) if act_order else [None, (cols,)]}  # fmt: skip


def _group(weight: Weight) -> tuple[int, int]:
    """Columns of a group, number of groups."""
    size = weight.params["group"] or weight.cols
    return size, -(-weight.cols // size)


def _reordered(weight: Weight) -> np.ndarray | None:
    """The group of each column, if it is not c // group."""
    if ".g_idx" not in weight.parts:
        return None
    index = weight.parts[".g_idx"].view(np.int32)
    return None if np.array_equal(index, np.arange(weight.cols) // _group(weight)[0]) else index


def _unpacked(weight: Weight, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q [n, cols], z [n, groups], scale f32[n, groups] of rows i64[n]."""
    bits, (_, groups) = weight.params["bits"], _group(weight)
    columns = np.ascontiguousarray(weight.parts[".qweight"].view(np.uint32).reshape(-1, weight.rows)[:, rows].T)
    q = bit_fields(columns.view(np.uint8).reshape(len(rows), -1), bits, weight.cols)
    z = np.full((len(rows), groups), 1 << (bits - 1), np.int16)
    if not weight.params["symmetric"]:
        v = bit_fields(weight.parts[".qzeros"].reshape(groups, -1), bits, weight.rows).T[rows]
        z = (v + weight.params["zero_offset"]) & ((1 << bits) - 1)
    return q, z, scales_to_f32(weight.params[".scales"], weight.parts[".scales"]).reshape(groups, -1).T[rows]


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return decode_rows(weight, np.arange(weight.rows))


def decode_rows(weight: Weight, rows: np.ndarray) -> np.ndarray:
    """Rows i64[n] of W_eff."""
    (q, z, scale), group = _unpacked(weight, rows), _reordered(weight)
    group = np.arange(weight.cols) // _group(weight)[0] if group is None else group
    return (q - z[:, group]).astype(np.float32) * scale[:, group]  # R1


def _fits(weight: Weight) -> bool:
    """Whether there are codes: groups of whole units, no order of columns."""
    return weight.params["group"] % 32 == 0 and _reordered(weight) is None


def codes(weight: Weight) -> Codes | None:
    """q, scale and minimum for linear_a8, or None."""
    if not _fits(weight):
        return None
    (q, z, scale), half = _unpacked(weight, np.arange(weight.rows)), 1 << (weight.params["bits"] - 1)
    first = np.arange(0, weight.cols, 32) // _group(weight)[0]  # the group of each unit
    return (q - half).astype(np.int64), scale[:, first], (np.float32(half - z) * scale)[:, first]


def in_rows(weight: Weight, in_place: bool) -> Weight:
    """The same matrix as int_packed where it has codes, else as it is."""
    bits, offset = weight.params["bits"], weight.params["zero_offset"]
    zeros = None if weight.params["symmetric"] else (offset, np.arange(32 // bits))
    return turning.packed(weight, in_place, bits, turning.turn, zeros) if _fits(weight) else weight


def check(weight: Weight) -> tuple[str, str] | None:
    """Finite scales, groups that exist."""
    if problem := scales_problem(weight.params[".scales"], weight.parts[".scales"]):
        return ".scales", problem
    if ".g_idx" in weight.parts:
        index, (_, groups) = weight.parts[".g_idx"].view(np.int32), _group(weight)
        if index.min() < 0 or index.max() >= groups:
            return ".g_idx", f"expected groups 0 to {groups - 1}, found {index.min()} to {index.max()}"
    return None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.small_integers."""
    (size, groups), symmetric, bits = _group(weight), weight.params["symmetric"], weight.params["bits"]
    index = _reordered(weight)
    return [weight.parts[".qweight"].ctypes.data, weight.cols, 0, weight.parts[".scales"].ctypes.data,
            KINDS[weight.params[".scales"]], 1, size, groups, bits,
            0 if symmetric else weight.parts[".qzeros"].ctypes.data,
            1 << (bits - 1) if symmetric else weight.params["zero_offset"],
            0 if index is None else index.ctypes.data, weight.rows]  # fmt: skip
