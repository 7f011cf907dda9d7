"""linear: vectors; the matrix product equals the plain kernel for any shape and share."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import linear as oracle

KILLS = {
    "lane_order": ("serial", "unfused", "binary64"),
    "partial_lanes": ("tail_dropped",),
    "cancellation": ("unfused",),
    "one_row": ("rows_dropped",),
    "special_values": ("zeros_skipped",),
}


@vectors.of("linear")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("linear", oracle, KILLS)
    vectors.check_clause("linear")


@vectors.needs_jit
@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 15), (31, 16), (33, 17), (65, 48), (5, 530), (40, 1029)])
def test_fast_equals_plain(n, k):
    """Rows around the change from streaming to tiles, columns around panels, widths around vectors and blocks."""
    w = vectors.normal(f"linear {n} {k} w", n, k)
    for rows in (1, 2, 3, 7, 8, 9, 33, 65):
        x = vectors.normal(f"linear {n} {k} {rows}", rows, k)
        plain = ops.get("linear").plain(x, w)
        for parts in vectors.PARTS:
            found = ops.get("linear").bind((ops.wrap(w),), {}, parts)(x)
            vectors.assert_same(found, plain, f"T {rows}, {parts} parts")


@vectors.needs_jit
@pytest.mark.parametrize("rows", [1, 9])
def test_fast_equals_plain_for_special_values(rows):
    """nan, inf, signed zeros, subnormals and overflow anywhere, in whole and in partial vectors."""
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3e38, -3e38, 1.0, 1e-20], np.float32)
    rng = np.random.default_rng(5)
    for k in (5, 16, 37):
        for rare in (0.02, 0.5):
            x, w = vectors.normal("x", rows, k), vectors.normal("w", 34, k, scale=1e-3)
            for array in (x, w):
                mask = rng.random(array.shape) < rare
                array[mask] = rng.choice(values, array.shape)[mask]
            found = ops.get("linear").bind((ops.wrap(w),), {}, 2)(x)
            vectors.assert_same(found, ops.get("linear").plain(x, w), f"K {k}")


def test_the_padding_turns_a_negative_zero_into_zero():
    """A lane whose only product underflows to -0 keeps it when K is a multiple of 16, and loses it by the padding."""
    x, w = np.full((1, 16), 1e-30, np.float32), np.full((1, 16), -1e-30, np.float32)
    assert np.signbit(ops.get("linear").plain(x, w)).all()
    x, w = np.full((1, 1), 1e-30, np.float32), np.full((1, 1), -1e-30, np.float32)
    assert not np.signbit(ops.get("linear").plain(x, w)).any()
    for size in (1, 15, 16, 17):
        x, w = np.full((1, size), 1e-30, np.float32), np.full((1, size), -1e-30, np.float32)
        vectors.assert_same(ops.get("linear").bind((ops.wrap(w),), {}, 1)(x), oracle.bits(x, w)["y"], f"K {size}")


def test_several_matrices_in_one_launch():
    """q, k and v: as one by one."""
    ws = [vectors.normal(f"several {n}", n, 37) for n in (5, 33, 1)]
    for rows in (1, 9):
        x = vectors.normal(f"several x {rows}", rows, 37)
        for parts in (1, 3):
            found = ops.get("linear").bind_many([(ops.wrap(w),) for w in ws], parts)(x)
            for y, w in zip(found, ws, strict=True):
                vectors.assert_same(y, ops.get("linear").plain(x, w))
