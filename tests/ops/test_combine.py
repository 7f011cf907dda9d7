"""combine: vectors."""

from tests import vectors
from tests.oracles import combine as oracle

KILLS = {
    "rank_order_not_id_order": ("unfused",),
    "weights_applied_once": ("weights_twice", "mean"),
    "special_values": ("zero_weight_skipped",),
}


@vectors.of("combine")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("combine", oracle, KILLS)
    vectors.check_clause("combine")
