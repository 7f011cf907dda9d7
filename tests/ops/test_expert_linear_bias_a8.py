"""expert_linear_bias_a8: vectors; as expert_linear_a8, then the biases."""

import numpy as np
import pytest

from refmoe import ops
from tests import quantised, vectors
from tests.oracles import expert_linear_bias_a8 as oracle

KILLS = {"bias_after_tree": ("bias_first", "bias_of_next"), "row_per_choice": ("first_row_for_all",)}


@vectors.of("expert_linear_bias_a8")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("expert_linear_bias_a8", oracle, KILLS)
    vectors.check_clause("expert_linear_bias_a8")


@pytest.mark.parametrize("shape", [(5, 64), (5, 2, 64)])
def test_as_without_bias_and_the_bias(shape):
    experts, b = quantised.weights("int8_scaled", 35, 64)[:4], vectors.normal("biases", 4, 35)
    x, ids = vectors.normal(f"experts {shape}", *shape), np.array([[0, 3], [3, 1], [2, 2], [1, 0], [3, 0]])
    y = ops.get("expert_linear_bias_a8").bind((experts, b), {}, 2)(x, ids)
    vectors.assert_same(y, ops.get("expert_linear_a8").bind((experts,), {}, 2)(x, ids) + b[ids])
