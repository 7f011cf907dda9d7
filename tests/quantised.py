"""Stored matrices of the quantised formats for tests, and what every test of such a format does."""

import numpy as np
import pytest

from refmoe import formats, golden, ops
from refmoe.numerics import codecs
from refmoe.weight import Weight
from tests import vectors

NARROW = {"F32": np.ascontiguousarray, "BF16": codecs.f32_to_bf16, "F16": codecs.f32_to_f16}
ROWS = (1, 2, 3, 9, 33)  # rows of x: streamed, and multiplied in tiles


def raw(array):
    """The bytes of an array."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def scales(rng, shape, dtype):
    """Random scales, of both signs, as stored."""
    if dtype in ("U8", "F8_E8M0"):
        return rng.integers(100, 140, shape).astype(np.uint8)
    return NARROW[dtype]((rng.normal(size=shape) * 0.02).astype(np.float32))


def _blocked(format, suffix):
    settings = [(br, bc, dtype) for br, bc in ((0, 0), (1, 0), (4, 16), (3, 5), (1, 32), (128, 128))
                for dtype in ("F32", "BF16", "F16")]  # fmt: skip
    if format == "fp8_scaled":
        settings += [(1, 32, "U8")]

    def make(rng, rows, cols, block_rows, block_cols, dtype):
        shape = -(-rows // (block_rows or rows)), -(-cols // (block_cols or cols))
        parts = {".weight": rng.integers(0, 256, rows * cols, dtype=np.uint8), suffix: raw(scales(rng, shape, dtype))}
        params = {"block_rows": block_rows, "block_cols": block_cols, suffix: dtype}
        if format == "int8_scaled":
            params["symmetric"] = int(rng.integers(2))
            if not params["symmetric"]:
                parts[".weight_zero_point"] = rng.integers(0, 256, shape[0] * shape[1], dtype=np.uint8)
        return Weight(format, rows, cols, parts, params)

    return make, settings


def _packed(rng, rows, cols, bits, group, symmetric, dtype, order):
    groups = cols // group if group else 1
    words = -(-cols * bits // 32) * rows, -(-rows * bits // 32) * groups
    parts = {".weight_packed": rng.integers(0, 256, words[0] * 4, dtype=np.uint8),
             ".weight_scale": raw(scales(rng, (rows, groups), dtype)),
             ".weight_zero_point": rng.integers(0, 256, words[1] * 4, dtype=np.uint8),
             ".weight_shape": raw(np.array([rows, cols], np.int32))}  # fmt: skip
    if order:
        parts[".weight_g_idx"] = raw(rng.permutation(np.arange(cols) % groups).astype(np.int32))
    params = {"bits": bits, "group": group, "symmetric": symmetric, ".weight_scale": dtype, ".weight_shape": "I32"}
    return Weight("int_packed", rows, cols, parts, params)


def _gptq(rng, rows, cols, bits, group, symmetric, offset, dtype, order):
    groups, each = -(-cols // group) if group else 1, 32 // bits
    parts = {".qweight": rng.integers(0, 256, -(-cols // each) * rows * 4, dtype=np.uint8),
             ".qzeros": rng.integers(0, 256, groups * -(-rows // each) * 4, dtype=np.uint8),
             ".scales": raw(scales(rng, (groups, rows), dtype)),
             ".g_idx": raw((np.arange(cols) // (group or cols)).astype(np.int32))}  # fmt: skip
    if order == 0:
        del parts[".g_idx"]
    elif order == 1:
        parts[".g_idx"] = raw(rng.permutation(parts[".g_idx"].view(np.int32)))
    params = {"bits": bits, "group": group, "symmetric": symmetric, "act_order": 1, "zero_offset": offset,
              ".scales": dtype}  # fmt: skip
    return Weight("gptq", rows, cols, parts, params)


def _awq(rng, rows, cols, group, dtype):
    rows, groups = -(-rows // 8) * 8, cols // group if group else 1
    parts = {".qweight": rng.integers(0, 256, cols * rows // 2, dtype=np.uint8),
             ".qzeros": rng.integers(0, 256, groups * rows // 2, dtype=np.uint8),
             ".scales": raw(scales(rng, (groups, rows), dtype))}  # fmt: skip
    return Weight("awq", rows, cols, parts, {"group": group, ".scales": dtype})


def _fp4(format):
    codes, scale, *whole = formats.get(format).suffixes
    group = formats.get(format).GROUP

    def make(rng, rows, cols, *dtype):
        count = rows * cols // group
        small = rng.integers(100, 140, count, dtype=np.uint8) if group == 32 else rng.integers(0, 127, count, np.uint8)
        parts = {codes: rng.integers(0, 256, rows * cols // 2, dtype=np.uint8), scale: small}
        parts |= {suffix: raw(np.array([37.123], np.float32)) for suffix in whole}
        return Weight(format, rows, cols, parts, {scale: dtype[0]} if dtype else {})

    return make, [("U8",)] if format == "mxfp4_packed" else [()]


MAKERS = {
    "int_packed": (_packed, [(4, 32, 1, "BF16", 0), (4, 16, 0, "F16", 0), (4, 0, 0, "F32", 0), (8, 32, 0, "F32", 0),
                             (8, 0, 1, "BF16", 0), (4, 8, 0, "BF16", 1), (3, 32, 0, "F16", 0), (5, 8, 0, "F32", 1),
                             (1, 32, 1, "BF16", 0), (2, 0, 0, "F16", 0), (7, 16, 0, "BF16", 0)]),
    "gptq": (_gptq, [(4, 32, 1, 1, "F16", 0), (4, 16, 0, 1, "F16", 2), (4, 8, 0, 0, "BF16", 1), (8, 32, 0, 1, "F16", 1),
                     (8, 0, 1, 1, "F16", 2), (4, 0, 0, 1, "F32", 0), (4, 24, 0, 1, "F16", 1), (4, 32, 1, 1, "F16", 1)]),
    "awq": (_awq, [(32, "F16"), (0, "F16"), (8, "BF16"), (16, "F32")]),
    "mxfp4_blocks": _fp4("mxfp4_blocks"),
    "mxfp4_packed": _fp4("mxfp4_packed"),
    "nvfp4_packed": _fp4("nvfp4_packed"),
    "nvfp4_modelopt": _fp4("nvfp4_modelopt"),
    "fp8_block": _blocked("fp8_block", ".weight_scale_inv"),
    "fp8_scaled": _blocked("fp8_scaled", ".weight_scale"),
    "int8_scaled": _blocked("int8_scaled", ".weight_scale"),
}
MULTIPLES = {"int_packed": 32, "awq": 32, "mxfp4_blocks": 32, "mxfp4_packed": 32, "nvfp4_packed": 16,
             "nvfp4_modelopt": 16}  # of columns, where a format or its settings above need one  # fmt: skip


def _blocks(format, halves, exponent=False):
    """A maker of rows of blocks (GGUF types): random bytes, ordinary binary16 numbers at `halves`."""
    module = formats.get(format)

    def make(rng, rows, cols):
        blocks = rng.integers(0, 256, (rows * cols // module.ELEMENTS, module.SIZE), dtype=np.uint8)
        for at in halves:
            blocks[:, at:at + 2] = rng.normal(0, 0.02, (len(blocks), 1)).astype(np.float16).view(np.uint8)
        if exponent:
            blocks[:, 0] = rng.integers(110, 130, len(blocks))
        return Weight(format, rows, cols, {".weight": blocks.reshape(-1)})

    MULTIPLES[format] = module.ELEMENTS
    return make, [()]


MAKERS |= {format: _blocks(format, halves) for format, halves in {
    "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0], "q2_k": [80, 82], "q3_k": [108],
    "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208], "iq4_nl": [0], "iq4_xs": [0]}.items()}  # fmt: skip
MAKERS["mxfp4_halves"] = _blocks("mxfp4_halves", [], exponent=True)


def weights(format, rows, cols):
    """One matrix for each of the settings under which a format may occur; cols is rounded up if it must be."""
    make, settings = MAKERS[format]
    step = MULTIPLES.get(format, 1)
    rng = np.random.default_rng([rows, cols])
    return [make(rng, rows, -(-cols // step) * step, *setting) for setting in settings]


def cases(format):
    """Parametrisation over the vectors of a format."""
    loaded = [golden.load(path) for path in golden.cases(format=format)]
    return pytest.mark.parametrize("case", loaded, ids=[case.name for case in loaded])


def check(case, oracle, kills):
    """Our decoder and the oracle have the vector's bits; every mutant that the vector hunts has others."""
    decoded = case.tensors["decoded"]
    vectors.assert_same(golden.run(case)["decoded"], decoded, "decode")
    stored = (*decoded.shape, case.attrs)
    vectors.assert_same(oracle.bits(*stored, **case.inputs), decoded, "oracle")
    for key in (*case.bugs, *kills.get(case.name, ())):
        mutants = oracle.MUTANTS[key]
        for mutant in mutants if isinstance(mutants, tuple) else (mutants,):
            with np.errstate(all="ignore"):
                found = mutant(*stored, **case.inputs)
            assert not golden.same(found, decoded), f"{case.name}: the mutant {key} survives"
    if vectors.jit.ENABLED:
        _check_product(golden.stored(case))


def check_all_hunted(format, oracle, kills):
    """Every mutant is hunted by some vector, every named vector exists, the clause names them all."""
    loaded = [golden.load(path) for path in golden.cases(format=format)]
    assert set(kills) <= {case.name for case in loaded}
    assert {key for case in loaded for key in (*case.bugs, *kills.get(case.name, ()))} == set(oracle.MUTANTS)
    vectors.check_clause(format, format=True)


def _check_product(weight, rows=(1, 9)):
    """The fast product of each unit vector, one at a time and together, is a column of the decoded matrix."""
    w = formats.decode(weight)
    x = np.eye(weight.cols, dtype=np.float32)
    with np.errstate(all="ignore"):
        plain = ops.get("linear").plain(x, w)
        for count in rows:
            for first in (0, max(0, weight.cols - count)):
                found = ops.get("linear").bind((weight,), {}, 2)(x[first:first + count])
                vectors.assert_same(found, plain[first:first + count], f"rows {first} and {count - 1} more")


def check_products(format, shapes):
    """The fast product equals decode, then the plain kernel: all settings, shapes, rows of x, numbers of parts; and
    any rows can be decoded on their own."""
    for rows, cols in shapes:
        for weight in weights(format, rows, cols):
            w = formats.decode(weight)
            some = np.random.default_rng(rows).integers(0, weight.rows, 7)
            vectors.assert_same(formats.decode_rows(weight, some), w[some], f"rows {some}")
            with np.errstate(all="ignore"):
                for count in ROWS if rows < 40 else (1, 9):
                    x = vectors.normal(f"{format} {weight.rows} {cols} {count}", count, weight.cols)
                    plain = ops.get("linear").plain(x, w)
                    for parts in (1, 3):
                        found = ops.get("linear").bind((weight,), {}, parts)(x)
                        vectors.assert_same(found, plain, f"{weight.params}, {rows} x {weight.cols}, {count} rows")
            if formats.codes(weight) is not None:
                check_codes(weight, w)


def check_codes(weight, w):
    """Codes stand for W_eff up to its own rounding, and the fast product of codes equals the plain kernel."""
    q, scale, minimum = formats.codes(weight)
    unit = 32 if scale.shape[1] == -(-weight.cols // 32) else 16
    scales, minima = (np.repeat(part, unit, axis=1)[:, : weight.cols].astype(float) for part in (scale, minimum))
    assert scale.dtype == minimum.dtype == np.float32 and q.dtype == np.int64
    assert (abs(q) <= 128).all() and scale.shape[1] == -(-weight.cols // unit)
    with np.errstate(all="ignore"):
        apart, size = abs(q * scales + minima - w), abs(q * scales) + abs(minima)
        assert (apart <= 2.0**-23 * size)[np.isfinite(apart)].all()
        for count in (1, 2, 3, 17):
            x = vectors.normal(f"codes {weight.rows} {weight.cols} {count}", count, weight.cols)
            plain = ops.get("linear_a8").plain(x, q, scale, minimum)
            for parts in (1, 3):
                found = ops.get("linear_a8").bind((weight,), {}, parts)(x)
                vectors.assert_same(found, plain, f"codes of {weight.params}, {weight.cols} columns, {count} rows")


SHAPES = [(1, 1), (5, 37), (34, 16), (33, 70), (2, 256), (70, 130)]
