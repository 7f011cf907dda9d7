"""add: vectors."""

from tests import vectors
from tests.oracles import add as oracle

KILLS = {
    "residual_first": ("residual_dropped", "residual_twice"),
    "special_values": ("subnormals_flushed",),
}


@vectors.of("add")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("add", oracle, KILLS)
    vectors.check_clause("add")
