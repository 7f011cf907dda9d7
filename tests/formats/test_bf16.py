"""bf16: vectors against ml_dtypes; the product of linear equals decode, then the plain kernel."""

import ml_dtypes
import numpy as np
import pytest

from refmoe import formats, golden, ops
from tests import products, vectors

CASES = [golden.load(path) for path in golden.cases(format="bf16")]


def oracle(codes):
    return codes.view(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_vector(case):
    for path in ("plain", "fast"):
        vectors.assert_same(golden.run(case, path)["decoded"], case.tensors["decoded"])
    vectors.assert_same(oracle(case.tensors["weight"]), case.tensors["decoded"])


def test_coverage():
    vectors.check_clause("bf16", format=True)


def test_stored_shape():
    assert formats.get("bf16").stored_shapes(3, 5) == {".weight": (3, 5)}


@vectors.needs_jit
@pytest.mark.parametrize(("rows", "n", "k"), products.SHAPES)
def test_product_equals_decode_then_plain(rows, n, k):
    weight = products.random_weight("bf16", n, k)
    x = vectors.normal(f"{rows} {k}", rows, k)
    plain = ops.get("linear").plain(x, oracle(weight.parts[".weight"].view(np.uint16)).reshape(n, k))
    for parts in (1, 3):
        vectors.assert_same(ops.get("linear").bind((weight,), {}, parts)(x), plain)


@vectors.needs_jit
@pytest.mark.parametrize("rows", [1, 9])
def test_product_with_every_kind_of_code(rows):
    """Any bits as weights, subnormals, inf and nan among them; unit vectors show each code on its own."""
    weight = products.any_weight("bf16", 40, 37)
    x = np.zeros((rows, 37), np.float32)
    x[np.arange(rows), np.arange(rows)] = 1.0
    plain = ops.get("linear").plain(x, formats.decode(weight))
    vectors.assert_same(ops.get("linear").bind((weight,), {}, 2)(x), plain)
