"""rms_norm: vectors; the sixteen-lane schedule equals the plain kernel."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import rms_norm as oracle

KILLS = {
    "eps_dominates": ("eps_outside_root", "no_eps"),
    "one_large": ("binary64",),
    "wide_row": ("scale_times_weight_first",),
    "padding_lane": ("padded_mean",),
    "subnormal_row": ("subnormals_flushed",),
    "special_values": ("nan_kept_to_one_element",),
}


@vectors.of("rms_norm")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("rms_norm", oracle, KILLS)
    vectors.check_clause("rms_norm")


@vectors.needs_jit
@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 31, 100, 513])
def test_fast_equals_plain(width):
    w = vectors.normal(f"rms_norm {width} w", width)
    for rows in (1, 2, 9):
        for scale in (1.0, 1e-24, 1e18, 1e-42):
            x = vectors.normal(f"rms_norm {width} {rows}", rows, width, scale=scale)
            plain = ops.get("rms_norm").plain(x, w, np.float32(1e-6))
            vectors.assert_same(ops.get("rms_norm").bind((w,), {"eps": 1e-6}, 1)(x), plain)
