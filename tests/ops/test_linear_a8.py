"""linear_a8: vectors; the fast schedules equal the plain kernel for any shape, share and setting of the codes."""

import numpy as np
import pytest

from refmoe import formats, ops
from tests import quantised, vectors
from tests.oracles import linear_a8 as oracle

KILLS = {
    "one_row": ("whole_row", "groups_of_64", "groups_of_16"),
    "many_rows": ("scale_of_batch", "top_is_the_first"),
    "lane_order": ("serial", "eight_lanes", "scaled_twice"),
    "half_ties": ("ties_away", "half_up", "truncated", "divided"),
    "not_finite": ("nan_hidden",),
    "partial_unit": ("last_unit_dropped",),
    "minima": ("no_minima", "sums_of_x"),
    "units_of_16": ("halves_exchanged",),
}


@vectors.of("linear_a8")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("linear_a8", oracle, KILLS)
    vectors.check_clause("linear_a8")


def coded(shape):
    """int8_scaled matrices of all settings, with their codes."""
    return [(weight, formats.codes(weight)) for weight in quantised.weights("int8_scaled", *shape)]


@vectors.needs_jit
@pytest.mark.parametrize("shape", [(1, 1), (33, 17), (5, 37), (34, 64), (35, 131), (3, 512), (33, 700), (7, 1056)])
def test_fast_equals_plain(shape):
    """Rows around the change from streaming to turned chunks and passes of 8; rows of W around panels of 32."""
    for weight, codes in coded(shape):
        for rows in (1, 2, 3, 4, 16, 17, 33):
            x = vectors.normal(f"linear_a8 {rows} {weight.cols}", rows, weight.cols)
            op = "linear" if codes is None else "linear_a8"
            plain = ops.get(op).plain(x, *(codes or (formats.decode(weight),)))
            for parts in vectors.PARTS[:3]:
                vectors.assert_same(ops.get("linear_a8").bind((weight,), {}, parts)(x), plain, f"{weight.params}")


@vectors.needs_jit
@pytest.mark.parametrize("rows", [1, 5])
def test_fast_equals_plain_for_special_values(rows):
    """Rows with nan, inf, zeros, subnormal and very large numbers."""
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 1.5e-36, 3e38, -3e38, 1.0], np.float32)
    rng = np.random.default_rng(5)
    weight, codes = coded((34, 100))[0]
    for rare in (0.005, 0.3):
        x = vectors.normal("x", rows, 100)
        for _ in range(20):
            mask = rng.random(x.shape) < rare
            some = np.where(mask, rng.choice(values, x.shape), x)
            found = ops.get("linear_a8").bind((weight,), {}, 2)(some)
            vectors.assert_same(found, ops.get("linear_a8").plain(some, *codes))


def test_without_codes_the_op_is_linear():
    w, x = vectors.normal("plain w", 5, 40), vectors.normal("plain x", 9, 40)
    found = ops.get("linear_a8").bind((ops.wrap(w),), {}, 2)(x)
    vectors.assert_same(found, ops.get("linear").plain(x, w))


def test_matrices_with_and_without_codes_in_one_launch():
    (weight, codes), w = coded((33, 64))[1], vectors.normal("mixed w", 5, 64)
    for rows in (1, 9):
        x = vectors.normal(f"mixed {rows}", rows, 64)
        for parts in (1, 3):
            mixed = ops.get("linear_a8").bind_many([(weight,), (ops.wrap(w),), (weight,)], parts)(x)
            vectors.assert_same(mixed[0], ops.get("linear_a8").plain(x, *codes))
            vectors.assert_same(mixed[1], ops.get("linear").plain(x, w))
            vectors.assert_same(mixed[2], mixed[0])
