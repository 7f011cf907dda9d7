"""attention_sinks: vectors; sinks of -inf give the bits of attention; prefill equals decode in both storage types."""

import numpy as np
import pytest

from refmoe import ops
from refmoe.kvcache import Sequence
from refmoe.steps import UNLIMITED, CacheRow
from tests import vectors
from tests.oracles import attention_sinks as oracle

KILLS = {
    "grouped_heads": ("first_sink_for_all", "sinks_of_kv_heads", "sink_as_weight"),
    "sink_is_not_scaled": ("sink_scaled",),
    "chunk_boundary": ("one_sum", "sink_in_every_chunk", "sink_added_last"),
    "window_boundary": ("window_too_narrow",),
    "dominating_sink": ("maximum_of_scores",),
    "special_sinks": ("special_sink_ignored",),
}


@vectors.of("attention_sinks")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("attention_sinks", oracle, KILLS)
    vectors.check_clause("attention_sinks")


@pytest.mark.parametrize("window", [UNLIMITED, 4])
def test_without_sinks_it_is_attention(window):
    q, k, v = (vectors.normal(f"plain {name}", 9, n * 20) for name, n in (("q", 6), ("k", 2), ("v", 2)))
    inputs = {"q": q, "k": k, "v": v, "positions": np.arange(9), "scale": 0.3, "window": window, "heads": 6}
    wanted = ops.get("attention").plain(**inputs, kv_heads=2)
    found = ops.get("attention_sinks").plain(**inputs, kv_heads=2, sinks=np.full(6, -np.inf, np.float32))
    vectors.assert_same(found, wanted)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("window", [UNLIMITED, 5])
def test_prefill_equals_decode(dtype, window):
    """Any split of a sequence into calls; five heads on one KV head: a full group of four and one more."""
    heads, size, length = 5, 20, 19
    q, k, v = (vectors.normal(f"sinks {name}", length, n * size) for name, n in (("q", heads), ("k", 1), ("v", 1)))
    sinks = vectors.normal("sinks", heads, scale=2.0)
    attrs, results = {"heads": heads, "kv_heads": 1, "scale": 0.2, "window": window}, []
    for split in ([19], [1] * 19, [7, 1, 11]):
        sequence = Sequence([CacheRow(1, (size, size), False)], dtype)
        sequence.reserve(length)
        call, rows, at = ops.get("attention_sinks").bind((sinks,), attrs, 3), [], 0
        for count in split:
            part = slice(at, at + count)
            cache = [(0, count, sequence.layers[0])]
            rows.append(call(q[part], k[part], v[part], np.arange(at, at + count), cache))
            at += count
        results.append(np.concatenate(rows))
    stored = sequence.layers[0].rows()
    plain = ops.get("attention_sinks").plain(q, *stored, np.arange(length), sinks, 0.2, window, heads, 1)
    for result in results:
        vectors.assert_same(result, plain)
