"""Grouped matrix product: many matrices, each applied to its own rows of x. `linear` is the case of one group.

Every output is numerics.reduce.dot of one row of W_eff and one row of x: sixteen lanes, fma in ascending k, halving
tree. What varies is only the order in which outputs are visited:
- a group of few rows streams W row by row: one linear walk through memory, which hardware prefetch follows (`_stream`);
- a group of many rows widens PANEL rows of W to f32, packs x, and multiplies register tiles (`_multiply`); between
  blocks of k the partial lanes are stored and loaded again, which is exact.
Threads take disjoint parts of the list (group, panel), cut where the estimated work is equal.
"""

from functools import lru_cache

import numpy as np

from refmoe.jit import kernel, parallel_kernel, prange
from refmoe.numerics.vec import (
    F32,
    TILE_COLS,
    TILE_ROWS,
    address,
    lane,
    load16,
    load_partial,
    splat,
    store1,
    store16,
    tile_fma,
    tile_fma_partial,
    tile_load,
    tile_store,
    tile_trees,
    tile_zero,
)

PANEL = 32  # rows of W that one work item owns
FEW = 4 * TILE_COLS // 2  # groups with fewer rows of x than this are streamed
BLOCK_K = 32  # vectors of 16 per block of k: 512 elements
BLOCK_X = 16  # column tiles of x per pass over a panel
SMALL = 1 << 19  # multiplications below which sharing costs more than it gains
LINE = 64  # bytes of one vector, of one cache line
TILE_BYTES = TILE_ROWS * TILE_COLS * LINE


@kernel
def _stream(tag, w, row_bytes, cols, first, last, x, x_rows, out, out_rows):
    """Rows first..last of one matrix times all rows of x in the group; W is read once, front to back."""
    size = tag.itemsize
    whole = cols // 16 * 16
    x_base, out_base = address(x), address(out)
    for r in range(first, last):
        row = w + r * row_bytes
        for s in range(x_rows.shape[0]):
            xs = x_base + x_rows[s] * cols * 4
            t = tile_zero(1, 1)
            for k in range(0, whole, 16):
                t = tile_fma(t, tag, row + k * size, 0, xs + k * 4, 0)
            if whole < cols:
                t = tile_fma_partial(t, tag, row + whole * size, 0, xs + whole * 4, 0, cols - whole)
            store1(out_base + (out_rows[s] * out.shape[1] + r) * 4, lane(tile_trees(t), 0))


@kernel
def _widen_panel(tag, w, row_bytes, cols, first, last, k0, k1, panel):
    """Rows first..last, vectors k0..k1 of 16 -> panel[tile row][k][TILE_ROWS][16]; absent rows and elements are +0."""
    size = tag.itemsize
    where = address(panel)
    for r in range(first, first + PANEL, TILE_ROWS):
        for k in range(k0, k1):
            for i in range(r, r + TILE_ROWS):
                source = w + i * row_bytes + k * 16 * size
                if i >= last:
                    store16(where, splat(np.float32(0.0)))
                elif k * 16 + 16 <= cols:
                    store16(where, load16(tag, source))
                else:
                    store16(where, load_partial(tag, source, cols - k * 16))
                where += LINE


@kernel
def _pack(x, x_rows, packed, tile):
    """TILE_COLS gathered rows of x -> packed[tile][k][TILE_COLS][16], padded with +0."""
    cols = x.shape[1]
    vectors = (cols + 15) // 16
    base = address(packed) + tile * vectors * TILE_COLS * LINE
    for c in range(TILE_COLS):
        source = address(x) + x_rows[min(c, x_rows.shape[0] - 1)] * cols * 4
        for k in range(vectors):
            where = base + (k * TILE_COLS + c) * LINE
            if c >= x_rows.shape[0]:
                store16(where, splat(np.float32(0.0)))
            elif k * 16 + 16 <= cols:
                store16(where, load16(F32, source + k * LINE))
            else:
                store16(where, load_partial(F32, source + k * LINE, cols - k * 16))


@kernel
def _tile(w, x, steps, spill, fresh):
    """Continue one register tile over `steps` vectors of k; its lanes live in `spill` between blocks."""
    t = tile_zero(TILE_ROWS, TILE_COLS)
    if not fresh:
        t = tile_load(t, spill)
    for _ in range(steps):
        t = tile_fma(t, F32, w, LINE, x, LINE)
        w += TILE_ROWS * LINE
        x += TILE_COLS * LINE
    tile_store(spill, t)


@kernel
def _block(panel, packed, x_step, tiles, steps, spill, fresh):
    """One block of k for a panel and `tiles` column tiles; two column tiles share each visit of a tile row."""
    rows = PANEL // TILE_ROWS
    for pair in range(0, tiles, 2):
        for r in range(rows):
            for c in range(pair, min(pair + 2, tiles)):
                _tile(panel + r * steps * TILE_ROWS * LINE, packed + c * x_step, steps,
                      spill + (c * rows + r) * TILE_BYTES, fresh)


@kernel
def _finish(spill, first, last, out, out_rows):
    """Trees of all spilled tiles of one pass, stored where they belong; padding is dropped."""
    where = address(spill)
    base = address(out)
    for c in range(0, out_rows.shape[0], TILE_COLS):
        for r in range(first, first + PANEL, TILE_ROWS):
            y = tile_trees(tile_load(tile_zero(TILE_ROWS, TILE_COLS), where))
            where += TILE_BYTES
            for i in range(TILE_ROWS * TILE_COLS):
                row, col = r + i // TILE_COLS, c + i % TILE_COLS
                if row < last and col < out_rows.shape[0]:
                    store1(base + (out_rows[col] * out.shape[1] + row) * 4, lane(y, i))


@kernel
def _multiply(tag, w, row_bytes, cols, first, last, packed, out, out_rows, panel, spill):
    """One panel of one matrix times all packed rows of its group."""
    vectors = (cols + 15) // 16
    x_step = vectors * TILE_COLS * LINE
    tiles = (out_rows.shape[0] + TILE_COLS - 1) // TILE_COLS
    for c in range(0, tiles, BLOCK_X):
        count = min(BLOCK_X, tiles - c)
        for k in range(0, vectors, BLOCK_K):
            steps = min(BLOCK_K, vectors - k)
            _widen_panel(tag, w, row_bytes, cols, first, last, k, k + steps, panel)
            _block(address(panel), packed + c * x_step + k * TILE_COLS * LINE, x_step, count, steps, address(spill),
                   k == 0)
        _finish(spill, first, last, out, out_rows[c * TILE_COLS:(c + count) * TILE_COLS])


@kernel
def _share(starts, panels, part, parts):
    """First item (group * panels + panel) of a part: items are cut where the estimated work is equal."""
    total = np.int64(0)
    for g in range(starts.shape[0] - 1):
        if starts[g + 1] > starts[g]:
            total += panels * (8 + starts[g + 1] - starts[g])
    target = total * part // parts
    for g in range(starts.shape[0] - 1):
        count = starts[g + 1] - starts[g]
        if count > 0:
            if target < panels * (8 + count):
                return g * panels + target // (8 + count)
            target -= panels * (8 + count)
    return (starts.shape[0] - 1) * panels


@kernel
def _run(tag, addresses, cols, x, x_rows, starts, tiles, packed, out, out_rows, begin, end):
    """Work items begin..end of the list (group, panel)."""
    rows = out.shape[1]
    panels = (rows + PANEL - 1) // PANEL
    row_bytes = cols * tag.itemsize
    x_step = (cols + 15) // 16 * TILE_COLS * LINE
    room = PANEL if tiles[-1] > 0 else 0  # streamed groups need none, and a large allocation would cost them time
    panel = np.empty(room * BLOCK_K * 16 + 16, np.float32)
    spill = np.empty(room * BLOCK_X * TILE_COLS * 16 + 16, np.float32)
    for item in range(begin, end):
        g, first = item // panels, item % panels * PANEL
        low, high = starts[g], starts[g + 1]
        last = min(first + PANEL, rows)
        if high - low >= FEW:
            _multiply(tag, addresses[g], row_bytes, cols, first, last, address(packed) + tiles[g] * x_step, out,
                      out_rows[low:high], panel, spill)
        elif high > low:
            _stream(tag, addresses[g], row_bytes, cols, first, last, x, x_rows[low:high], out, out_rows[low:high])


@kernel
def _tile_starts(starts):
    """First packed column tile of each group; groups that are streamed have none."""
    tiles = np.zeros(starts.shape[0], np.int64)
    for g in range(starts.shape[0] - 1):
        count = starts[g + 1] - starts[g]
        tiles[g + 1] = tiles[g] + ((count + TILE_COLS - 1) // TILE_COLS if count >= FEW else 0)
    return tiles


@kernel
def _pack_part(x, x_rows, starts, tiles, packed, part, parts):
    """Pack every parts-th column tile."""
    for g in range(starts.shape[0] - 1):
        for tile in range(tiles[g], tiles[g + 1]):
            if tile % parts == part:
                low = starts[g] + (tile - tiles[g]) * TILE_COLS
                _pack(x, x_rows[low:min(low + TILE_COLS, starts[g + 1])], packed, tile)


@kernel
def _empty_packed(tiles, cols):
    """Room for the packed column tiles of all groups, and one vector more, so that it is never empty."""
    return np.empty(tiles[-1] * TILE_COLS * ((cols + 15) // 16) * 16 + 16, np.float32)


@kernel
def serial_matmul(tag, addresses, x, x_rows, starts, out, out_rows):
    """parallel_matmul on the calling thread alone."""
    tiles = _tile_starts(starts)
    packed = _empty_packed(tiles, x.shape[1])
    _pack_part(x, x_rows, starts, tiles, packed, np.int64(0), np.int64(1))
    items = (starts.shape[0] - 1) * ((out.shape[1] + PANEL - 1) // PANEL)
    _run(tag, addresses, x.shape[1], x, x_rows, starts, tiles, packed, out, out_rows, np.int64(0), items)


@parallel_kernel
def parallel_matmul(tag, addresses, x, x_rows, starts, out, out_rows, parts):
    """grouped_matmul with the work shared between `parts` threads."""
    tiles = _tile_starts(starts)
    packed = _empty_packed(tiles, x.shape[1])
    if tiles[-1] > 0:
        for part in prange(parts):
            _pack_part(x, x_rows, starts, tiles, packed, part, parts)
    panels = (out.shape[1] + PANEL - 1) // PANEL
    for part in prange(parts):
        _run(tag, addresses, x.shape[1], x, x_rows, starts, tiles, packed, out, out_rows,
             _share(starts, panels, part, parts), _share(starts, panels, part + 1, parts))


def grouped_matmul(tag, addresses, x, x_rows, starts, out, out_rows, parts):
    """out[out_rows[s]] = W_g x[x_rows[s]] for starts[g] <= s < starts[g+1].

    tag         element type of W (numerics.vec); addresses int64[G]: matrices [N, K] row-major, contiguous
    x f32[X, K] contiguous; x_rows int64[S]; starts int64[G+1]; out f32[Y, N] contiguous; out_rows int64[S]
    parts       number of shares, one per thread; any number gives the same bits
    """
    if parts == 1 or x_rows.shape[0] * out.shape[1] * x.shape[1] < SMALL:
        serial_matmul(tag, addresses, x, x_rows, starts, out, out_rows)
    else:
        parallel_matmul(tag, addresses, x, x_rows, starts, out, out_rows, parts)


@lru_cache(64)
def _one_group(tokens):
    """Row numbers and bounds of a single group of all rows."""
    return np.arange(tokens), np.array((0, tokens))


def product(tag, addresses, rows, parts):
    """Call x f32[T,K] -> f32[T,N] for one stored matrix of `rows` = N rows."""
    def call(x):
        out = np.empty((x.shape[0], rows), np.float32)
        each, bounds = _one_group(x.shape[0])
        grouped_matmul(tag, addresses, x, each, bounds, out, each, parts)
        return out

    return call
