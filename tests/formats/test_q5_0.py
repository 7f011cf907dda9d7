"""q5_0: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import q5_0 as oracle

KILLS = {
    "every_code": ("fifth_bits_by_nibble",),
}


@quantised.cases("q5_0")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("q5_0", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("q5_0", [shape])


def test_stored_shape():
    assert formats.get("q5_0").stored_shapes(3, 64) == {".weight": (3, 44)}
    with pytest.raises(FormatError, match="q5_0: columns: expected a multiple of 32, found 48"):
        formats.get("q5_0").stored_shapes(3, 48)
