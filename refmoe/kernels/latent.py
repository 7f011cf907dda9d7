"""Schedule of latent_attention: all heads read the same rows, so the work is cut by rows, not by heads.

A quad is four query heads of one token; a block is some tokens of one sequence, all quads of which are worked on
together, in four launches: queries are packed; scores, a piece of PIECE rows at a time for many quads, while the piece
lies in the second-level cache; weights and their sums, quad by quad; values, 64 columns of all rows at a time, chunk by
chunk, again for many quads while those columns of the chunk lie in the cache. The building blocks, and so the bits, are
those of kernels.attention.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels import team
from refmoe.kernels.attention import (
    CHUNK,
    VECTOR,
    _add_denominator,
    _fill,
    _pack_queries,
    _scores,
    _weights,
)
from refmoe.numerics.vec import (
    BF16,
    F32,
    address,
    load1,
    load16,
    splat,
    store1,
    store16,
    store_partial,
    tile_add,
    tile_load,
    tile_scale_add,
    tile_store,
    tile_zero,
    vdiv,
    view64,
)

PIECE = 128  # rows whose scores one work item computes
SCORES_BYTES = 1 << 22  # room for the scores of one block: decides how many tokens it has
SMALL = 1 << 16  # products below which sharing costs more than it gains
# Operands of a job, int64: addresses, counts and sizes
(QUERIES, TABLE, OUT, POSITION, SCALE, HEADS, RANK, WIDTH, QUADS, GROUPS, PACKED, SCORES, STRIDE, TOTALS,
 SUMS) = range(15)


@kernel
def _quad(b, quad):
    """(token, first head, number of heads, last row it sees) of a quad of the block."""
    fours = (b[HEADS] + 3) // 4
    token, head = quad // fours, quad % fours * 4
    return token, head, min(4, b[HEADS] - head), b[POSITION] + token


@item_kernel
def _pack_item(block, item, slot):
    """Packed queries of one quad."""
    b = view64(block, 15)
    token, head, heads, _ = _quad(b, item)
    width = b[WIDTH]
    vectors = (width + 15) // 16
    _pack_queries(b[QUERIES] + (token * b[HEADS] + head) * width * 4, heads, width, vectors,
                  b[PACKED] + item * vectors * 4 * VECTOR)


@kernel
def _score_item(tag, block, item):
    """Scores of one piece of rows for one group of quads."""
    b = view64(block, 15)
    first, group, groups = item // b[GROUPS] * PIECE, item % b[GROUPS], b[GROUPS]
    vectors = (b[WIDTH] + 15) // 16
    table = view64(b[TABLE], first // CHUNK + 1)
    for quad in range(b[QUADS] * group // groups, b[QUADS] * (group + 1) // groups):
        _, _, _, high = _quad(b, quad)
        end = min(first + PIECE, (high + 16) // 16 * 16)
        if first < end:
            _scores(tag, table, 0, vectors * 16 * tag.itemsize, vectors, first, end,
                    b[PACKED] + quad * vectors * 4 * VECTOR, load1(b[SCALE]), b[SCORES] + quad * b[STRIDE] + first * 16)


@item_kernel
def _weight_item(block, item, slot):
    """Scores -> weights of one quad, and the sums of its weights."""
    b = view64(block, 15)
    _, _, _, high = _quad(b, item)
    end, scores = (high + 16) // 16 * 16, b[SCORES] + item * b[STRIDE]
    spare, total = b[TOTALS] + item * 2 * VECTOR, np.full(4, np.float32(-np.inf))  # no sinks
    _fill(scores, high + 1, end)
    _weights(scores, end, spare, total)
    for start in range(0, end, CHUNK):
        _add_denominator(scores + start * 16, min(CHUNK, end - start), spare, total)
    for head in range(4):
        store1(spare + VECTOR + head * 4, total[head])


@kernel
def _value_item(tag, zero, columns, block, first, group, sums):
    """`columns` vectors of the values from vector `first` on, for one group of quads."""
    b = view64(block, 15)
    row_bytes, step = (b[WIDTH] + 15) // 16 * 16 * tag.itemsize, columns * 4 * VECTOR
    low, last = b[QUADS] * group // b[GROUPS], b[QUADS] * (group + 1) // b[GROUPS]
    _, _, _, high = _quad(b, last - 1)
    table = view64(b[TABLE], high // CHUNK + 1)
    for quad in range(low, last):
        tile_store(sums + quad * step, zero)
    for start in range(0, high + 1, CHUNK):
        values = table[start // CHUNK] + first * 16 * tag.itemsize
        for quad in range(low, last):
            _, _, _, seen = _quad(b, quad)
            weights, where = b[SCORES] + quad * b[STRIDE] + start * 16, sums + quad * step
            t = zero
            for j in range(min(CHUNK, seen + 1 - start)):
                t = tile_scale_add(t, tag, weights + j * 16, values + j * row_bytes)
            if seen >= start:
                tile_store(where, tile_add(tile_load(zero, where), t))
    for quad in range(low, last):
        _write(b, quad, first, columns, sums + quad * step)


@kernel
def _write(b, quad, first, columns, sums):
    """sums / total of one quad to the output."""
    token, head, heads, _ = _quad(b, quad)
    rank, totals = b[RANK], b[TOTALS] + (2 * quad + 1) * VECTOR
    for h in range(heads):
        out = b[OUT] + ((token * b[HEADS] + head + h) * rank + first * 16) * 4
        for c in range(columns):
            y = vdiv(load16(F32, sums + (h * columns + c) * VECTOR), splat(load1(totals + h * 4)))
            rest = rank - (first + c) * 16
            if rest >= 16:
                store16(out + c * VECTOR, y)
            else:
                store_partial(out + c * VECTOR, y, rest)


@kernel
def _values(tag, block, item):
    """A work item of values: four vectors of columns, or one where less than four are left."""
    b = view64(block, 15)
    tile, group = item // b[GROUPS], item % b[GROUPS]
    vectors = (b[RANK] + 15) // 16
    sums = b[SUMS] + tile * b[QUADS] * 16 * VECTOR
    if tile < vectors // 4:
        _value_item(tag, tile_zero(4, 4), 4, block, tile * 4, group, sums)
    else:
        _value_item(tag, tile_zero(4, 1), 1, block, vectors // 4 * 3 + tile, group, sums)


@item_kernel
def _scores_f32(block, item, slot):
    _score_item(F32, block, item)


@item_kernel
def _scores_bf16(block, item, slot):
    _score_item(BF16, block, item)


@item_kernel
def _values_f32(block, item, slot):
    _values(F32, block, item)


@item_kernel
def _values_bf16(block, item, slot):
    _values(BF16, block, item)


ITEMS = {np.dtype(np.float32): (_scores_f32, _values_f32), np.dtype(np.uint16): (_scores_bf16, _values_bf16)}


@kernel
def _latent(control, items, a, table, position, rank, scale, out, shares):
    """Queries a f32[T,N,C] in blocks of tokens; `items`: the four work items."""
    tokens, heads, width = a.shape
    fours, vectors, columns = (heads + 3) // 4, (width + 15) // 16, (rank + 15) // 16
    tiles = columns // 4 + columns % 4
    stride = (position + tokens + 16) // 16 * 256  # scores of one quad
    size = max(1, min(tokens, SCORES_BYTES // (stride * fours)))
    packed = np.empty(size * fours * vectors * 4 * 16, np.float32)
    scores, totals = np.empty(size * fours * stride // 4, np.float32), np.empty(size * fours * 32, np.float32)
    sums, factor = np.empty(tiles * size * fours * 256, np.float32), np.empty(1, np.float32)
    factor[0] = scale
    block = np.empty(15, np.int64)
    block[TABLE], block[SCALE] = address(table), address(factor)
    block[HEADS], block[RANK], block[WIDTH] = heads, rank, width
    block[PACKED], block[SCORES], block[STRIDE] = address(packed), address(scores), stride
    block[TOTALS], block[SUMS] = address(totals), address(sums)
    for first in range(0, tokens, size):
        count = min(size, tokens - first)
        quads, rows = count * fours, position + first + count
        pieces = (rows + PIECE - 1) // PIECE
        block[QUERIES], block[OUT] = address(a) + first * heads * width * 4, address(out) + first * heads * rank * 4
        block[POSITION], block[QUADS] = position + first, quads
        team.run(control, items[0], block, quads, shares)
        block[GROUPS] = min(quads, max(1, 4 * shares // pieces))
        team.run(control, items[1], block, pieces * block[GROUPS], shares)
        team.run(control, items[2], block, quads, shares)
        block[GROUPS] = min(quads, max(1, 4 * shares // tiles))
        team.run(control, items[3], block, tiles * block[GROUPS], shares)
    return packed.shape[0] + scores.shape[0] + totals.shape[0] + sums.shape[0] + factor.shape[0]  # in use until here


def attend_latent(tag, a, table, position, rank, scale, out, parts):
    """latent_attention of consecutive positions `position`, `position`+1, ... of one sequence.

    tag     stored element of the cache (numerics.vec); table int64[chunks]: addresses of chunks [CHUNK][vectors * 16]
    a       f32[T, heads, C] contiguous, queries joined; out f32[T, heads * rank] contiguous
    parts   number of shares, one per thread; any number gives the same bits
    """
    shares = 1 if a.size * (position + a.shape[0]) < SMALL else parts
    scored, summed = ITEMS[tag.dtype]
    items = (_pack_item(), scored(), _weight_item(), summed())
    _latent(team.gather(shares), items, a, table, position, rank, scale, out, shares)
