"""Grouped matrix product: several matrices applied to several sets of rows of x in one launch.

There are M kinds of matrices (gate and up; q, k and v; or one) and S sets of rows (the rows routed to each expert; or
one). Kind m has its own matrix for every set, and its own output. Every output is numerics.reduce.dot of one row of
W_eff and one row of x: sixteen lanes, fma in ascending k, halving tree. What varies is only the order in which outputs
are visited:
- a set of few rows streams W row by row: one linear walk through memory, which hardware prefetch follows (`_stream`);
- a set of many rows widens PANEL rows of W to f32, packs x, and multiplies register tiles (`_multiply`); between
  blocks of k the partial lanes are stored and loaded again, which is exact.
Each thread walks its own share of the items (set, kind, panel) front to back and then helps with the other shares, so
that none waits for a slower one.
"""

from functools import lru_cache
from itertools import accumulate, pairwise

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
    take,
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
def _stream(tag, w, cols, first, last, x, x_rows, out, width, out_rows):
    """Rows first..last of one matrix times all rows of x in the set; W is read once, front to back."""
    size = tag.itemsize
    whole = cols // 16 * 16
    x_base = address(x)
    for r in range(first, last):
        row = w + r * cols * size
        for s in range(x_rows.shape[0]):
            xs = x_base + x_rows[s] * cols * 4
            t = tile_zero(1, 1)
            for k in range(0, whole, 16):
                t = tile_fma(t, tag, row + k * size, 0, xs + k * 4, 0)
            if whole < cols:
                t = tile_fma_partial(t, tag, row + whole * size, 0, xs + whole * 4, 0, cols - whole)
            store1(out + (out_rows[s] * width + r) * 4, lane(tile_trees(t), 0))


@kernel
def _widen_panel(tag, w, cols, first, last, k0, k1, panel):
    """Rows first..last, vectors k0..k1 of 16 -> panel[tile row][k][TILE_ROWS][16]; absent rows and elements are +0."""
    size = tag.itemsize
    where = address(panel)
    for r in range(first, first + PANEL, TILE_ROWS):
        for k in range(k0, k1):
            for i in range(r, r + TILE_ROWS):
                source = w + (i * cols + k * 16) * size
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
def _finish(spill, first, last, out, width, out_rows):
    """Trees of all spilled tiles of one pass, stored where they belong; padding is dropped."""
    where = address(spill)
    for c in range(0, out_rows.shape[0], TILE_COLS):
        for r in range(first, first + PANEL, TILE_ROWS):
            y = tile_trees(tile_load(tile_zero(TILE_ROWS, TILE_COLS), where))
            where += TILE_BYTES
            for i in range(TILE_ROWS * TILE_COLS):
                row, col = r + i // TILE_COLS, c + i % TILE_COLS
                if row < last and col < out_rows.shape[0]:
                    store1(out + (out_rows[col] * width + row) * 4, lane(y, i))


@kernel
def _multiply(tag, w, cols, first, last, packed, out, width, out_rows, panel, spill):
    """One panel of one matrix times all packed rows of its set."""
    vectors = (cols + 15) // 16
    x_step = vectors * TILE_COLS * LINE
    tiles = (out_rows.shape[0] + TILE_COLS - 1) // TILE_COLS
    for c in range(0, tiles, BLOCK_X):
        count = min(BLOCK_X, tiles - c)
        for k in range(0, vectors, BLOCK_K):
            steps = min(BLOCK_K, vectors - k)
            _widen_panel(tag, w, cols, first, last, k, k + steps, panel)
            _block(address(panel), packed + c * x_step + k * TILE_COLS * LINE, x_step, count, steps, address(spill),
                   k == 0)
        _finish(spill, first, last, out, width, out_rows[c * TILE_COLS:(c + count) * TILE_COLS])


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
def _pack_part(x, x_rows, starts, tiles, packed, part, parts):
    """Pack every parts-th column tile."""
    for s in range(starts.shape[0] - 1):
        for tile in range(tiles[s], tiles[s + 1]):
            if tile % parts == part:
                low = starts[s] + (tile - tiles[s]) * TILE_COLS
                _pack(x, x_rows[low:min(low + TILE_COLS, starts[s + 1])], packed, tile)


@kernel
def _item(tag, w, x, x_rows, packed, out, width, out_rows, first, panel, spill):
    """One panel of one matrix times one set of rows."""
    cols = x.shape[1]
    last = min(first + PANEL, width)
    if x_rows.shape[0] >= FEW:
        _multiply(tag, w, cols, first, last, packed, out, width, out_rows, panel, spill)
    else:
        _stream(tag, w, cols, first, last, x, x_rows, out, width, out_rows)


@kernel
def _run(tag, matrices, rows, x, x_rows, starts, tiles, packed, out, out_rows, items, counters, part, parts):
    """All items of share `part`, front to back, then what is left of the other shares."""
    room = PANEL if tiles[-1] > 0 else 0  # streamed sets need none, and a large allocation would cost them time
    panel = np.empty(room * BLOCK_K * 16 + 16, np.float32)
    spill = np.empty(room * BLOCK_X * TILE_COLS * 16 + 16, np.float32)
    x_step = (x.shape[1] + 15) // 16 * TILE_COLS * LINE
    places = _places(rows, out)
    for other in range(parts):
        share = (part + other) % parts
        first, end = items.shape[0] * share // parts, items.shape[0] * (share + 1) // parts
        n = first + take(address(counters) + share * LINE)
        while n < end:
            s, m = items[n, 0], items[n, 1]
            low, high = starts[s], starts[s + 1]
            _item(tag, matrices[m, s], x, x_rows[low:high], address(packed) + tiles[s] * x_step, places[m],
                  rows[m], out_rows[low:high], items[n, 2], panel, spill)
            n = first + take(address(counters) + share * LINE)


@kernel
def serial_matmul(tag, matrices, rows, x, x_rows, starts, tiles, packed, out, out_rows):
    """parallel_matmul on the calling thread alone."""
    _run(tag, matrices, rows, x, x_rows, starts, tiles, packed, out, out_rows, _items(starts, rows),
         np.zeros(8, np.int64), np.int64(0), np.int64(1))


@parallel_kernel
def parallel_matmul(tag, matrices, rows, x, x_rows, starts, tiles, packed, out, out_rows, parts):
    """The kernel behind `matmul`, with the work shared between `parts` threads."""
    items = _items(starts, rows)
    counters = np.zeros(parts * 8, np.int64)  # one cache line each
    for part in prange(parts):
        _run(tag, matrices, rows, x, x_rows, starts, tiles, packed, out, out_rows, items, counters, np.int64(part),
             parts)


@parallel_kernel
def parallel_pack(x, x_rows, starts, tiles, packed, parts):
    """Pack all column tiles, shared between `parts` threads."""
    for part in prange(parts):
        _pack_part(x, x_rows, starts, tiles, packed, np.int64(part), parts)


@lru_cache(64)
def _nothing_packed(sets):
    """Operands `tiles` and `packed` when every set is streamed."""
    return np.zeros(sets + 1, np.int64), np.empty(16, np.float32)


def _packed(x, x_rows, starts, parts):
    """Operands `tiles` and `packed`; sets of many rows are packed."""
    if x_rows.shape[0] < FEW:
        return _nothing_packed(starts.shape[0] - 1)
    tiles = _tile_starts(starts)
    packed = np.empty((tiles[-1] * TILE_COLS * ((x.shape[1] + 15) // 16) + 1) * 16, np.float32)
    if parts == 1 or packed.shape[0] < SMALL:
        _pack_part(x, x_rows, starts, tiles, packed, 0, 1)
    else:
        parallel_pack(x, x_rows, starts, tiles, packed, parts)
    return tiles, packed


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
    tiles, packed = _packed(x, x_rows, starts, parts)
    if parts == 1 or out.shape[0] * x.shape[1] < SMALL:
        serial_matmul(tag, matrices, rows, x, x_rows, starts, tiles, packed, out, out_rows)
    else:
        parallel_matmul(tag, matrices, rows, x, x_rows, starts, tiles, packed, out, out_rows, parts)
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
