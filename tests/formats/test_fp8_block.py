"""fp8_block: vectors against the oracle, mutants, products, shapes, numbers that are refused."""

import numpy as np
import pytest

from refmoe import formats
from tests import quantised, vectors
from tests.oracles import fp8_block as oracle

KILLS = {
    "every_code": ("ieee",),
    "partial_blocks": ("whole_blocks", "bf16_product"),
    "bf16_scales": ("bf16_product", "whole_blocks"),
}


@quantised.cases("fp8_block")
def test_vector(case):
    quantised.check(case, oracle, KILLS)


def test_coverage():
    quantised.check_all_hunted("fp8_block", oracle, KILLS)


@vectors.needs_jit
@pytest.mark.parametrize("shape", quantised.SHAPES)
def test_products(shape):
    quantised.check_products("fp8_block", [shape])


@vectors.needs_jit
def test_products_with_a_scale_of_which_256_times_is_inf():
    """The fast stream folds 256 into the scales, where that is a finite number."""
    for top in (119.5, 120.0, 127.5):
        weight = next(w for w in quantised.weights("fp8_block", 35, 64) if w.params["block_rows"] == 128)
        weight.parts[".weight_scale_inv"][:] = quantised.raw(np.array([2.0**top], np.float32))
        weight.parts[".weight"][::3] = 1  # the least code, a subnormal
        quantised._check_product(weight, rows=(1, 9))


def test_stored_shapes():
    shapes = formats.get("fp8_block").stored_shapes
    assert shapes(576, 7168, 128, 128) == {".weight": (576, 7168), ".weight_scale_inv": (5, 56)}
    assert shapes(3, 4, 0, 0)[".weight_scale_inv"] == [(), (1,), (1, 1)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_scales_must_be_finite(value, dtype):
    weight = next(w for w in quantised.weights("fp8_block", 5, 20) if w.params[".weight_scale_inv"] == dtype)
    assert formats.check(weight) is None
    scales = weight.parts[".weight_scale_inv"].view({"F32": np.float32, "F16": np.float16}.get(dtype, np.uint16))
    scales[-1] = value if dtype != "BF16" else np.float32(value).view(np.uint32) >> 16
    assert formats.check(weight) == (".weight_scale_inv",
                                     f"scale number {scales.size - 1}: expected a finite number, found {value}")
