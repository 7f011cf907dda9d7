"""int8_scaled: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from tests import quantised, vectors
from tests.oracles import int8_scaled as oracle

KILLS = {
    "channel_asymmetric": ("zeros_ignored", "bf16_product"),
    "groups": ("zeros_ignored", "transposed"),
    "blocks": ("transposed",),
}


@quantised.cases("int8_scaled")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("int8_scaled", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("int8_scaled", [shape])


def test_stored_shapes():
    shapes = formats.get("int8_scaled").stored_shapes
    assert shapes(6, 8, 1, 0, 1) == {".weight": (6, 8), ".weight_scale": [(6, 1), (6,)]}
    assert shapes(6, 8, 1, 4, 0)[".weight_zero_point"] == [(6, 2)]


def test_scales_must_be_finite():
    weight = quantised.weights("int8_scaled", 5, 20)[0]
    weight.parts[".weight_scale"].view(np.float32)[0] = -np.inf
    assert formats.check(weight) == (".weight_scale", "scale number 0: expected a finite number, found -inf")
