"""attend_rows: head counts, widths, windows and chunks, in both storage types, equal the plain kernels of its ops."""

import itertools

import numpy as np
import pytest

from refmoe import jit

if not jit.ENABLED:
    pytest.skip("the JIT is off: there are no schedules", allow_module_level=True)

from refmoe.kernels.attention import CHUNK, NO_SINKS, attend_rows
from refmoe.kvcache import Sequence
from refmoe.ops import attention, attention_sinks
from refmoe.steps import UNLIMITED, CacheRow
from tests import vectors


def filled(kv_heads, size, dtype, length):
    """(cache, its rows of k and v as f32)."""
    sequence = Sequence([CacheRow(kv_heads, (size, size), False)], dtype)
    sequence.reserve(length)
    cache = sequence.layers[0]
    cache.append(*(vectors.normal(f"{name} {kv_heads} {size}", length, kv_heads * size) for name in "kv"))
    return cache, *cache.rows()


def check(heads, kv_heads, size, length, new, window, dtype="f32", scale=0.3, parts=(1, 3)):
    cache, k, v = filled(kv_heads, size, dtype, length)
    q, first = vectors.normal(f"q {heads} {size}", new, heads * size), length - new
    positions = np.arange(first, length)
    shared = (q, k[:length], v[:length], positions)
    sinks = vectors.normal(f"sinks {heads}", heads, scale=3.0)
    wanted = {
        NO_SINKS.tobytes(): attention.plain(*shared, scale, window, heads, kv_heads),
        sinks.tobytes(): attention_sinks.plain(*shared, sinks, scale, window, heads, kv_heads),
    }
    for count, extra in itertools.product(parts, (NO_SINKS, sinks)):
        y = np.full((new + 1, heads * size), 7, np.float32)
        attend_rows(cache.tag, q, cache.k_table, cache.v_table, first, heads, kv_heads, size, np.float32(scale),
                    np.int64(window), y[:new], count, extra)
        vectors.assert_same(y[:new], wanted[extra.tobytes()], f"{count} parts, {len(extra)} sinks")
        assert (y[new] == 7).all()


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 3), (6, 2), (4, 1), (10, 2), (7, 1), (8, 1)])
def test_head_ratios(heads, kv_heads, dtype):
    """Fewer than four heads per group, four, five, seven, eight."""
    check(heads, kv_heads, 20, 18, 3, UNLIMITED, dtype)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("size", [2, 4, 16, 18, 48, 64, 80, 128, 130])
def test_widths(size, dtype):
    """Whole and partial vectors, fours of vectors with and without a rest."""
    check(4, 2, size, 21, 2, UNLIMITED, dtype)


@pytest.mark.parametrize("window", [1, 2, 15, 16, 17, 31, 33, 40, UNLIMITED])
def test_windows(window):
    check(4, 2, 20, 40, 40, window, parts=(1, 2, 5))


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(("length", "window"), [
    (CHUNK, UNLIMITED), (CHUNK + 2, UNLIMITED), (2 * CHUNK + 3, UNLIMITED), (CHUNK + 20, 30), (2 * CHUNK + 10, CHUNK),
    (2 * CHUNK + 1, CHUNK + 1),
])  # fmt: skip
def test_chunks(length, window, dtype):
    """Queries on both sides of a chunk's start; windows that begin inside one."""
    check(3, 1, 20, length, 4, window, dtype)


def test_scores_of_every_size():
    """Large scores of both signs, and so far apart that weights underflow."""
    for scale in (1e-30, 30.0, 1e4):
        check(4, 2, 16, 20, 3, UNLIMITED, scale=scale)
