"""Attention schedule: four query heads of one token and one KV head at a time, over the chunks of a KV cache.

The bits are those of ops.attention and, with sinks, of ops.attention_sinks: scores by the one reduction, exact maximum,
correctly rounded exp, absolute chunks of CHUNK positions whose sums are added in ascending order. Without sinks every
head has the sink -inf, whose weight +0 begins the denominator. The work items (token, KV head, four heads) are shared
between the threads of kernels.team.

Cache layout: a table of chunk addresses; a chunk is [kv_heads][CHUNK][vectors * 16] stored elements, rows padded with
zeros to whole vectors of 16. Score layout: [position][4 heads], so that a register tile of 4 keys x 4 heads is stored
as it comes. Positions that only fill up a vector get the score -inf and the weight +0, which adds nothing.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels import team
from refmoe.kernels.elementwise import exp16
from refmoe.numerics.elementary import exp32
from refmoe.numerics.vec import (
    BF16,
    F32,
    address,
    load1,
    load16,
    load_partial,
    prefetch,
    splat,
    store1,
    store16,
    store_partial,
    tile_add,
    tile_fma,
    tile_load,
    tile_scale_add,
    tile_store,
    tile_trees,
    tile_zero,
    vadd,
    vdiv,
    view64,
    vmax,
    vmul,
    vsub,
)

CHUNK = 512  # positions per chunk: part of the specification, see ops.attention
VECTOR = 64  # bytes of 16 f32
AHEAD = 4096  # bytes between the key being read and the one asked for: four rows at once defeat hardware prefetch
# Operands of a job, int64: addresses, counts and sizes
(Q, K_TABLE, V_TABLE, OUT, TOKENS, POSITION, WINDOW, SCALE, HEADS, KV_HEADS, HEAD_DIM, SCRATCH,
 SCRATCH_BYTES, SINKS) = range(14)
NO_SINKS = np.empty(0, np.float32)
SMALL = 1 << 16  # products q.k below which sharing costs more than it gains


# The functions down to _pack_queries are also used by kernels.latent.


@kernel
def _scores(tag, table, offset, row_bytes, vectors, base, end, packed, scale, scores):
    """Scaled scores of positions base..end (multiples of 16) for four packed queries."""
    step = 16 * tag.itemsize
    for j in range(base, end, 4):
        key = table[j // CHUNK] + offset + j % CHUNK * row_bytes
        t = tile_zero(4, 4)
        for d in range(vectors):
            for line in range(key + AHEAD + d * 4 * step, key + AHEAD + (d + 1) * 4 * step, VECTOR):
                prefetch(line)
            t = tile_fma(t, tag, key + d * step, row_bytes, packed + d * 4 * VECTOR, VECTOR)
        store16(scores + (j - base) * 16, vmul(tile_trees(t), splat(scale)))


@kernel
def _fill(scores, first, last):
    """Score -inf for positions first..last, all four heads."""
    for i in range(first * 4, last * 4):
        store1(scores + i * 4, np.float32(-np.inf))


@kernel
def _weights(scores, count, spare, total):
    """Scores -> exp(score - maximum) in place, for `count` positions (a multiple of 16) and four heads.

    The four sinks in `total` take part in the maximum and become their weights.
    """
    for i in range(16):
        store1(spare + i * 4, total[i % 4])
    top = load16(F32, spare)
    for i in range(0, count * 16, VECTOR):
        top = vmax(load16(F32, scores + i), top)
    store16(spare, top)
    for head in range(4):
        m = load1(spare + head * 4)
        for i in range(4, 16, 4):
            other = load1(spare + (head + i) * 4)
            if other > m:
                m = other
        for i in range(0, 16, 4):
            store1(spare + (head + i) * 4, m)
        total[head] = exp32(np.float32(total[head] - m))
    top = load16(F32, spare)
    for i in range(0, count * 16, VECTOR):
        store16(scores + i, exp16(vsub(load16(F32, scores + i), top)))


@kernel
def _add_denominator(weights, count, spare, total):
    """Sum of the weights of one chunk in 16 lanes (position mod 16) and the halving tree, added to total[4]."""
    l0 = splat(np.float32(0.0))
    l1, l2, l3 = l0, l0, l0
    for i in range(0, count * 16, 4 * VECTOR):
        l0 = vadd(l0, load16(F32, weights + i))
        l1 = vadd(l1, load16(F32, weights + i + VECTOR))
        l2 = vadd(l2, load16(F32, weights + i + 2 * VECTOR))
        l3 = vadd(l3, load16(F32, weights + i + 3 * VECTOR))
    store16(spare, vadd(vadd(l0, l2), vadd(l1, l3)))  # halves 8, then 4
    for head in range(4):
        even = np.float32(load1(spare + head * 4) + load1(spare + (head + 8) * 4))
        odd = np.float32(load1(spare + (head + 4) * 4) + load1(spare + (head + 12) * 4))
        total[head] = np.float32(total[head] + np.float32(even + odd))


@kernel
def _add_values(tag, value, row_bytes, weights, count, vectors, sums):
    """Sum of weight * value over `count` positions of one chunk, added to sums (tiles of 4 heads x 4 or 1 vectors)."""
    step = 16 * tag.itemsize
    for d in range(0, vectors - 3, 4):
        t = tile_zero(4, 4)
        for j in range(count):
            t = tile_scale_add(t, tag, weights + j * 16, value + j * row_bytes + d * step)
        tile_store(sums + d * 4 * VECTOR, tile_add(tile_load(t, sums + d * 4 * VECTOR), t))
    for d in range(vectors // 4 * 4, vectors):
        t = tile_zero(4, 1)
        for j in range(count):
            t = tile_scale_add(t, tag, weights + j * 16, value + j * row_bytes + d * step)
        tile_store(sums + d * 4 * VECTOR, tile_add(tile_load(t, sums + d * 4 * VECTOR), t))


@kernel
def _pack_queries(q, heads, head_dim, vectors, packed):
    """`heads` (1..4) consecutive rows of head_dim at q -> packed[vector][4][16]; absent heads repeat the last."""
    for head in range(4):
        row = q + min(head, heads - 1) * head_dim * 4
        for d in range(vectors):
            where = packed + (d * 4 + head) * VECTOR
            if d * 16 + 16 <= head_dim:
                store16(where, load16(F32, row + d * VECTOR))
            else:
                store16(where, load_partial(F32, row + d * VECTOR, head_dim - d * 16))


@kernel
def _write_heads(sums, total, heads, head_dim, vectors, out):
    """out = sums / total for `heads` consecutive rows of head_dim."""
    for head in range(heads):
        for d in range(vectors):
            if d < vectors // 4 * 4:
                where = sums + (d // 4 * 16 + head * 4 + d % 4) * VECTOR
            else:
                where = sums + (d * 4 + head) * VECTOR
            y = vdiv(load16(F32, where), splat(total[head]))
            target = out + head * head_dim * 4 + d * VECTOR
            if d * 16 + 16 <= head_dim:
                store16(target, y)
            else:
                store_partial(target, y, head_dim - d * 16)


@kernel
def _attend(tag, q, k_table, v_table, head, heads, group, head_dim, low, high, scale, sinks, out, scores, work):
    """`heads` query heads of one token at q, all of KV head `group`, over positions low..high inclusive.

    sinks: address of one number for each head of the model, or 0
    """
    vectors = (head_dim + 15) // 16
    row_bytes = vectors * 16 * tag.itemsize
    offset = group * CHUNK * row_bytes
    base, end = low // 16 * 16, (high + 16) // 16 * 16
    spare, packed = work, work + VECTOR
    sums = packed + vectors * 4 * VECTOR
    _pack_queries(q + head * head_dim * 4, heads, head_dim, vectors, packed)
    _scores(tag, k_table, offset, row_bytes, vectors, base, end, packed, scale, scores)
    _fill(scores, np.int64(0), low - base)
    _fill(scores, high + 1 - base, end - base)
    total = np.empty(4, np.float32)
    for i in range(4):
        total[i] = load1(sinks + (head + min(i, heads - 1)) * 4) if sinks != 0 else np.float32(-np.inf)
    _weights(scores, end - base, spare, total)
    for i in range(vectors * 4):
        store16(sums + i * VECTOR, splat(np.float32(0.0)))
    for start in range(base // CHUNK * CHUNK, end, CHUNK):
        first, last = max(start, low), min(start + CHUNK, high + 1)
        padded, stop = max(start, base), min(start + CHUNK, end)
        _add_denominator(scores + (padded - base) * 16, stop - padded, spare, total)
        value = v_table[start // CHUNK] + offset + (first - start) * row_bytes
        _add_values(tag, value, row_bytes, scores + (first - base) * 16, last - first, vectors, sums)
    _write_heads(sums, total, heads, head_dim, vectors, out + head * head_dim * 4)


@kernel
def _item(tag, block, item, slot):
    """One token, one KV head, four of its query heads."""
    b = view64(block, 14)
    tokens, heads, kv_heads, head_dim = b[TOKENS], b[HEADS], b[KV_HEADS], b[HEAD_DIM]
    ratio = heads // kv_heads
    fours, width = (ratio + 3) // 4, heads * head_dim * 4
    t, group, four = item % tokens, item // tokens // fours, item // tokens % fours
    high = b[POSITION] + t
    low = max(np.int64(0), high - b[WINDOW] + 1)
    chunks = high // CHUNK + 1
    scores = b[SCRATCH] + slot * b[SCRATCH_BYTES]
    _attend(tag, b[Q] + t * width, view64(b[K_TABLE], chunks), view64(b[V_TABLE], chunks), group * ratio + four * 4,
            min(4, ratio - four * 4), group, head_dim, low, high, load1(b[SCALE]), b[SINKS],
            b[OUT] + t * width, scores + _work_bytes(head_dim), scores)


@kernel
def _work_bytes(head_dim):
    """Bytes of the working set of one item besides its scores: a spare vector, packed queries, sums."""
    return VECTOR + (head_dim + 15) // 16 * 8 * VECTOR


@item_kernel
def _item_f32(block, item, slot):
    _item(F32, block, item, slot)


@item_kernel
def _item_bf16(block, item, slot):
    _item(BF16, block, item, slot)


ITEM = {np.dtype(np.float32): _item_f32, np.dtype(np.uint16): _item_bf16}


@kernel
def _attention(control, item, q, k_table, v_table, position, heads, kv_heads, head_dim, scale, window, sinks, out,
               shares):
    """Fill in the operands and do the work."""
    block, tokens = np.empty(14, np.int64), q.shape[0]
    size = (min(window, position + tokens) + 32) * 16 + _work_bytes(head_dim)
    scratch, factor = np.empty(shares * size // 4, np.float32), np.empty(1, np.float32)
    factor[0] = scale
    block[Q], block[K_TABLE], block[V_TABLE], block[OUT] = address(q), address(k_table), address(v_table), address(out)
    block[TOKENS], block[POSITION], block[WINDOW], block[SCALE] = tokens, position, window, address(factor)
    block[HEADS], block[KV_HEADS], block[HEAD_DIM] = heads, kv_heads, head_dim
    block[SCRATCH], block[SCRATCH_BYTES] = address(scratch), size
    block[SINKS] = address(sinks) if sinks.shape[0] > 0 else 0
    team.run(control, item, block, tokens * kv_heads * ((heads // kv_heads + 3) // 4), shares)
    return scratch.shape[0] + factor.shape[0] + sinks.shape[0]  # in use through their addresses until here


def attend_rows(tag, q, k_table, v_table, position, heads, kv_heads, head_dim, scale, window, out, parts,
                sinks=NO_SINKS):
    """Attention of consecutive positions `position`, `position`+1, ... of one sequence.

    tag          stored element of the cache (numerics.vec); tables int64[chunks]: addresses, see the module docstring
    q, out       f32[T, heads * head_dim] contiguous; window: number of visible positions, itself included
    parts        number of shares, one per thread; any number gives the same bits
    sinks        f32[heads] contiguous, or nothing
    """
    shares = 1 if q.size * (position + q.shape[0]) < SMALL else parts
    _attention(team.gather(shares), ITEM[tag.dtype](), q, k_table, v_table, position, heads, kv_heads, head_dim, scale,
               window, sinks, out, shares)
