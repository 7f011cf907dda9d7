"""absorb_query: vectors."""

from tests import vectors
from tests.oracles import absorb_query as oracle

KILLS = {
    "lane_order": ("serial", "unfused"),
    "odd_sizes": ("tail_dropped",),
    "key_rows_only": ("value_rows", "keys_first"),
    "heads_have_their_own_rows": ("first_head", "keys_first"),
    "special_values": ("zeros_skipped",),
}


@vectors.of("absorb_query")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("absorb_query", oracle, KILLS)
    vectors.check_clause("absorb_query")
