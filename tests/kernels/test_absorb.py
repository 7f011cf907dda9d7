"""absorb: shapes, numbers of rows, stored types, signed zeros, equal the plain kernel of the op."""

import numpy as np
import pytest

from refmoe import formats, golden, jit, ops
from refmoe.numerics import codecs
from refmoe.weight import Weight

if not jit.ENABLED:
    pytest.skip("the JIT is off: there are no schedules", allow_module_level=True)

from refmoe.ops import absorb_query, expand_value
from tests import vectors

CODECS = {"f32": lambda a: a, "bf16": codecs.f32_to_bf16, "f16": codecs.f32_to_f16}


def stored(name, rows, rank, kind):
    """(weight, the matrix it means)."""
    raw = np.ascontiguousarray(CODECS[kind](vectors.normal(name, rows, rank)))
    weight = Weight(kind, rows, rank, {".weight": raw.reshape(-1).view(np.uint8)})
    return weight, formats.decode(weight)


def check(weight, matrix, x, heads, parts=(1, 3)):
    want = absorb_query.plain(x, matrix, heads)
    for count in parts:
        found = ops.get("absorb_query").bind((weight,), {"heads": heads}, count)(x)
        vectors.assert_same(found, want, f"{count} parts")


@pytest.mark.parametrize("kind", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("tokens", [1, 2, 4, 5, 8, 9])
def test_rows(tokens, kind):
    weight, matrix = stored(f"rows {kind}", 3 * 30, 70, kind)
    check(weight, matrix, vectors.normal("x", tokens, 3 * 18), 3)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 31, 32, 48, 50])
@pytest.mark.parametrize("rank", [1, 16, 17, 64, 80, 100, 130])
def test_sizes(size, rank):
    weight, matrix = stored(f"sizes {size} {rank}", 2 * (size + 3), rank, "bf16")
    for tokens in (1, 3):
        check(weight, matrix, vectors.normal("x", tokens, 2 * size), 2, (2,))


def test_padding_turns_a_negative_zero():
    """Products that underflow to -0 stay -0 in a full lane, and become +0 in a padded one."""
    for size in (16, 17):
        x, w = np.full((2, size), -1e-30, np.float32), np.full((size, 16), 1e-30, np.float32)
        check(ops.wrap(w), w, x, 1, (1,))


def test_every_format():
    """kv_b may be stored in any encoding: both halves of it, from the vectors of the formats."""
    seen = set()
    for path in golden.cases():
        case = golden.load(path)
        matrix = case.tensors.get(golden.FORMAT_RESULT)
        if not case.format or matrix is None or len(matrix) < 4 or len(matrix) % 2 or not np.isfinite(matrix).all():
            continue
        if case.format == "mxfp4_blocks":  # experts only: stored as one stack
            continue
        stored = {f".{name}": array.reshape(-1).view(np.uint8) for name, array in case.inputs.items()}
        weight, size = Weight(case.format, *matrix.shape, stored, dict(case.attrs)), len(matrix) // 2 - 1
        for tokens in (1, 3):
            check(weight, matrix, vectors.normal(case.name, tokens, 2 * size), 2, (1,))
            x = vectors.normal(case.name, tokens, 2 * matrix.shape[1])
            found = expand_value.bind((weight,), {"heads": 2, "width": 1}, 1)(x)
            vectors.assert_same(found, expand_value.plain(x, matrix, 1, 2), case.format)
        seen.add(case.format)
    assert len(seen) > 15 and {"fp8_block", "int_packed", "q8_0"} <= seen
