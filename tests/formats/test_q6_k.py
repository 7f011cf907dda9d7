"""q6_k: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import q6_k as oracle

KILLS = {
    "every_scale": ("high_bits_in_order", "unsigned_scales",),
}


@quantised.cases("q6_k")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("q6_k", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("q6_k", [shape])


def test_stored_shape():
    assert formats.get("q6_k").stored_shapes(3, 512) == {".weight": (3, 420)}
    with pytest.raises(FormatError, match="q6_k: columns: expected a multiple of 256, found 272"):
        formats.get("q6_k").stored_shapes(3, 272)
