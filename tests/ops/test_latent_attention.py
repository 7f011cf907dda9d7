"""latent_attention: vectors; prefill equals decode through the cache, in both storage types."""

import numpy as np
import pytest

from refmoe import ops
from refmoe.kvcache import Sequence
from refmoe.steps import CacheRow
from tests import vectors
from tests.oracles import latent_attention as oracle

KILLS = {
    "odd_sizes": ("separate_sums", "future_seen"),
    "rotated_part_counts": ("rotated_part_forgotten",),
    "values_are_latents_only": ("values_from_the_end",),
    "chunk_boundary": ("one_sum", "chunk_start_lost"),
    "three_chunks": ("one_sum",),
    "first_position": ("own_position_missing",),
    "large_scores": ("no_maximum",),
    "out_of_sight_nan": ("masked_by_weight_zero",),
}


@vectors.of("latent_attention")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("latent_attention", oracle, KILLS)
    vectors.check_clause("latent_attention")


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_prefill_equals_decode(dtype):
    """Any split of a sequence into calls, two sequences in one call."""
    heads, rank, rotated, length = 5, 20, 6, 19

    def cache():
        sequence = Sequence([CacheRow(1, (rank, rotated), True)], dtype)
        sequence.reserve(length)
        return sequence.layers[0]

    sizes = (heads * rank, heads * rotated, rank, rotated)
    inputs = [*(vectors.normal(f"split {n}", length, n) for n in sizes), np.arange(length)]
    attrs = {"heads": heads, "rank": rank, "rotated": rotated, "scale": 0.2}
    results = []
    for split in ([19], [1] * 19, [7, 1, 11], [16, 3]):
        call, layer = ops.get("latent_attention").bind((), attrs, 2), cache()
        rows, at = [], 0
        for count in split:
            rows.append(call(*(x[at : at + count] for x in inputs), [(0, count, layer)]))
            at += count
        results.append(np.concatenate(rows))
    twice = [np.concatenate([x, x]) for x in inputs]
    both = ops.get("latent_attention").bind((), attrs, 3)(
        *twice, [(0, length, cache()), (length, 2 * length, cache())])  # fmt: skip
    for result in (*results[1:], both[:length], both[length:]):
        vectors.assert_same(result, results[0])
