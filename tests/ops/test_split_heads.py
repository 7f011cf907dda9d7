"""split_heads: vectors."""

from tests import vectors
from tests.oracles import split_heads as oracle

KILLS = {
    "several_heads": ("two_halves", "exchanged"),
    "one_head": ("exchanged",),
    "special_values": ("computed",),
}


@vectors.of("split_heads")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("split_heads", oracle, KILLS)
    vectors.check_clause("split_heads")
