"""mxfp4_halves: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import mxfp4_halves as oracle

KILLS = {
    "every_exponent": ("zero_exponent_is_zero",),
}


@quantised.cases("mxfp4_halves")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("mxfp4_halves", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("mxfp4_halves", [shape])


def test_stored_shape():
    assert formats.get("mxfp4_halves").stored_shapes(3, 64) == {".weight": (3, 34)}
    with pytest.raises(FormatError, match="mxfp4_halves: columns: expected a multiple of 32, found 48"):
        formats.get("mxfp4_halves").stored_shapes(3, 48)
