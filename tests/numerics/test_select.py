"""select: softmax and choice of the routing ops against sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmoe.numerics.select import choose, softmax_row
from tests import vectors
from tests.oracles.route_softmax_topk import best, probabilities

VALUES = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, float("nan")])


def chosen(p, k):
    ids = np.empty(k, np.int64)
    choose(p, ids)
    return ids.tolist()


@given(st.lists(VALUES, min_size=1, max_size=20), st.data())
@settings(max_examples=150, deadline=None)
def test_choice_of_rows_without_or_of_nothing_but_nan(values, data):
    """A softmax row holds a nan everywhere or nowhere."""
    p = np.array(values, np.float32)
    if np.isnan(p).any():
        p[:] = np.nan
    k = data.draw(st.integers(1, len(values)))
    assert chosen(p, k) == best(p, k)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 60])
def test_softmax(size):
    for scale in (0.1, 3.0, 80.0):
        row, p = vectors.normal(f"softmax {size} {scale}", size, scale=scale), np.empty(size, np.float32)
        softmax_row(row, p)
        vectors.assert_same(p, probabilities(row))


def test_softmax_of_special_rows():
    inf, nan, p = np.inf, np.nan, np.empty(3, np.float32)
    with np.errstate(all="ignore"):
        for row, want in (([0.0, -inf, 0.0], [0.5, 0.0, 0.5]), ([7.0, 7.0, -200.0], [0.5, 0.5, 0.0]),
                          ([inf, 0.0, 1.0], [nan] * 3), ([nan, 5.0, 1.0], [nan] * 3), ([-inf] * 3, [nan] * 3),
                          ([nan] * 3, [nan] * 3)):
            softmax_row(np.array(row, np.float32), p)
            vectors.assert_same(p, np.array(want, np.float32))
