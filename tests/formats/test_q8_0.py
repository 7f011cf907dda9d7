"""q8_0: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import q8_0 as oracle

KILLS: dict[str, tuple[str, ...]] = {}


@quantised.cases("q8_0")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("q8_0", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("q8_0", [shape])


def test_stored_shape():
    assert formats.get("q8_0").stored_shapes(3, 64) == {".weight": (3, 68)}
    with pytest.raises(FormatError, match="q8_0: columns: expected a multiple of 32, found 48"):
        formats.get("q8_0").stored_shapes(3, 48)
