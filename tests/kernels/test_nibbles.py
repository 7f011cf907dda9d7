"""Rows of nibbles with more groups than are taken together: whole chunks of sixteen, and the rest."""

import pytest

from tests import quantised, vectors


@vectors.needs_jit
@pytest.mark.parametrize("format", ["int_packed", "gptq", "awq", "mxfp4_blocks", "mxfp4_packed", "nvfp4_packed",
                                    "nvfp4_modelopt"])  # fmt: skip
def test_many_groups(format):
    quantised.check_products(format, [(6, 832), (3, 1344)])
