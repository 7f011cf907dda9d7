"""Grouped matrix product: several matrices applied to several sets of rows of x in one launch.

There are M kinds of matrices (gate and up; q, k and v; or one) and S sets of rows (the rows routed to each expert; or
one). Kind m has its own matrix for every set, and its own output. Every output is numerics.reduce.dot of one row of
W_eff and one row of x: sixteen lanes, fma in ascending k, halving tree. What varies is only the order in which outputs
are visited:
- a set of few rows streams W row by row: one linear walk through memory, which hardware prefetch follows (`_stream`);
- a set of many rows packs x and multiplies register tiles (kernels.panels).
The work items are (set, kind, panel), shared between the threads of kernels.team.
"""

from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels import team
from refmoe.kernels.panels import LINE, PANEL, PANEL_BYTES, SPILL_BYTES, multiply, pack
from refmoe.numerics.vec import (
    BF16,
    F16,
    F32,
    TILE_COLS,
    address,
    lane,
    store1,
    tile_fma,
    tile_fma_partial,
    tile_trees,
    tile_zero,
    view64,
)

FEW = 4 * TILE_COLS // 2  # sets with fewer rows of x than this are streamed
SMALL = 1 << 19  # multiplications below which sharing costs more than it gains
# Operands of a job, int64: addresses unless said otherwise
MATRICES, SETS, ROWS, X, COLS, X_ROWS, STARTS, TILES, PACKED, PLACES, OUT_ROWS, WORK, SCRATCH = range(13)


@kernel
def _stream(tag, w, cols, first, last, x, x_rows, out, width, out_rows):
    """Rows first..last of one matrix times all rows of x in the set; W is read once, front to back."""
    size = tag.itemsize
    whole = cols // 16 * 16
    for r in range(first, last):
        row = w + r * cols * size
        for s in range(x_rows.shape[0]):
            xs = x + x_rows[s] * cols * 4
            t = tile_zero(1, 1)
            for k in range(0, whole, 16):
                t = tile_fma(t, tag, row + k * size, 0, xs + k * 4, 0)
            if whole < cols:
                t = tile_fma_partial(t, tag, row + whole * size, 0, xs + whole * 4, 0, cols - whole)
            store1(out + (out_rows[s] * width + r) * 4, lane(tile_trees(t), 0))


@kernel
def _product_item(tag, block, item, slot):
    """One panel of one matrix times one set of rows."""
    b = view64(block, 13)
    work = view64(b[WORK] + item * 24, 3)
    s, m, first = work[0], work[1], work[2]
    starts, cols = view64(b[STARTS], b[SETS] + 1), b[COLS]
    low, count = starts[s], starts[s + 1] - starts[s]
    w, width = view64(b[MATRICES], (m + 1) * b[SETS])[m * b[SETS] + s], view64(b[ROWS], m + 1)[m]
    out, out_rows = view64(b[PLACES], m + 1)[m], view64(b[OUT_ROWS] + low * 8, count)
    last = min(first + PANEL, width)
    if count >= FEW:
        packed = b[PACKED] + view64(b[TILES], s + 1)[s] * ((cols + 15) // 16) * TILE_COLS * LINE
        scratch = b[SCRATCH] + slot * (PANEL_BYTES + SPILL_BYTES)
        multiply(tag, w, cols, first, last, packed, out, width, out_rows, scratch)
    else:
        _stream(tag, w, cols, first, last, b[X], view64(b[X_ROWS] + low * 8, count), out, width, out_rows)


@item_kernel
def _product_f32(block, item, slot):
    _product_item(F32, block, item, slot)


@item_kernel
def _product_bf16(block, item, slot):
    _product_item(BF16, block, item, slot)


@item_kernel
def _product_f16(block, item, slot):
    _product_item(F16, block, item, slot)


ITEM = {np.dtype(np.float32): _product_f32, np.dtype(np.uint16): _product_bf16, np.dtype(np.int16): _product_f16}


@item_kernel
def _pack_item(block, item, slot):
    """One column tile: the tile of set s that comes as number `item`."""
    b = view64(block, 13)
    starts, tiles, s = view64(b[STARTS], b[SETS] + 1), view64(b[TILES], b[SETS] + 1), 0
    while tiles[s + 1] <= item:
        s += 1
    low = starts[s] + (item - tiles[s]) * TILE_COLS
    rows = view64(b[X_ROWS] + low * 8, min(TILE_COLS, starts[s + 1] - low))
    pack(b[X], b[COLS], rows, b[PACKED] + item * ((b[COLS] + 15) // 16) * TILE_COLS * LINE)


@kernel
def _items(starts, rows):
    """The work, i64[items, 3]: set, kind and first row of each panel, for all sets that have rows."""
    busy, panels = 0, 0
    for s in range(starts.shape[0] - 1):
        busy += starts[s + 1] > starts[s]
    for m in range(rows.shape[0]):
        panels += (rows[m] + PANEL - 1) // PANEL
    items, n = np.empty((busy * panels, 3), np.int64), 0
    for s in range(starts.shape[0] - 1):
        if starts[s + 1] > starts[s]:
            for m in range(rows.shape[0]):
                for first in range(0, rows[m], PANEL):
                    items[n, 0], items[n, 1], items[n, 2] = s, m, first
                    n += 1
    return items


@kernel
def _places(rows, out):
    """Address of the output of each kind: flat `out` holds them one after the other, with equally many rows."""
    places = np.empty(rows.shape[0], np.int64)
    count, before = out.shape[0] // rows.sum(), 0
    for m in range(rows.shape[0]):
        places[m] = address(out) + before * count * 4
        before += rows[m]
    return places


@kernel
def _tile_starts(starts):
    """First packed column tile of each set; sets that are streamed have none."""
    tiles = np.zeros(starts.shape[0], np.int64)
    for s in range(starts.shape[0] - 1):
        count = starts[s + 1] - starts[s]
        tiles[s + 1] = tiles[s] + ((count + TILE_COLS - 1) // TILE_COLS if count >= FEW else 0)
    return tiles


@kernel
def _matmul(control, item, packer, matrices, rows, x, x_rows, starts, out, out_rows, shares):
    """Fill in the operands, pack what is not streamed, do the work."""
    cols, block, work, places = x.shape[1], np.empty(13, np.int64), _items(starts, rows), _places(rows, out)
    tiles = _tile_starts(starts)
    packed = np.empty((tiles[-1] * TILE_COLS * ((cols + 15) // 16) + 1) * 16, np.float32)
    scratch = np.empty((shares * (PANEL_BYTES + SPILL_BYTES) if tiles[-1] > 0 else 4) // 4, np.float32)
    block[MATRICES], block[SETS], block[ROWS] = address(matrices), starts.shape[0] - 1, address(rows)
    block[X], block[COLS], block[X_ROWS] = address(x), cols, address(x_rows)
    block[STARTS], block[TILES], block[PACKED] = address(starts), address(tiles), address(packed)
    block[PLACES], block[OUT_ROWS], block[WORK] = address(places), address(out_rows), address(work)
    block[SCRATCH] = address(scratch)
    if tiles[-1] > 0:
        team.run(control, packer, block, tiles[-1], shares)
    team.run(control, item, block, work.shape[0], shares)
    # All of these are in use through their addresses until here.
    return work.shape[0] + places.shape[0] + packed.shape[0] + scratch.shape[0] + tiles.shape[0]


def matmul(operands, x, x_rows, starts, out_rows, parts):
    """Outputs f32[I, rows[m]] of all kinds: output[out_rows[i]] = W[m,s] x[x_rows[i]] for starts[s] <= i < starts[s+1].

    operands    formats.Operands: addresses i64[M,S] of W[m,s], [rows[m], K] row-major and contiguous
    x           f32[X,K] contiguous; x_rows i64[I]; starts i64[S+1]; out_rows i64[I], a permutation
    parts       number of shares, one per thread; any number gives the same bits
    """
    tag, matrices, rows, _ = operands
    count = x_rows.shape[0]
    widths = rows.tolist()
    out = np.empty(count * sum(widths), np.float32)
    shares = 1 if out.shape[0] * x.shape[1] < SMALL else parts
    packer = _pack_item() if count >= FEW else 0  # compiled only when there is something to pack
    _matmul(team.gather(shares), ITEM[tag.dtype](), packer, matrices, rows, x, x_rows, starts, out, out_rows, shares)
    if len(widths) == 1:
        return [out.reshape(count, widths[0])]
    ends = list(accumulate(widths, initial=0))
    return [out[first * count:last * count].reshape(count, last - first) for first, last in pairwise(ends)]


@lru_cache(64)
def _one_set(tokens):
    """Row numbers and bounds of a single set of all rows."""
    return np.arange(tokens), np.array((0, tokens))


def product(operands, parts):
    """Call x f32[T,K] -> list of f32[T,rows[m]], one for each kind of a single set."""
    def call(x):
        each, bounds = _one_set(x.shape[0])
        return matmul(operands, x, each, bounds, each, parts)

    return call
