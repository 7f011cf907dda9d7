"""swiglu: vectors; the sixteen-lane schedule equals the plain kernel for any size and share."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import swiglu as oracle

KILLS = {
    "both_signs": ("gelu", "silu_of_product", "sigmoid_rounded_first"),
    "saturation": ("exp_overflows_to_nan",),
    "special_values": ("nan_to_zero",),
}


@vectors.of("swiglu")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("swiglu", oracle, KILLS)
    vectors.check_clause("swiglu")


@vectors.needs_jit
@pytest.mark.parametrize("shape", [(1, 1), (1, 15), (1, 16), (3, 17), (2, 3, 31), (5, 97)])
def test_fast_equals_plain(shape):
    gate, up = (vectors.normal(f"swiglu {shape} {name}", *shape, scale=20.0) for name in ("gate", "up"))
    for parts in (*vectors.PARTS, 16):
        vectors.assert_same(ops.get("swiglu").bind((), {}, parts)(gate, up), ops.get("swiglu").plain(gate, up))


@vectors.needs_jit
def test_fast_equals_plain_near_every_limit():
    """Gates around the ends of exp, subnormals, infinities, nan."""
    corners = np.array([88.72283, 88.72284, 87.33654, 103.97208, 104.0, 89.0, 1e-45, 1e-38, 3e38, np.inf], np.float32)
    near = np.concatenate([np.nextafter(corners, np.float32(side)) for side in (0, np.inf)])
    gate = np.concatenate([corners, -corners, near, -near, [np.nan, 0.0, -0.0]]).astype(np.float32)
    for value in (1.0, -0.0, np.inf, np.nan, 1e-45):
        up = np.full_like(gate, value)
        with np.errstate(all="ignore"):
            vectors.assert_same(ops.get("swiglu").bind((), {}, 2)(gate, up), ops.get("swiglu").plain(gate, up))
