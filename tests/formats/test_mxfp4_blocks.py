"""mxfp4_blocks: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import mxfp4_blocks as oracle

KILLS = {
    "every_pair": ("no_signs", "excess_8"),
    "every_scale": ("scale_zero_is_zero", "signed_exponent"),
}


@quantised.cases("mxfp4_blocks")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("mxfp4_blocks", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("mxfp4_blocks", [shape])


def test_stored_shapes():
    shapes = formats.get("mxfp4_blocks").stored_shapes
    assert shapes(5760, 2880) == {"_blocks": (5760, 90, 16), "_scales": (5760, 90)}  # an expert of gpt-oss-20b
    with pytest.raises(FormatError, match="48 columns, expected a multiple of 32"):
        shapes(2, 48)


def test_scales_must_be_numbers():
    (weight,) = quantised.weights("mxfp4_blocks", 5, 64)
    weight.parts["_scales"][7] = 255
    assert formats.check(weight) == ("_scales", "scale number 7: expected a finite number, found nan")
    assert np.isnan(formats.decode(weight)).sum() == 32
