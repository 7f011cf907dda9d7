"""gptq: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from tests import quantised, vectors
from tests.oracles import gptq as oracle

KILLS = {
    "act_order": ("group_index_ignored", "zeros_ignored", "f16_product"),
    "distinct_nibbles": ("zeros_ignored",),
    "zero_wraps": ("carry_into_neighbour",),
}


@quantised.cases("gptq")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("gptq", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", [*quantised.SHAPES, (40, 96)])  # columns in an order, over 16 rows and the rest
def test_products(shape):
    quantised.check_products("gptq", [shape])


def test_stored_shapes():
    shapes = formats.get("gptq").stored_shapes
    found = shapes(768, 2048, 4, 128, 1, 0, 1)  # an expert of Qwen3-30B-A3B-GPTQ-Int4
    assert found == {".qweight": (256, 768), ".qzeros": (16, 96), ".scales": (16, 768), ".g_idx": [None, (2048,)]}
    assert shapes(768, 2048, 8, 0, 0, 1, 0) == {
        ".qweight": (512, 768), ".qzeros": (1, 192), ".scales": (1, 768), ".g_idx": (2048,)}  # fmt: skip
    assert shapes(13, 21, 4, 8, 1, 0, 1) == {
        ".qweight": (3, 13), ".qzeros": (3, 2), ".scales": (3, 13), ".g_idx": [None, (21,)]}  # fmt: skip


@pytest.mark.parametrize(("suffix", "values", "problem"), [
    (".g_idx", np.array([0] * 63 + [8], np.int32), "expected groups 0 to 7, found 0 to 8"),
    (".g_idx", np.array([-1] + [0] * 63, np.int32), "expected groups 0 to 7, found -1 to 0"),
    (".scales", np.array([0x3F80] * 63 + [0xFF80], np.uint16), "scale number 63: expected a finite number, found -inf"),
])
def test_bad_numbers_are_named(suffix, values, problem):
    weight = quantised.weights("gptq", 8, 64)[2]
    assert weight.params["group"] == 8 and formats.check(weight) is None
    weight.parts[suffix] = quantised.raw(values)
    assert formats.check(weight) == (suffix, problem)
