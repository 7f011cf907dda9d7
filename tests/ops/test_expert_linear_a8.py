"""expert_linear_a8: vectors; grouping by expert changes no bit; experts of several formats."""

import numpy as np
import pytest

from refmoe import formats, ops
from tests import quantised, vectors
from tests.oracles import expert_linear_a8 as oracle

KILLS = {
    "permuted_experts": ("scales_of_next", "minima_of_next"),
    "row_per_choice": ("first_row_for_all",),
    "minima": ("no_minima",),
    "idle_experts": ("serial_after_first",),
    "several_units": ("eight_lanes",),
    "units_of_16": ("halves_exchanged",),
}


@vectors.of("expert_linear_a8")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("expert_linear_a8", oracle, KILLS)
    vectors.check_clause("expert_linear_a8")


@pytest.mark.parametrize(("rows", "k"), [(1, 2), (9, 3), (33, 2)])
def test_one_by_one(rows, k):
    """Experts with codes, without, and in several settings: each choice as linear_a8 gives it, both signatures."""
    experts = [weight for weight in quantised.weights("int8_scaled", 35, 64) if formats.codes(weight)][:4]
    experts += [ops.wrap(vectors.normal("expert", 35, 64))]
    ids = np.array([np.random.default_rng(row).permutation(len(experts))[:k] for row in range(rows)])
    alone = [ops.get("linear_a8").bind((weight,), {}, 1) for weight in experts]
    for shape in ((rows, 64), (rows, k, 64)):
        x = vectors.normal(f"expert_linear_a8 {shape}", *shape)
        for parts in vectors.PARTS[:3]:
            y = ops.get("expert_linear_a8").bind((experts,), {}, parts)(x, ids)
            for t, j in np.ndindex(ids.shape):
                row = x[t] if x.ndim == 2 else x[t, j]
                vectors.assert_same(y[t, j], alone[ids[t, j]](row[None])[0], f"token {t}, choice {j}")
