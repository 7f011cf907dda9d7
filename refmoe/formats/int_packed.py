"""int_packed - compressed-tensors pack-quantized: integers of 1 to 8 bits packed into words along the row.

Layout      X.weight_packed [rows, ceil(cols * bits / 32)] int32; the words of a row are one stream of bits, the lowest
                bit of the first word first; code u of column c is the `bits` bits from bit c * bits on
            X.weight_scale [rows, groups]: f32, bf16 or f16; groups = cols / group, or 1 (channel)
            X.weight_zero_point [ceil(rows * bits / 32), groups] int32 (only if asymmetric): a stream of bits down each
                column; zero point v of row r is the `bits` bits from bit r * bits on
            X.weight_shape [2] int32 or int64: rows, cols (may be absent)
            X.weight_g_idx [cols] int32: the group of each column (may be absent: group of column c is c // group)
            4 bits: code c of a row is nibble c mod 8, the lowest first, of word c // 8
Semantics   W_eff[r, c] = (u - v) * scale[r, g]; symmetric: v = 2^(bits-1), so that u is excess-2^(bits-1), not two's
            complement. Both u and v are stored with that offset, which cancels
            params: bits, group (0: the whole row), symmetric
Codes       q = u - 2^(bits-1), scale of the group, minimum = (2^(bits-1) - v) * scale, rounded once; units of 16 if
            groups are 16 wide, else of 32. None for other bits than 4 and 8, for groups that are not whole units, and
            with a weight_g_idx that reorders the columns
Order       u - v is exact; R1 the product rounds once, RN32; with bf16 and f16 scales it is exact
Special     u = v times a negative scale is -0; zero points stored beside a symmetric encoding are not read
Errors      group must divide cols; a scale that is nan or inf, a weight_shape other than rows and cols, and a
            weight_g_idx outside the groups are refused when they are loaded
Golden      formats/int_packed: asymmetric_channel, asymmetric_groups, every_nibble, group_index, int8_groups,
            odd_bits, partial_word, symmetric_with_zeros
Origin      compressed-tensors; Kimi-K2-Thinking (experts, 4 bits, groups of 32, bf16 scales). Dissent:
            compressed-tensors multiplies in the type of the scale, so it rounds to bf16 or f16; engines that compute
            on packed codes scale the sum of a group
"""

import numpy as np

from refmoe import jit
from refmoe.errors import FormatError
from refmoe.numerics.activation_codes import Codes, unit_of
from refmoe.numerics.small_codes import bit_fields, scales_problem, scales_to_f32
from refmoe.weight import Weight

if jit.ENABLED:
    from refmoe.kernels.integer_codes import PACKED
    from refmoe.kernels.scales import KINDS
    from refmoe.kernels.small_integers import product_packed as product  # noqa: F401

suffixes = (".weight_packed", ".weight_scale")
dtypes = ("I32", "F32|BF16|F16")
params = ("bits", "group", "symmetric")
extras = {".weight_zero_point": "I32", ".weight_shape": "I32|I64", ".weight_g_idx": "I32"}
unused = {".weight_zero_point": "the config says symmetric: there is no zero point"}


def stored_shapes(rows: int, cols: int, bits: int, group: int, symmetric: int) -> dict:
    """Shapes of the stored tensors of a [rows, cols] matrix."""
    if group and cols % group:
        raise FormatError(f"{cols} columns, expected a multiple of the group size {group}")
    groups = cols // group if group else 1
    found = {".weight_packed": (rows, -(-cols * bits // 32)),
             ".weight_scale": (rows, groups) if group else [(rows, 1), (rows,)],
             ".weight_shape": [None, (2,)], ".weight_g_idx": [None, (cols,)]}  # fmt: skip
    return found if symmetric else found | {".weight_zero_point": (-(-rows * bits // 32), groups)}


def _group(weight: Weight) -> tuple[int, int]:
    """Columns of a group, number of groups; of turned GPTQ (kernels.turning) the last one may be partial."""
    size = weight.params["group"] or weight.cols
    return size, -(-weight.cols // size)


def _reordered(weight: Weight) -> np.ndarray | None:
    """The group of each column, if it is not c // group."""
    if ".weight_g_idx" not in weight.parts:
        return None
    index = weight.parts[".weight_g_idx"].view(np.int32)
    return None if np.array_equal(index, np.arange(weight.cols) // _group(weight)[0]) else index


def _unpacked(weight: Weight, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """u [n, cols], v [n, groups], scale f32[n, groups] of rows i64[n]."""
    (_, groups), bits = _group(weight), weight.params["bits"]
    u = bit_fields(weight.parts[".weight_packed"].reshape(weight.rows, -1)[rows], bits, weight.cols)
    v = np.full((len(rows), groups), 1 << (bits - 1), np.int16)
    if not weight.params["symmetric"]:
        words = weight.parts[".weight_zero_point"].view(np.uint32).reshape(-1, groups)
        v = bit_fields(np.ascontiguousarray(words.T).view(np.uint8).reshape(groups, -1), bits, weight.rows).T[rows]
    scale = scales_to_f32(weight.params[".weight_scale"], weight.parts[".weight_scale"]).reshape(-1, groups)[rows]
    return u, v, scale


def decode(weight: Weight) -> np.ndarray:
    """W_eff f32[rows, cols]."""
    return decode_rows(weight, np.arange(weight.rows))


def decode_rows(weight: Weight, rows: np.ndarray) -> np.ndarray:
    """Rows i64[n] of W_eff."""
    (u, v, scale), group = _unpacked(weight, rows), _reordered(weight)
    group = np.arange(weight.cols) // _group(weight)[0] if group is None else group
    return (u - v[:, group]).astype(np.float32) * scale[:, group]  # R1


def _unit(weight: Weight) -> int:
    fits = weight.params["bits"] in (4, 8) and _reordered(weight) is None
    return unit_of(weight.params["group"]) if fits else 0


def codes(weight: Weight) -> Codes | None:
    """q, scale and minimum for linear_a8, or None."""
    if _unit(weight) == 0:
        return None
    (u, v, scale), half = _unpacked(weight, np.arange(weight.rows)), 1 << (weight.params["bits"] - 1)
    first = np.arange(0, weight.cols, _unit(weight)) // _group(weight)[0]  # the group of each unit
    return (u - half).astype(np.int64), scale[:, first], (np.float32(half - v) * scale)[:, first]


def product_codes(weight: Weight) -> int:
    """The work item of kernels.matmul for codes, or 0."""
    key = weight.params["bits"], _unit(weight), bool(weight.params["symmetric"])
    return PACKED[key]() if _unit(weight) else 0


def check(weight: Weight) -> tuple[str, str] | None:
    """Finite scales, the right shape, groups that exist."""
    if problem := scales_problem(weight.params[".weight_scale"], weight.parts[".weight_scale"]):
        return ".weight_scale", problem
    if ".weight_shape" in weight.parts:
        kind = {"I32": np.int32, "I64": np.int64}[weight.params[".weight_shape"]]
        shape = weight.parts[".weight_shape"].view(kind).tolist()
        if shape != [weight.rows, weight.cols]:
            return ".weight_shape", f"expected {[weight.rows, weight.cols]}, found {shape}"
    if ".weight_g_idx" in weight.parts:
        index, (_, groups) = weight.parts[".weight_g_idx"].view(np.int32), _group(weight)
        if index.min() < 0 or index.max() >= groups:
            return ".weight_g_idx", f"expected groups 0 to {groups - 1}, found {index.min()} to {index.max()}"
    return None


def descriptor(weight: Weight) -> list[int]:
    """First words of the descriptor; see kernels.small_integers."""
    packed, scales = weight.parts[".weight_packed"], weight.parts[".weight_scale"]
    bits, (size, groups) = weight.params["bits"], _group(weight)
    zeros = 0 if weight.params["symmetric"] else weight.parts[".weight_zero_point"].ctypes.data
    index = _reordered(weight)
    return [packed.ctypes.data, weight.cols, -(-weight.cols * bits // 32) * 4, scales.ctypes.data,
            KINDS[weight.params[".weight_scale"]], 1, size, groups, bits, zeros, 1 << (bits - 1),
            0 if index is None else index.ctypes.data, weight.rows]  # fmt: skip
