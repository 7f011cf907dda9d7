"""embedding: vectors, and rows of every format."""

import numpy as np
import pytest

from refmoe import formats, ops
from refmoe.weight import Weight
from tests import quantised, vectors
from tests.oracles import embedding as oracle

KILLS = {
    "first_and_last_row": ("one_based", "scaled"),
    "repeated_ids": ("position_in_sorted_ids",),
}


@vectors.of("embedding")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("embedding", oracle, KILLS)
    vectors.check_clause("embedding")


@pytest.mark.parametrize("format", formats.names())
def test_rows_of_every_format(format):
    """Only the rows asked for are decoded, nan payloads included."""
    if format in quantised.MAKERS:
        weights = quantised.weights(format, 16, 32)
    else:
        size = {"f32": 4}.get(format, 2)
        stored = np.random.default_rng(1).integers(0, 256, 16 * 7 * size, dtype=np.uint8)
        weights = [Weight(format, 16, 7, {".weight": stored})]
    ids = np.array([15, 0, 3, 3])
    for weight in weights:
        found = ops.get("embedding").bind((weight,), {}, 1)(ids)
        vectors.assert_same(found, formats.decode(weight)[ids])
