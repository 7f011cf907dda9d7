"""q5_k: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import q5_k as oracle

KILLS = {
    "every_scale": ("fifth_bits_in_order", "minimum_added", "scale_and_minimum_exchanged",),
}


@quantised.cases("q5_k")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("q5_k", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("q5_k", [shape])


def test_stored_shape():
    assert formats.get("q5_k").stored_shapes(3, 512) == {".weight": (3, 352)}
    with pytest.raises(FormatError, match="q5_k: columns: expected a multiple of 256, found 272"):
        formats.get("q5_k").stored_shapes(3, 272)
