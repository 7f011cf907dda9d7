"""expand_value: vectors."""

from tests import vectors
from tests.oracles import expand_value as oracle

KILLS = {
    "lane_order": ("serial", "unfused"),
    "odd_sizes": ("tail_dropped",),
    "value_rows_only": ("key_rows", "keys_first"),
    "heads_have_their_own_rows": ("first_head", "keys_first"),
    "special_values": ("zeros_skipped",),
}


@vectors.of("expand_value")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("expand_value", oracle, KILLS)
    vectors.check_clause("expand_value")
