"""Register-tiled product of one panel of W with packed rows of x: the schedule for many rows.

PANEL rows of W are widened to f32, block of k by block of k; x was packed in tiles of TILE_COLS rows; every output is
one accumulator of sixteen lanes in a register tile. Between blocks of k the partial lanes are stored and loaded again,
which is exact, so that the order of the sum is that of numerics.reduce.dot.
"""

import numpy as np

from refmoe.jit import inlined, kernel
from refmoe.kernels.matrix import COLS
from refmoe.numerics.vec import (
    F32,
    TILE_COLS,
    TILE_ROWS,
    lane,
    load16,
    load_partial,
    prefetch,
    splat,
    store1,
    store16,
    tile_fma,
    tile_load,
    tile_store,
    tile_trees,
    tile_zero,
)

PANEL = 32  # rows of W that one work item owns
BLOCK_K = 32  # vectors of 16 per block of k: 512 elements
BLOCK_X = 32  # column tiles of x per pass over a panel
LINE = 64  # bytes of one vector, of one cache line
TILE_BYTES = TILE_ROWS * TILE_COLS * LINE
PANEL_BYTES = PANEL * BLOCK_K * LINE  # one widened block of a panel
SPILL_BYTES = PANEL * BLOCK_X * TILE_COLS * LINE  # the lanes of one pass


@inlined
def _widen(vector, d, first, last, k0, k1, panel):
    """Rows first..last, vectors k0..k1 of 16 -> panel[tile row][k][TILE_ROWS][16]; absent rows and elements are +0."""
    where = panel
    for r in range(first, first + PANEL, TILE_ROWS):
        for k in range(k0, k1):
            for i in range(r, r + TILE_ROWS):
                if i < last:
                    store16(where, vector(d, i, k))
                else:
                    store16(where, splat(np.float32(0.0)))
                where += LINE


@kernel
def pack(x, cols, x_rows, packed):
    """Up to TILE_COLS gathered rows of x -> packed[k][TILE_COLS][16], padded with +0."""
    vectors = (cols + 15) // 16
    for c in range(TILE_COLS):
        source = x + x_rows[min(c, x_rows.shape[0] - 1)] * cols * 4
        for k in range(vectors):
            where = packed + (k * TILE_COLS + c) * LINE
            if c >= x_rows.shape[0]:
                store16(where, splat(np.float32(0.0)))
            elif k * 16 + 16 <= cols:
                store16(where, load16(F32, source + k * LINE))
            else:
                store16(where, load_partial(F32, source + k * LINE, cols - k * 16))


@kernel
def _tile(w, x, steps, spill, fresh, ahead):
    """Continue one register tile over `steps` vectors of k; its lanes live in `spill` between blocks. From `ahead` on
    half a line for each step is asked for."""
    t = tile_zero(TILE_ROWS, TILE_COLS)
    if not fresh:
        t = tile_load(t, spill)
    for _ in range(steps):
        prefetch(ahead)
        ahead += LINE // 2
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
                x = packed + c * x_step
                _tile(panel + r * steps * TILE_ROWS * LINE, x, steps, spill + (c * rows + r) * TILE_BYTES, fresh,
                      x + 2 * x_step + r * steps * LINE // 2)


@kernel
def _finish(spill, first, last, out, width, out_rows):
    """Trees of all spilled tiles of one pass, stored where they belong; padding is dropped."""
    where = spill
    for c in range(0, out_rows.shape[0], TILE_COLS):
        for r in range(first, first + PANEL, TILE_ROWS):
            y = tile_trees(tile_load(tile_zero(TILE_ROWS, TILE_COLS), where))
            where += TILE_BYTES
            for i in range(TILE_ROWS * TILE_COLS):
                row, col = r + i // TILE_COLS, c + i % TILE_COLS
                if row < last and col < out_rows.shape[0]:
                    store1(out + (out_rows[col] * width + row) * 4, lane(y, i))


@inlined
def multiply(vector, d, first, last, packed, out, width, out_rows, scratch):
    """Rows first..last (one panel) of the matrix `d` times all packed rows of its set; `vector` reads the matrix."""
    panel, spill = scratch, scratch + PANEL_BYTES
    vectors = (d[COLS] + 15) // 16
    x_step = vectors * TILE_COLS * LINE
    tiles = (out_rows.shape[0] + TILE_COLS - 1) // TILE_COLS
    for c in range(0, tiles, BLOCK_X):
        count = min(BLOCK_X, tiles - c)
        for k in range(0, vectors, BLOCK_K):
            steps = min(BLOCK_K, vectors - k)
            _widen(vector, d, first, last, k, k + steps, panel)
            _block(panel, packed + c * x_step + k * TILE_COLS * LINE, x_step, count, steps, spill, k == 0)
        _finish(spill, first, last, out, width, out_rows[c * TILE_COLS:(c + count) * TILE_COLS])
