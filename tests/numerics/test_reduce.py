"""reduce: lanes, padding and tree against rational arithmetic, and against orders that are not ours."""

import numpy as np
import pytest

from refmoe.numerics import reduce
from tests import vectors
from tests.oracles import arithmetic


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 32, 33, 100])
def test_dot(size):
    for seed, scale in enumerate((1.0, 1e-20, 1e19)):
        a, b = (vectors.normal(f"dot {size} {seed} {side}", size, scale=scale) for side in "ab")
        with np.errstate(all="ignore"):
            vectors.assert_same(np.array([reduce.dot(a, b)], np.float32), np.array([arithmetic.dot(a, b)]))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 100])
def test_lane_sum(size):
    a = vectors.normal(f"sum {size}", size)
    vectors.assert_same(np.array([reduce.lane_sum(a)], np.float32), np.array([arithmetic.lane_sum(a)]))


def test_tree_halves():
    """Lane 0 meets lane 8 first: only then do the large values cancel before the small one is added."""
    lanes = np.zeros(16, np.float32)
    lanes[[0, 8, 1]] = 1e8, -1e8, 1.0
    assert reduce.tree(lanes.copy()) == 1.0
    lanes = np.zeros(16, np.float32)
    lanes[[0, 1, 8]] = 1e8, -1e8, 1.0
    assert reduce.tree(lanes.copy()) == 0.0


def test_each_lane_takes_its_own_elements():
    a = np.zeros(48, np.float32)
    a[[0, 16, 32]] = 1e8, 1.0, -1e8  # one lane, in ascending order: the 1 is lost
    assert reduce.dot(a, np.ones(48, np.float32)) == 0.0
    a = np.zeros(48, np.float32)
    a[[0, 32, 17]] = 1e8, -1e8, 1.0  # the 1 lies in another lane
    assert reduce.dot(a, np.ones(48, np.float32)) == 1.0


def test_sums_of_zeros():
    """-0 survives only where every lane holds it, so never with padding."""
    minus, tiny = np.full(16, -1e-30, np.float32), np.full(16, 1e-30, np.float32)
    assert np.signbit(reduce.dot(minus, tiny))
    assert not np.signbit(reduce.dot(minus[:15], tiny[:15]))
    assert not np.signbit(reduce.lane_sum(np.full(16, -0.0, np.float32)))


def test_nothing_is_skipped():
    a, b = np.zeros(20, np.float32), np.ones(20, np.float32)
    b[19] = np.inf
    with np.errstate(all="ignore"):
        assert np.isnan(reduce.dot(a, b))
        assert reduce.lane_sum(b) == np.inf
