"""rope_half: vectors; the rotation at the ends of its range."""

import numpy as np

from refmoe import ops
from refmoe.engine import POSITION_LIMIT
from refmoe.numerics import rope_tables
from tests import vectors
from tests.oracles import rope_half as oracle

KILLS = {
    "position_zero_is_identity": ("one_based",),
    "far_position": ("angle_in_binary64", "position_in_bf16"),
    "amplitude": ("no_amplitude",),
    "yarn_hard_step": ("ramp_not_a_step",),
    "yarn_without_truncation": ("ramp_of_whole_pairs", "no_amplitude"),
    "last_positions_of_a_million": ("angle_in_binary64", "position_in_bf16"),
}


@vectors.of("rope_half")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("rope_half", oracle, KILLS)
    vectors.check_clause("rope_half")


def test_position_zero_returns_x():
    x = vectors.normal("rope", 1, 40)
    inv_freq = rope_tables.default(20, 10000.0)
    vectors.assert_same(ops.get("rope_half").plain(x, np.zeros(1, np.int64), inv_freq, np.float32(1)), x)


def test_every_allowed_position_gives_a_number():
    positions = np.array([POSITION_LIMIT - 1, POSITION_LIMIT - 2, 1 << 21])
    y = ops.get("rope_half").plain(np.ones((3, 2), np.float32), positions, np.ones(1, np.float32), np.float32(1))
    assert np.isfinite(y).all() and (np.abs(y) <= 2**0.5 + 1e-6).all()
