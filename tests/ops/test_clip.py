"""clip: vectors."""

from tests import vectors
from tests.oracles import clip as oracle

KILLS = {
    "both_sides": ("not_clipped", "only_from_above", "row_scaled", "limit_squared"),
    "special_values": ("nan_clipped",),
}


@vectors.of("clip")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("clip", oracle, KILLS)
    vectors.check_clause("clip")
