"""q3_k: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import q3_k as oracle

KILLS = {
    "every_scale": ("scales_of_four_bits", "scales_one_after_the_other",),
}


@quantised.cases("q3_k")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("q3_k", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("q3_k", [shape])


def test_stored_shape():
    assert formats.get("q3_k").stored_shapes(3, 512) == {".weight": (3, 220)}
    with pytest.raises(FormatError, match="q3_k: columns: expected a multiple of 256, found 272"):
        formats.get("q3_k").stored_shapes(3, 272)
