"""q4_k: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import q4_k as oracle

KILLS = {
    "every_scale": ("minimum_added", "scale_and_minimum_exchanged", "scales_one_after_the_other",),
}


@quantised.cases("q4_k")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("q4_k", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("q4_k", [shape])


def test_stored_shape():
    assert formats.get("q4_k").stored_shapes(3, 512) == {".weight": (3, 288)}
    with pytest.raises(FormatError, match="q4_k: columns: expected a multiple of 256, found 272"):
        formats.get("q4_k").stored_shapes(3, 272)
