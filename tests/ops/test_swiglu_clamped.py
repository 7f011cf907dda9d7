"""swiglu_clamped: vectors; the sixteen-lane schedule equals the plain kernel for any size and share."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import swiglu_clamped as oracle

KILLS = {
    "both_signs": ("one_not_added", "alpha_one", "sigmoid_rounded_first"),
    "around_the_limit": ("gate_clamped_below", "up_clamped_above_only"),
    "other_alpha": ("alpha_fixed", "limit_fixed"),
    "special_values": ("nan_clamped",),
}


@vectors.of("swiglu_clamped")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("swiglu_clamped", oracle, KILLS)
    vectors.check_clause("swiglu_clamped")


@vectors.needs_jit
@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 1, 30), (1, 2, 32), (3, 1, 34), (2, 3, 62), (5, 2, 194)])
def test_fast_equals_plain(shape):
    x = vectors.normal(f"clamped {shape}", *shape, scale=9.0)
    for parts in (*vectors.PARTS, 16):
        found = ops.get("swiglu_clamped").bind((), {"limit": 7.0, "alpha": 1.702}, parts)(x)
        vectors.assert_same(found, ops.get("swiglu_clamped").plain(x, 7.0, 1.702))


@vectors.needs_jit
def test_fast_equals_plain_in_shares():
    """More results than one work item holds, a rest at the end."""
    x = vectors.normal("clamped wide", 3, 1, 2 * 4099, scale=5.0)
    for parts in vectors.PARTS:
        found = ops.get("swiglu_clamped").bind((), {"limit": 7.0, "alpha": 1.702}, parts)(x)
        vectors.assert_same(found, ops.get("swiglu_clamped").plain(x, 7.0, 1.702))


@vectors.needs_jit
def test_fast_equals_plain_near_every_limit():
    """Values around the limit and the ends of exp, subnormals, infinities, nan."""
    corners = np.array([7.0, 52.129, 51.313, 61.088, 103.97, 1e-45, 1e-38, 3e38, np.inf, 0.0], np.float32)
    near = np.concatenate([np.nextafter(corners, np.float32(side)) for side in (0, np.inf)])
    values = np.concatenate([corners, -corners, near, -near, [np.nan]]).astype(np.float32)
    x = np.stack(np.meshgrid(values, values), axis=-1).reshape(1, 1, -1)
    with np.errstate(all="ignore"):
        found = ops.get("swiglu_clamped").bind((), {"limit": 7.0, "alpha": 1.702}, 2)(x)
        vectors.assert_same(found, ops.get("swiglu_clamped").plain(x, 7.0, 1.702))
