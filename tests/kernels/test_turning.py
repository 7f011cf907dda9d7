"""GPTQ and AWQ in rows: the same matrix, the same codes, in as many bytes."""

import numpy as np
import pytest

from refmoe import formats
from refmoe.weight import Weight
from tests import quantised, vectors

# Whole and partial words, tiles, groups of 32 and of 128, rows beyond a tile
SHAPES = [(8, 32), (24, 96), (136, 256), (40, 72), (16, 130)]


@vectors.needs_jit
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", ["gptq", "awq"])
def test_same_matrix(format, shape):
    turned = 0
    for weight in quantised.weights(format, *shape):
        decoded, codes, size = formats.decode(weight), formats.codes(weight), weight.nbytes
        before = {suffix: part.copy() for suffix, part in weight.parts.items()}
        new = formats.in_rows(weight)
        assert all((weight.parts[suffix] == part).all() for suffix, part in before.items()), "the parts are untouched"
        assert (new.format == "int_packed") == (codes is not None)
        if new is weight:
            continue
        turned += 1
        copy = Weight(format, weight.rows, weight.cols, before, weight.params)
        moved = formats.in_rows(copy, in_place=True)
        assert all(any(part is old for old in before.values()) for part in moved.parts.values()), "no new memory"
        for found in (new, moved):
            assert found.nbytes <= size
            vectors.assert_same(formats.decode(found), decoded, f"{weight.params}")
            for one, two in zip(formats.codes(found), codes, strict=True):
                assert np.array_equal(one, two)
    assert turned
