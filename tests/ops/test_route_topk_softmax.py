"""route_topk_softmax: vectors; the choice over random rows with ties."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import route_topk_softmax as oracle

KILLS = {
    "experts_32_choose_4": ("softmax_first", "ascending_ids"),
    "sum_in_rank_order": ("sum_from_the_smallest",),
    "large_logits": ("no_maximum",),
    "infinite_logits": ("infinite_is_finite",),
}


@vectors.of("route_topk_softmax")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("route_topk_softmax", oracle, KILLS)
    vectors.check_clause("route_topk_softmax")


@pytest.mark.parametrize(("experts", "k"), [(1, 1), (7, 3), (16, 16), (33, 2)])
def test_rows_full_of_ties(experts, k):
    """Few distinct logits, as bfloat16 makes them, some of them nan: the oracle's rule and bits."""
    logits = np.round(vectors.normal(f"ties {experts}", 6, experts, scale=1.5))
    logits[3, : experts // 2] = np.nan
    ids, weights = ops.get("route_topk_softmax").plain(logits, k)
    wanted = oracle.bits(logits, k)
    vectors.assert_same(ids, wanted["ids"])
    vectors.assert_same(weights, wanted["weights"])
    assert all(len(set(row)) == k for row in ids.tolist())
