"""expert_linear_bias: vectors; grouping by expert changes no bit."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import expert_linear_bias as oracle

KILLS = {
    "bias_after_tree": ("bias_first",),
    "permuted_experts": ("bias_by_rank",),
    "row_per_choice": ("first_row_for_all",),
}


@vectors.of("expert_linear_bias")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("expert_linear_bias", oracle, KILLS)
    vectors.check_clause("expert_linear_bias")


@vectors.needs_jit
@pytest.mark.parametrize(("rows", "k", "experts"), [(1, 2, 8), (9, 3, 4), (40, 4, 5)])
def test_fast_equals_plain(rows, k, experts):
    """Few and many rows per expert, both signatures."""
    w = vectors.normal(f"expert_bias w {experts}", experts, 35, 37)
    b = vectors.normal(f"expert_bias b {experts}", experts, 35)
    rng = np.random.default_rng(rows)
    ids = np.array([rng.permutation(experts)[:k] for _ in range(rows)])
    for shape in ((rows, 37), (rows, k, 37)):
        x = vectors.normal(f"expert_bias {shape}", *shape)
        plain = ops.get("expert_linear_bias").plain(x, ids, w, b)
        for parts in vectors.PARTS:
            call = ops.get("expert_linear_bias").bind(([ops.wrap(matrix) for matrix in w], b), {}, parts)
            vectors.assert_same(call(x, ids), plain, f"x {shape}, {parts} parts")
