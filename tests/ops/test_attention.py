"""attention: vectors; prefill equals decode through the cache, in both storage types."""

import numpy as np
import pytest

from refmoe import ops
from refmoe.kvcache import Sequence
from refmoe.steps import UNLIMITED, CacheRow
from tests import vectors
from tests.oracles import attention as oracle

KILLS = {
    "grouped_heads": ("future_seen",),
    "ratio_one": ("future_seen",),
    "one_kv_head": ("future_seen",),
    "odd_head_dim": ("tail_dropped", "padded_scale"),
    "window_boundary": ("window_too_narrow",),
    "window_one": ("window_too_narrow",),
    "window_across_chunks": ("window_too_narrow",),
    "chunk_boundary": ("one_sum", "chunk_start_lost"),
    "three_chunks": ("one_sum",),
    "first_position": ("own_position_missing",),
    "large_scores": ("no_maximum",),
    "out_of_sight_nan": ("masked_by_weight_zero",),
}


@vectors.of("attention")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("attention", oracle, KILLS)
    vectors.check_clause("attention")


def cache(kv_heads, size, dtype, length):
    sequence = Sequence([CacheRow(kv_heads, (size, size), False)], dtype)
    sequence.reserve(length)
    return sequence.layers[0]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("window", [UNLIMITED, 5])
def test_prefill_equals_decode(dtype, window):
    """Any split of a sequence into calls, two sequences in one call."""
    heads, kv_heads, size, length = 6, 2, 20, 19
    q, k, v = (vectors.normal(f"split {name}", length, n * size) for name, n in (("q", 6), ("k", 2), ("v", 2)))
    attrs = {"heads": heads, "kv_heads": kv_heads, "scale": 0.2, "window": window}
    results = []
    for split in ([19], [1] * 19, [7, 1, 11], [16, 3]):
        call, layer = ops.get("attention").bind((), attrs, 2), cache(kv_heads, size, dtype, length)
        rows, at = [], 0
        for count in split:
            part = slice(at, at + count)
            rows.append(call(q[part], k[part], v[part], np.arange(at, at + count), [(0, count, layer)]))
            at += count
        results.append(np.concatenate(rows))
    layers = [cache(kv_heads, size, dtype, length) for _ in range(2)]
    twice = [np.concatenate([x, x]) for x in (q, k, v, np.arange(length))]
    both = ops.get("attention").bind((), attrs, 3)(*twice, [(0, length, layers[0]), (length, 2 * length, layers[1])])
    for result in (*results[1:], both[:length], both[length:]):
        vectors.assert_same(result, results[0])
