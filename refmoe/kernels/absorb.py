"""Schedule of absorb_query: sums down the columns of a matrix, sixteen columns to a vector.

One work item is a head. For a single row of x, sixteen rows of sums (lane p mod 16) are kept in memory and the key rows
of the head pass once, whatever their format. For more rows the key rows are widened to f32 first; then a register tile
of four rows of x by 64 columns gathers one lane after the other. In the end the lanes are added as the halving tree.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels import team
from refmoe.kernels.matmul import walk_rows
from refmoe.numerics.vec import (
    F32,
    address,
    load1,
    load16,
    splat,
    store1,
    store16,
    store_partial,
    tile_add,
    tile_scale_add,
    tile_store,
    tile_zero,
    vadd,
    view64,
)

LINE = 64  # bytes of a vector
GROUP = 4  # rows of x of a tile
SPAN = 4  # vectors of columns of a tile
SMALL = 1 << 18  # multiplications below which sharing costs more than it gains
# Operands of a job, int64: addresses, counts and sizes
X, MATRIX, OUT, TOKENS, HEADS, SIZE, HEAD_ROWS, RANK, SCRATCH, SCRATCH_BYTES = range(10)


@kernel
def _add_lanes(lanes, count):
    """Sixteen rows of `count` vectors at `lanes` -> their halving tree (8, 4, 2, 1) in the first row."""
    half = 8 * count
    while half >= count:
        for i in range(half):
            store16(lanes + i * LINE, vadd(load16(F32, lanes + i * LINE), load16(F32, lanes + (i + half) * LINE)))
        half //= 2


@kernel
def _store(where, y, count):
    """The first `count` lanes, at most all, of which there may be none."""
    if count >= 16:
        store16(where, y)
    elif count > 0:
        store_partial(where, y, count)


@kernel
def _single(d, first, size, x, vectors, rank, lanes, out):
    """One row x of `size` elements times the columns of rows first.. of a matrix -> `rank` values at out."""
    zero = splat(np.float32(0.0))
    for i in range(16 * vectors):
        store16(lanes + i * LINE, zero)
    walk_rows(d, first, size, x, lanes)
    for i in range(size % 16 * vectors, 16 * vectors if size % 16 > 0 else 0):
        store16(lanes + i * LINE, vadd(load16(F32, lanes + i * LINE), zero))  # the padding: -0 becomes +0
    _add_lanes(lanes, vectors)
    for k in range(vectors):
        _store(out + k * LINE, load16(F32, lanes + k * LINE), rank - k * 16)


@kernel
def _several(panel, vectors, x, size, rows, rank, lanes, out, out_bytes):
    """Rows packed as x[p][GROUP] times the columns of a panel of `size` rows -> `rank` values for each of `rows`."""
    tile_bytes = GROUP * SPAN * LINE
    for k in range(0, vectors, SPAN):
        for lane in range(16):
            t = tile_zero(GROUP, SPAN)
            for p in range(lane, size, 16):
                t = tile_scale_add(t, F32, x + p * GROUP * 4, panel + (p * vectors + k) * LINE)
            if 0 < size % 16 <= lane:
                t = tile_add(t, tile_zero(GROUP, SPAN))  # the padding: -0 becomes +0
            tile_store(lanes + lane * tile_bytes, t)
        _add_lanes(lanes, GROUP * SPAN)
        for i in range(rows):
            for c in range(SPAN):
                y = load16(F32, lanes + (i * SPAN + c) * LINE)
                _store(out + i * out_bytes + (k + c) * LINE, y, rank - (k + c) * 16)


@kernel
def _lanes_bytes(vectors):
    return 16 * max(vectors, GROUP * SPAN) * LINE


@item_kernel
def _absorb_item(block, item, slot):
    """All rows of x for one head."""
    b = view64(block, 10)
    size, rank, tokens, first = b[SIZE], b[RANK], b[TOKENS], item * b[HEAD_ROWS]
    vectors, d = (rank + 15) // 16, view64(b[MATRIX], 16)
    lanes, source, out = b[SCRATCH] + slot * b[SCRATCH_BYTES], b[X] + item * size * 4, b[OUT] + item * rank * 4
    if tokens == 1:
        _single(d, first, size, source, vectors, rank, lanes, out)
        return
    panel = lanes + _lanes_bytes(vectors)
    x = panel + (size * vectors + SPAN) * LINE  # the last tile may look beyond the last row
    walk_rows(d, first, size, np.int64(0), panel)
    for t in range(0, tokens, GROUP):
        for i in range(GROUP):
            row = source + min(t + i, tokens - 1) * b[HEADS] * size * 4
            for p in range(size):
                store1(x + (p * GROUP + i) * 4, load1(row + p * 4))
        _several(panel, vectors, x, size, min(GROUP, tokens - t), rank, lanes, out + t * b[HEADS] * rank * 4,
                 b[HEADS] * rank * 4)


@kernel
def _absorb(control, item, x, descriptor, heads, head_rows, rank, out, shares):
    """Fill in the operands and do the work."""
    block, size, vectors = np.empty(10, np.int64), x.shape[1] // heads, (rank + 15) // 16
    each = _lanes_bytes(vectors)
    if x.shape[0] > 1:
        each += (size * vectors + SPAN) * LINE + (size * GROUP + 15) // 16 * LINE
    scratch = np.zeros(shares * each // 4, np.float32)
    block[X], block[MATRIX], block[OUT], block[TOKENS] = address(x), address(descriptor), address(out), x.shape[0]
    block[HEADS], block[SIZE], block[HEAD_ROWS], block[RANK] = heads, size, head_rows, rank
    block[SCRATCH], block[SCRATCH_BYTES] = address(scratch), each
    team.run(control, item, block, heads, shares)
    return scratch.shape[0]  # in use through its address until here


def absorb(x, descriptor, heads, head_rows, rank, parts):
    """y[t, n*rank + r] = sum over p of W_eff[n*head_rows + p, r] * x[t, n*P + p], for contiguous x f32[T, heads*P].

    descriptor   of W_eff f32[heads*head_rows, rank] (kernels.matrix), i64[16]
    parts        number of shares, one per thread; any number gives the same bits
    """
    y = np.empty((x.shape[0], heads * rank), np.float32)
    shares = 1 if x.size * rank < SMALL else parts
    _absorb(team.gather(shares), _absorb_item(), x, descriptor, heads, head_rows, rank, y, shares)
    return y
