"""route_softmax_topk: vectors; the choice over random rows with ties."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import route_softmax_topk as oracle

KILLS = {
    "tie_made_by_rounding": ("chosen_by_logit",),
    "large_logits": ("no_maximum",),
    "infinite_logits": ("infinite_is_finite",),
}


@vectors.of("route_softmax_topk")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("route_softmax_topk", oracle, KILLS)
    vectors.check_clause("route_softmax_topk")


@pytest.mark.parametrize(("experts", "k"), [(1, 1), (7, 3), (16, 16), (33, 2)])
def test_rows_full_of_ties(experts, k):
    """Few distinct logits, as bfloat16 makes them: the oracle's rule and bits."""
    logits = np.round(vectors.normal(f"ties {experts}", 6, experts, scale=1.5))
    ids, weights = ops.get("route_softmax_topk").plain(logits, k)
    wanted = oracle.bits(logits, k)
    vectors.assert_same(ids, wanted["ids"])
    vectors.assert_same(weights, wanted["weights"])
    assert all(len(set(row)) == k for row in ids.tolist())
