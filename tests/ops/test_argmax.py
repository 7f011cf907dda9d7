"""argmax: vectors."""

from tests import vectors
from tests.oracles import argmax as oracle

KILLS = {
    "tie_lowest_id": ("higher_id",),
    "nan_never_wins": ("nan_wins",),
    "negative_zero": ("plus_zero_above_minus_zero",),
    "all_negative": ("maximum_starts_at_zero",),
}


@vectors.of("argmax")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("argmax", oracle, KILLS)
    vectors.check_clause("argmax")
