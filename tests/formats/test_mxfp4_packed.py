"""mxfp4_packed: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import mxfp4_packed as oracle

KILLS = {
    "every_pair": ("no_signs", "excess_8"),
    "every_scale": ("scale_zero_is_zero", "signed_exponent"),
}


@quantised.cases("mxfp4_packed")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("mxfp4_packed", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("mxfp4_packed", [shape])


def test_stored_shapes():
    shapes = formats.get("mxfp4_packed").stored_shapes
    assert shapes(6, 64) == {".weight_packed": (6, 32), ".weight_scale": (6, 2)}
    with pytest.raises(FormatError, match="48 columns, expected a multiple of 32"):
        shapes(2, 48)


def test_scales_must_be_numbers():
    (weight,) = quantised.weights("mxfp4_packed", 5, 64)
    weight.parts[".weight_scale"][7] = 255
    assert formats.check(weight) == (".weight_scale", "scale number 7: expected a finite number, found nan")
