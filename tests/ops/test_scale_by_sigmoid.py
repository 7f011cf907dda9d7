"""scale_by_sigmoid: vectors."""

from tests import vectors
from tests.oracles import scale_by_sigmoid as oracle

KILLS = {
    "both_signs": ("sigmoid_missing", "silu_for_sigmoid", "one_rounding_less"),
    "gates_differ_by_row": ("first_gate_for_all",),
    "saturation": ("exp_overflows_to_nan",),
    "special_values": ("closed_gate_hides_nan",),
}


@vectors.of("scale_by_sigmoid")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("scale_by_sigmoid", oracle, KILLS)
    vectors.check_clause("scale_by_sigmoid")
