"""iq4_xs: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import iq4_xs as oracle

KILLS = {
    "every_scale": ("scales_of_four_bits", "upper_bits_by_nibble",),
}


@quantised.cases("iq4_xs")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("iq4_xs", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("iq4_xs", [shape])


def test_stored_shape():
    assert formats.get("iq4_xs").stored_shapes(3, 512) == {".weight": (3, 272)}
    with pytest.raises(FormatError, match="iq4_xs: columns: expected a multiple of 256, found 272"):
        formats.get("iq4_xs").stored_shapes(3, 272)
