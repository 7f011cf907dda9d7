"""Schedule of absorb_query: sums down the columns of a matrix, sixteen columns to a vector.

One work item is a head: its key rows are widened to f32 once, whatever their format. A register tile holds 4 rows of x
(or one) by 64 columns and gathers one lane of the reduction after the other (p = lane, lane + 16, ...); the sixteen
partial tiles are then added as the halving tree says.
"""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels import team
from refmoe.kernels.matmul import widen_rows
from refmoe.numerics.vec import (
    F32,
    address,
    load1,
    load16,
    store1,
    store16,
    store_partial,
    tile_add,
    tile_load,
    tile_scale_add,
    tile_store,
    tile_zero,
    view64,
)

LINE = 64  # bytes of a vector
SPAN = 4  # vectors of a tile
GROUP = 4  # rows of x of a tile
LANES_BYTES = 16 * GROUP * SPAN * LINE
SMALL = 1 << 18  # multiplications below which sharing costs more than it gains
# Operands of a job, int64: addresses, counts and sizes
X, MATRIX, OUT, TOKENS, HEADS, SIZE, HEAD_ROWS, RANK, SCRATCH, SCRATCH_BYTES = range(10)


@kernel
def _columns(zero, panel, step, x, rows, size, lanes):
    """The sums of one tile of columns at `panel` (rows of `step` bytes) for x[p][rows]; they end up at `lanes`."""
    bytes_of_tile = rows * SPAN * LINE
    for lane in range(16):
        t = zero
        for p in range(lane, size, 16):
            t = tile_scale_add(t, F32, x + p * rows * 4, panel + p * step)
        if lane >= size % 16 and size % 16 > 0:
            t = tile_add(t, zero)  # the padding of the reduction: -0 becomes +0
        tile_store(lanes + lane * bytes_of_tile, t)
    half = 8
    while half > 0:
        for lane in range(half):
            where = lanes + lane * bytes_of_tile
            tile_store(where, tile_add(tile_load(zero, where), tile_load(zero, where + half * bytes_of_tile)))
        half //= 2


@kernel
def _write(lanes, first, rows, rank, span, out, width):
    """Columns first.. of `rows` sums to f32 out[row][rank] at address out, rows of `width` values."""
    for i in range(rows):
        for c in range(SPAN):
            rest = rank - (first + c) * 16
            y, where = load16(F32, lanes + (i * span + c) * LINE), out + (i * width + (first + c) * 16) * 4
            if rest >= 16:
                store16(where, y)
            elif rest > 0:
                store_partial(where, y, rest)


@kernel
def _head(zero, rows, b, n, t, panel, packed, lanes):
    """`rows` rows of x from row t on (absent ones repeat the last) times the panel of head n."""
    size, heads, rank = b[SIZE], b[HEADS], b[RANK]
    vectors = (rank + 15) // 16
    for i in range(rows):
        source = b[X] + (min(t + i, b[TOKENS] - 1) * heads + n) * size * 4
        for p in range(size):
            store1(packed + (p * rows + i) * 4, load1(source + p * 4))
    out = b[OUT] + (t * heads + n) * rank * 4
    for k in range(0, vectors, SPAN):
        _columns(zero, panel + k * LINE, vectors * LINE, packed, rows, size, lanes)
        _write(lanes, k, min(rows, b[TOKENS] - t), rank, SPAN, out, heads * rank)


@item_kernel
def _absorb_item(block, item, slot):
    """All rows of x for one head."""
    b = view64(block, 10)
    lanes = b[SCRATCH] + slot * b[SCRATCH_BYTES]
    packed = lanes + LANES_BYTES
    panel = packed + (b[SIZE] * GROUP + 15) // 16 * LINE
    widen_rows(view64(b[MATRIX], 16), item * b[HEAD_ROWS], b[SIZE], panel)
    t = 0
    while t < b[TOKENS]:
        if b[TOKENS] - t == 1:
            _head(tile_zero(1, SPAN), 1, b, item, t, panel, packed, lanes)
        else:
            _head(tile_zero(GROUP, SPAN), GROUP, b, item, t, panel, packed, lanes)
        t += GROUP


@kernel
def _absorb(control, item, x, descriptor, heads, head_rows, rank, out, shares):
    """Fill in the operands and do the work."""
    block, size = np.empty(10, np.int64), x.shape[1] // heads
    panel = (size * ((rank + 15) // 16) + SPAN) * LINE  # the last tile may look beyond the last row
    each = LANES_BYTES + (size * GROUP + 15) // 16 * LINE + panel
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
