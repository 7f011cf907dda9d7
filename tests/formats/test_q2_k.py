"""q2_k: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import q2_k as oracle

KILLS = {
    "every_scale": ("minimum_added", "scale_and_minimum_exchanged",),
}


@quantised.cases("q2_k")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("q2_k", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("q2_k", [shape])


def test_stored_shape():
    assert formats.get("q2_k").stored_shapes(3, 512) == {".weight": (3, 168)}
    with pytest.raises(FormatError, match="q2_k: columns: expected a multiple of 256, found 272"):
        formats.get("q2_k").stored_shapes(3, 272)
