"""attend_latent: head counts, widths, chunks, blocks of tokens, in both storage types, equal the plain kernel."""

import numpy as np
import pytest

from refmoe import jit

if not jit.ENABLED:
    pytest.skip("the JIT is off: there are no schedules", allow_module_level=True)

from refmoe.kernels import latent as schedule
from refmoe.kernels.attention import CHUNK
from refmoe.kvcache import Sequence
from refmoe.ops import latent_attention
from refmoe.steps import CacheRow
from tests import vectors


def filled(rank, rotated, dtype, length):
    """(cache, its latents and rotated keys as f32)."""
    sequence = Sequence([CacheRow(1, (rank, rotated), True)], dtype)
    sequence.reserve(length)
    cache = sequence.layers[0]
    for first, last in ((0, length // 3), (length // 3, length)):
        cache.append(*(vectors.normal(f"{size} {first}", last - first, size) for size in (rank, rotated)))
    return cache, *cache.rows()


def check(heads, rank, rotated, length, new, dtype="f32", scale=0.3, parts=(1, 3)):
    cache, latent, k_rope = filled(rank, rotated, dtype, length)
    q, q_rope = (vectors.normal(f"q {heads} {size}", new, heads * size) for size in (rank, rotated))
    first = length - new
    want = latent_attention.plain(q, q_rope, latent, k_rope, np.arange(first, length), scale, heads)
    a = latent_attention.joined(q.reshape(new, heads, rank), q_rope.reshape(new, heads, rotated))
    for count in parts:
        y = np.full((new + 1, heads * rank), 7, np.float32)
        schedule.attend_latent(cache.tag, a, cache.k_table, first, rank, np.float32(scale), y[:new], count)
        vectors.assert_same(y[:new], want, f"{count} parts")
        assert (y[new] == 7).all()


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("heads", [1, 3, 4, 5, 8, 10])
def test_heads(heads, dtype):
    check(heads, 20, 6, 18, 3, dtype)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(("rank", "rotated"), [(1, 2), (15, 2), (16, 16), (17, 4), (48, 8), (64, 32), (67, 10), (96, 2),
                                               (130, 4), (256, 32)])  # fmt: skip
def test_widths(rank, rotated, dtype):
    """Whole and partial vectors, fours of vectors with and without a rest; the rotated part in the same vector."""
    check(5, rank, rotated, 21, 2, dtype)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("length", [CHUNK, CHUNK + 2, 2 * CHUNK + 3, schedule.PIECE, schedule.PIECE + 1])
def test_chunks(length, dtype):
    """Queries on both sides of a chunk's and of a piece's start."""
    check(3, 20, 4, length, 4, dtype, parts=(1, 2, 5))


def test_blocks_of_tokens():
    """More tokens than the scores of one block hold."""
    length = 8 * CHUNK
    block = schedule.SCORES_BYTES // (2 * 16 * (length + 16))
    assert 5 < block < 60
    check(5, 6, 2, length, block + 3, "f32", parts=(1, 2))


def test_all_positions_at_once():
    check(2, 18, 4, 3 * CHUNK // 2, 3 * CHUNK // 2, "bf16", parts=(2,))


def test_scores_of_every_size():
    """Large scores of both signs, and so far apart that weights underflow."""
    for scale in (1e-30, 30.0, 1e4):
        check(4, 16, 8, 20, 3, scale=scale)
