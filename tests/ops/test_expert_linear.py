"""expert_linear: vectors; grouping by expert changes no bit."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import expert_linear as oracle

KILLS = {
    "permuted_experts": ("first_token_chooses",),
    "repeated_expert": ("one_row_per_expert",),
    "row_per_choice": ("first_row_for_all",),
}


@vectors.of("expert_linear")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("expert_linear", oracle, KILLS)
    vectors.check_clause("expert_linear")


@vectors.needs_jit
@pytest.mark.parametrize(("rows", "k", "experts"), [(1, 2, 8), (2, 1, 1), (9, 3, 4), (33, 2, 5), (40, 4, 4)])
@pytest.mark.parametrize("width", [16, 37])
def test_fast_equals_plain(rows, k, experts, width):
    """Few and many rows per expert, idle experts, both signatures."""
    w = vectors.normal(f"expert_linear {experts} {width}", experts, 35, width)
    rng = np.random.default_rng(rows)
    skewed = np.array([rng.permutation(experts)[:k] for _ in range(rows)])
    skewed[: rows // 2] = np.arange(k)
    for ids in (skewed, np.array([rng.permutation(experts)[:k] for _ in range(rows)])):
        for shape in ((rows, width), (rows, k, width)):
            x = vectors.normal(f"expert_linear {shape}", *shape)
            plain = ops.get("expert_linear").plain(x, ids, w)
            for parts in vectors.PARTS:
                call = ops.get("expert_linear").bind(([ops.wrap(matrix) for matrix in w],), {}, parts)
                vectors.assert_same(call(x, ids), plain, f"x {shape}, {parts} parts")


@vectors.needs_jit
def test_choices_are_sorted_by_expert_and_keep_their_order():
    from refmoe.kernels.grouped import by_expert

    ids = np.array([3, 0, 3, 2, 0, 3])
    starts, choice, row = by_expert(ids, 5, 2)
    assert starts.tolist() == [0, 2, 2, 3, 6, 6]
    assert choice.tolist() == [1, 4, 3, 0, 2, 5]
    assert row.tolist() == [0, 2, 1, 0, 1, 2]


def test_several_matrices_in_one_launch():
    """gate and up: as one by one."""
    ws = [vectors.normal(f"several {n}", 3, n, 20) for n in (5, 34)]
    for rows in (1, 9):
        x, ids = vectors.normal(f"several x {rows}", rows, 20), np.array([[2, 0], [0, 1], [2, 1]] * 3)[:rows]
        for parts in (1, 3):
            found = ops.get("expert_linear").bind_many([([ops.wrap(m) for m in w],) for w in ws], parts)(x, ids)
            for y, w in zip(found, ws, strict=True):
                vectors.assert_same(y, ops.get("expert_linear").plain(x, ids, w))
