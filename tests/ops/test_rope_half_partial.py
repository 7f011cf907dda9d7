"""rope_half_partial: vectors; with the whole head turned it is rope_half."""

import numpy as np

from refmoe import ops
from refmoe.numerics import rope_tables
from tests import vectors
from tests.oracles import rope_half_partial as oracle

KILLS = {
    "pairs_in_the_turned_part": ("last_part_turned", "pairs_of_the_whole_head", "whole_head_turned",
                                 "frequencies_of_the_head", "rest_dropped"),
    "quarter": ("last_part_turned", "pairs_of_the_whole_head"),
    "amplitude_on_the_turned_part": ("rest_scaled",),
    "far_position": ("angle_in_binary64",),
    "special_values": ("nan_lost",),
}  # fmt: skip


@vectors.of("rope_half_partial")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("rope_half_partial", oracle, KILLS)
    vectors.check_clause("rope_half_partial")


def test_the_whole_head_is_rope_half():
    x, positions = vectors.normal("partial", 3, 60), np.array([0, 9, 4000])
    inv_freq = rope_tables.default(20, 10000.0)
    wanted = ops.get("rope_half").plain(x, positions, inv_freq, 1.25)
    vectors.assert_same(ops.get("rope_half_partial").plain(x, positions, inv_freq, 1.25, 20), wanted)
