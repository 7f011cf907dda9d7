"""route_softmax_groups: vectors; the choice over random rows with ties."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import route_softmax_groups as oracle

KILLS = {
    "tie_made_by_rounding": ("chosen_by_logit",),
    "infinite_logits": ("infinite_is_finite",),
    "groups_by_best": ("two_best",),
}


@vectors.of("route_softmax_groups")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("route_softmax_groups", oracle, KILLS)
    vectors.check_clause("route_softmax_groups")


@pytest.mark.parametrize(("experts", "k", "groups", "open_groups"),
                         [(1, 1, 1, 1), (7, 3, 7, 4), (16, 8, 4, 2), (33, 2, 11, 1), (48, 5, 3, 2), (12, 12, 1, 1)])
def test_rows_full_of_ties(experts, k, groups, open_groups):
    """Few distinct logits: the oracle's rule and bits; one group and factor 1 is route_softmax_topk."""
    logits = np.round(vectors.normal(f"ties {experts}", 6, experts, scale=1.5))
    attrs = {"k": k, "groups": groups, "open_groups": open_groups, "factor": 16.0}
    ids, weights = ops.get("route_softmax_groups").plain(logits, **attrs)
    wanted = oracle.bits(logits, **attrs)
    vectors.assert_same(ids, wanted["ids"])
    vectors.assert_same(weights, wanted["weights"])
    for found, same in zip(ops.get("route_softmax_groups").plain(logits, k, 1, 1, 1.0),
                           ops.get("route_softmax_topk").plain(logits, k), strict=True):
        vectors.assert_same(found, same)
