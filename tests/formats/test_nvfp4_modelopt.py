"""nvfp4_modelopt: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import nvfp4_modelopt as oracle

KILLS = {
    "every_pair": ("no_signs", "excess_8"),
    "every_scale": ("global_left_out", "scale_in_bf16", "one_rounding"),
}


@quantised.cases("nvfp4_modelopt")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("nvfp4_modelopt", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("nvfp4_modelopt", [shape])


def test_stored_shapes():
    shapes = formats.get("nvfp4_modelopt").stored_shapes
    assert shapes(6, 64) == {".weight": (6, 32), ".weight_scale": (6, 4), ".weight_scale_2": [(), (1,)]}
    with pytest.raises(FormatError, match="40 columns, expected a multiple of 16"):
        shapes(2, 40)


def test_scales_must_be_numbers():
    (weight,) = quantised.weights("nvfp4_modelopt", 5, 64)
    weight.parts[".weight_scale_2"] = quantised.raw(np.float32(np.inf))
    assert formats.check(weight) == (".weight_scale_2", "scale number 0: expected a finite number, found inf")
    weight.parts[".weight_scale"][1] = 0x7F
    assert formats.check(weight) == (".weight_scale", "scale number 1: expected a finite number, found nan")
