"""nvfp4_packed: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import nvfp4_packed as oracle

KILLS = {
    "every_pair": ("no_signs", "excess_8"),
    "every_scale": ("global_left_out", "scale_in_bf16", "one_rounding"),
}


@quantised.cases("nvfp4_packed")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("nvfp4_packed", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("nvfp4_packed", [shape])


def test_stored_shapes():
    shapes = formats.get("nvfp4_packed").stored_shapes
    assert shapes(6, 64) == {".weight_packed": (6, 32), ".weight_scale": (6, 4), ".weight_global_scale": [(1,), ()]}
    with pytest.raises(FormatError, match="40 columns, expected a multiple of 16"):
        shapes(2, 40)


@pytest.mark.parametrize("value", [0.0, -0.0, np.nan, np.inf])
def test_the_global_scale_must_divide(value):
    (weight,) = quantised.weights("nvfp4_packed", 5, 64)
    weight.parts[".weight_global_scale"] = quantised.raw(np.float32(value))
    assert formats.check(weight) == (".weight_global_scale",
                                     f"expected a finite number other than 0, found {np.float32(value)}")


def test_scales_must_be_numbers():
    (weight,) = quantised.weights("nvfp4_packed", 5, 64)
    weight.parts[".weight_scale"][1] = 0xFF
    assert formats.check(weight) == (".weight_scale", "scale number 1: expected a finite number, found nan")
