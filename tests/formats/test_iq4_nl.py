"""iq4_nl: vectors against the oracle, mutants, products, row lengths that are refused."""

import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import iq4_nl as oracle

KILLS = {
    "every_code": ("even_steps",),
}


@quantised.cases("iq4_nl")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("iq4_nl", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("iq4_nl", [shape])


def test_stored_shape():
    assert formats.get("iq4_nl").stored_shapes(3, 64) == {".weight": (3, 36)}
    with pytest.raises(FormatError, match="iq4_nl: columns: expected a multiple of 32, found 48"):
        formats.get("iq4_nl").stored_shapes(3, 48)
