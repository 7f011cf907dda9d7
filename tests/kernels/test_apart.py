"""kernels.apart against the same quantities in NumPy, over numbers of every kind."""

import numpy as np
import pytest

from refmoe.kernels.apart import FLOOR, apart


def order(values):
    """Integers in the order of binary32 values."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def arrays(seed):
    rng = np.random.default_rng(seed)
    y = (rng.normal(size=(5, 33)) * 10.0 ** rng.integers(-3, 3, (5, 33))).astype(np.float32)
    steps = rng.integers(-3, 3, y.shape) * rng.integers(0, 2, y.shape) << rng.integers(0, 20, y.shape)
    x = (y.view(np.int32) + steps.astype(np.int32)).view(np.float32)
    odd = rng.choice(np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42]), (2, *y.shape))
    x, y = (np.where(rng.random(y.shape) < 0.1, o, a).astype(np.float32) for o, a in zip(odd, (x, y), strict=True))
    x[0], y[1] = y[0], 0.0
    return x, y


@pytest.mark.parametrize("seed", range(8))
def test_against_numpy(seed):
    x, y = arrays(seed)
    found = apart(x, y)
    same = (x.view(np.int32) == y.view(np.int32)) | (np.isnan(x) & np.isnan(y))
    both = np.isfinite(x) & np.isfinite(y)
    classes = np.searchsorted([0, 1, 3, 15, 255, 65535], abs(order(x) - order(y)))
    classes = np.where(same, 0, np.where(both, classes, 7))
    assert found.equal == same.all() and found.counts.tolist() == np.bincount(classes.ravel(), minlength=8).tolist()
    with np.errstate(all="ignore"):
        difference = np.where(same, 0.0, np.where(both, abs(x.astype(float) - y), np.inf))
        scale = np.where(np.isfinite(y), abs(y), 0).max(axis=1)
        share = difference / np.maximum(np.where(np.isfinite(y), abs(y), np.inf), FLOOR * scale[:, None].astype(float))
    share = np.where(difference == 0, 0.0, np.where(both, share, np.inf))
    assert np.array_equal(found.largest, difference.max(axis=1)) and np.array_equal(found.scale, scale)
    assert np.array_equal(found.rows, share.max(axis=1)) and np.array_equal(found.cols, share.max(axis=0))


def test_in_two_threads():
    x, y = (np.tile(array, (1601, 1)) for array in arrays(3))
    found, one = apart(x, y), apart(x[:5], y[:5])
    assert found.counts.tolist() == (1601 * one.counts).tolist() and np.array_equal(found.cols, one.cols)
    assert np.array_equal(found.rows, np.tile(one.rows, 1601)) and np.array_equal(found.scale, np.tile(one.scale, 1601))


def test_equal_and_empty():
    x = np.float32([[1.0, np.nan], [-0.0, np.inf]])
    assert apart(x, x.copy()).equal and apart(x, x).counts.tolist() == [4, 0, 0, 0, 0, 0, 0, 0]
    assert not apart(x, np.abs(x)).equal  # the sign of zero
    assert apart(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).equal
