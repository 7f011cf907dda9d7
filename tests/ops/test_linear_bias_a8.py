"""linear_bias_a8: vectors; as linear_a8, then the bias."""

import pytest

from refmoe import formats, ops
from tests import quantised, vectors
from tests.oracles import linear_bias_a8 as oracle

KILLS = {"bias_after_tree": ("bias_first", "no_bias"), "partial_unit": ("last_unit_dropped",)}


@vectors.of("linear_bias_a8")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("linear_bias_a8", oracle, KILLS)
    vectors.check_clause("linear_bias_a8")


@pytest.mark.parametrize("rows", [1, 9])
def test_fast_equals_plain(rows):
    """With codes and without."""
    x, b = vectors.normal("linear_bias_a8 x", rows, 96), vectors.normal("linear_bias_a8 b", 35)
    weight = quantised.weights("int8_scaled", 35, 96)[0]
    plain = ops.get("linear_bias_a8").plain(x, *formats.codes(weight), b)
    vectors.assert_same(ops.get("linear_bias_a8").bind((weight, b), {}, 2)(x), plain)
    w = vectors.normal("linear_bias_a8 w", 35, 96)
    found = ops.get("linear_bias_a8").bind((ops.wrap(w), b), {}, 2)(x)
    vectors.assert_same(found, ops.get("linear_bias").plain(x, w, b))
