"""fp8_scaled: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from tests import quantised, vectors
from tests.oracles import fp8_scaled as oracle

KILLS = {
    "channel_bf16": ("channel_of_columns", "bf16_product"),
}


@quantised.cases("fp8_scaled")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("fp8_scaled", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("fp8_scaled", [shape])


def test_stored_shapes():
    shapes = formats.get("fp8_scaled").stored_shapes
    assert shapes(6, 8, 1, 0) == {".weight": (6, 8), ".weight_scale": [(6, 1), (6,)]}
    assert shapes(6, 8, 0, 0)[".weight_scale"] == [(1, 1), (), (1,)]
    assert shapes(6, 70, 1, 32)[".weight_scale"] == [(6, 3)]


def test_scales_must_be_finite():
    weight = next(w for w in quantised.weights("fp8_scaled", 5, 20) if w.params[".weight_scale"] == "U8")
    assert formats.check(weight) is None
    weight.parts[".weight_scale"][2] = 255
    assert formats.check(weight) == (".weight_scale", "scale number 2: expected a finite number, found nan")
    assert np.isnan(formats.decode(weight)).any()
