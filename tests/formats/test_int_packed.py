"""int_packed: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from refmoe.errors import FormatError
from tests import quantised, vectors
from tests.oracles import int_packed as oracle

KILLS = {
    "asymmetric_groups": ("zeros_along_rows", "zeros_ignored", "bf16_product"),
    "group_index": ("group_index_ignored", "f16_product"),
}


@quantised.cases("int_packed")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("int_packed", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("int_packed", [shape])


def test_stored_shapes():
    shapes = formats.get("int_packed").stored_shapes
    found = shapes(2048, 7168, 4, 32, 1)  # an expert of Kimi-K2-Thinking
    assert (found[".weight_packed"], found[".weight_scale"]) == ((2048, 896), (2048, 224))
    assert shapes(9, 35, 3, 7, 0)[".weight_packed"] == (9, 4)
    assert shapes(9, 35, 3, 7, 0)[".weight_zero_point"] == (1, 5)
    with pytest.raises(FormatError, match="33 columns, expected a multiple of the group size 32"):
        shapes(2, 33, 4, 32, 1)


@pytest.mark.parametrize(("suffix", "values", "problem"), [
    (".weight_shape", np.array([5, 65], np.int32), "expected [5, 64], found [5, 65]"),
    (".weight_shape", np.array([64, 5], np.int32), "expected [5, 64], found [64, 5]"),
    (".weight_g_idx", np.array([0] * 63 + [8], np.int32), "expected groups 0 to 7, found 0 to 8"),
    (".weight_g_idx", np.array([0] * 63 + [-1], np.int32), "expected groups 0 to 7, found -1 to 0"),
    (".weight_scale", np.array([0x3F80] * 39 + [0x7FC0], np.uint16),
     "scale number 39: expected a finite number, found nan"),
])  # fmt: skip
def test_bad_numbers_are_named(suffix, values, problem):
    weight = quantised.weights("int_packed", 5, 64)[5]
    assert weight.params["group"] == 8 and formats.check(weight) is None
    weight.parts[suffix] = quantised.raw(values)
    assert formats.check(weight) == (suffix, problem)
