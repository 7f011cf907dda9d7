"""route_sigmoid_groups: vectors; the choice over random rows with ties."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import route_sigmoid_groups as oracle

KILLS = {
    "tie_made_by_rounding": ("not_rounded",),
    "infinite_values": ("infinite_is_finite",),
}


@vectors.of("route_sigmoid_groups")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("route_sigmoid_groups", oracle, KILLS)
    vectors.check_clause("route_sigmoid_groups")


@pytest.mark.parametrize(("experts", "k", "groups", "open_groups"),
                         [(1, 1, 1, 1), (7, 3, 7, 4), (16, 8, 4, 2), (33, 2, 11, 1), (48, 5, 3, 2), (12, 12, 1, 1)])
def test_rows_full_of_ties(experts, k, groups, open_groups):
    """Few distinct scores and biases, negative ones among them: the oracle's rule and bits."""
    logits = np.round(vectors.normal(f"ties {experts}", 6, experts, scale=1.5))
    bias = np.round(vectors.normal(f"bias {experts}", experts) - 1)
    attrs = {"k": k, "groups": groups, "open_groups": open_groups, "factor": 2.5}
    ids, weights = ops.get("route_sigmoid_groups").plain(logits, bias, **attrs)
    wanted = oracle.bits(logits, bias, **attrs)
    vectors.assert_same(ids, wanted["ids"])
    vectors.assert_same(weights, wanted["weights"])
    assert all(len(set(row)) == k for row in ids.tolist())
