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


MAKERS = {
    "fp8_block": _blocked("fp8_block", ".weight_scale_inv"),
    "fp8_scaled": _blocked("fp8_scaled", ".weight_scale"),
    "int8_scaled": _blocked("int8_scaled", ".weight_scale"),
}
MULTIPLES: dict[str, int] = {}  # of columns, where a format needs one


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
    """The fast product equals decode, then the plain kernel: all settings, shapes, rows of x, numbers of parts."""
    for rows, cols in shapes:
        for weight in weights(format, rows, cols):
            w = formats.decode(weight)
            with np.errstate(all="ignore"):
                for count in ROWS if rows < 40 else (1, 9):
                    x = vectors.normal(f"{format} {rows} {cols} {count}", count, weight.cols)
                    plain = ops.get("linear").plain(x, w)
                    for parts in (1, 3):
                        found = ops.get("linear").bind((weight,), {}, parts)(x)
                        vectors.assert_same(found, plain, f"{weight.params}, {rows} x {weight.cols}, {count} rows")


SHAPES = [(1, 1), (5, 37), (34, 16), (33, 70), (2, 256), (70, 130)]
