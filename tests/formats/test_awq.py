"""awq: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import awq as oracle

KILLS = {
    "groups": ("zeros_ignored", "f16_product"),
}


@quantised.cases("awq")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("awq", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("awq", [shape])


def test_stored_shapes():
    shapes = formats.get("awq").stored_shapes
    assert shapes(14336, 4096, 128) == {".qweight": (4096, 1792), ".qzeros": (32, 1792), ".scales": (32, 14336)}
    assert shapes(8, 19, 0) == {".qweight": (19, 1), ".qzeros": (1, 1), ".scales": (1, 8)}
    for rows, cols in ((12, 128), (16, 130)):
        with pytest.raises(FormatError, match=f"{rows} rows and {cols} columns, expected multiples of 8 and"):
            shapes(rows, cols, 128)


def test_scales_must_be_finite():
    weight = quantised.weights("awq", 8, 64)[0]
    weight.parts[".scales"].view(np.float16)[3] = np.nan
    assert formats.check(weight) == (".scales", "scale number 3: expected a finite number, found nan")
