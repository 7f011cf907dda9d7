"""head_norm: vectors; the schedule equals the plain kernel, and rms_norm on heads cut apart."""

import numpy as np
import pytest

from refmoe import ops
from tests import vectors
from tests.oracles import head_norm as oracle

KILLS = {
    "eps_dominates": ("eps_outside_root",),
    "odd_width": ("padded_mean",),
}


@vectors.of("head_norm")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("head_norm", oracle, KILLS)
    vectors.check_clause("head_norm")


@pytest.mark.parametrize(("heads", "size"), [(1, 4), (3, 16), (7, 20), (2, 50)])
def test_equals_rms_norm_of_each_head(heads, size):
    x, w = vectors.normal(f"head_norm {heads} {size}", 3, heads * size), vectors.normal(f"head_norm {size}", size)
    eps = np.float32(1e-5)
    plain = ops.get("head_norm").plain(x, w, eps)
    vectors.assert_same(ops.get("head_norm").bind((w,), {"eps": eps}, 2)(x), plain)
    vectors.assert_same(ops.get("rms_norm").plain(x.reshape(-1, size), w, eps).reshape(x.shape), plain)
