"""linear_bias: vectors; the schedule adds the bias after the tree."""

import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import linear_bias as oracle

KILLS = {
    "bias_after_tree": ("bias_first",),
    "partial_lanes": ("tail_dropped",),
}


@vectors.of("linear_bias")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("linear_bias", oracle, KILLS)
    vectors.check_clause("linear_bias")


@vectors.needs_jit
@pytest.mark.parametrize(("n", "k"), [(1, 1), (33, 37), (7, 530)])
def test_fast_equals_plain(n, k):
    w, b = vectors.normal(f"linear_bias {n} {k} w", n, k), vectors.normal(f"linear_bias {n} b", n)
    for rows in (1, 3, 9, 33):
        x = vectors.normal(f"linear_bias {n} {k} {rows}", rows, k)
        for parts in (1, 3):
            found = ops.get("linear_bias").bind((ops.wrap(w), b), {}, parts)(x)
            vectors.assert_same(found, ops.get("linear_bias").plain(x, w, b))
