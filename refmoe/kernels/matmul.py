"""Grouped matrix product: several matrices applied to several sets of rows of x in one launch.

There are M kinds of matrices (gate and up; q, k and v; or one) and S sets of rows (the rows routed to each expert; or
one). Kind m has its own matrix for every set, and its own output. Every output is numerics.reduce.dot of one row of
W_eff and one row of x: sixteen lanes, fma in ascending k, halving tree. What varies is only the order in which outputs
are visited:
- a set of few rows streams W row by row (`stream` of kernels.matrix);
- a set of many rows packs x and multiplies register tiles (kernels.panels).
Matrices whose descriptors name an item for integer codes are multiplied with codes of x (kernels.coded, kernels.turned;
clause linear_a8).
The work items are (set, kind, panel), shared between the threads of kernels.team. Matrices of any formats may stand
side by side: each descriptor names the work item of its own format.
"""

from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from refmoe.jit import inlined, item_kernel, kernel
from refmoe.kernels import team
from refmoe.kernels.matrix import (
    AHEAD,
    BASE,
    COLS,
    FIRST,
    PRODUCT,
    ROW_BYTES,
    WORDS,
    stream_bf16,
    stream_f16,
    stream_f32,
    vector_bf16,
    vector_f16,
    vector_f32,
)
from refmoe.kernels.panels import LINE, PANEL, PANEL_BYTES, SPILL_BYTES, multiply, pack
from refmoe.kernels.quantise import quantise_row, row_bytes
from refmoe.kernels.turned import scratch_bytes
from refmoe.numerics.vec import (
    F32,
    TILE_COLS,
    address,
    call_item,
    load1,
    load16,
    prefetch,
    splat,
    store16,
    vfma,
    view64,
)

FEW = 4 * TILE_COLS // 2  # sets with fewer rows of x than this are streamed
SMALL = 1 << 19  # multiplications below which sharing costs more than it gains
# Operands of a job, int64: addresses unless said otherwise
(MATRICES, SETS, ROWS, X, COLUMNS, X_ROWS, STARTS, TILES, PACKED, PLACES, OUT_ROWS, WORK, SCRATCH, SCRATCH_BYTES,
 CODES) = range(15)
JOB = 15  # words of a job


@inlined
def product_item(stream, vector, block, item, slot):
    """One panel of one matrix times one set of rows, with the two functions of the matrix's format; or, of a job made
    by `walk_rows`, what that says."""
    b = view64(block, JOB)
    if b[X] == 0:
        _walk_rows(vector, view64(b[MATRICES], WORDS), b[STARTS], b[ROWS], b[PACKED], b[PLACES])
        return
    work = view64(b[WORK] + item * 24, 3)
    s, m, first = work[0], work[1], work[2]
    d = view64(b[MATRICES] + (m * b[SETS] + s) * WORDS * 8, WORDS)
    starts, width = view64(b[STARTS], b[SETS] + 1), view64(b[ROWS], m + 1)[m]
    low, count = starts[s], starts[s + 1] - starts[s]
    out_rows, last = view64(b[OUT_ROWS] + low * 8, count), min(first + PANEL, width)
    out = view64(b[PLACES], m + 1)[m] - d[FIRST] * 4  # so that row FIRST of the matrix is column 0 of the output
    first, last = first + d[FIRST], last + d[FIRST]
    if count >= FEW:
        packed = b[PACKED] + view64(b[TILES], s + 1)[s] * ((b[COLUMNS] + 15) // 16) * TILE_COLS * LINE
        scratch = b[SCRATCH] + slot * b[SCRATCH_BYTES]
        multiply(vector, d, first, last, packed, out, width, out_rows, scratch)
    else:
        stream(d, first, last, b[X], view64(b[X_ROWS] + low * 8, count), out, width, out_rows)


@inlined
def _walk_rows(vector, d, first, count, x, out):
    vectors = (d[COLS] + 15) // 16
    for r in range(count):
        if x == 0:
            for k in range(vectors):
                store16(out + (r * vectors + k) * LINE, vector(d, first + r, k))
        else:
            ahead = d[BASE] + (first + r) * d[ROW_BYTES] + AHEAD
            for line in range(ahead, ahead + d[ROW_BYTES], LINE):
                prefetch(line)
            scale, lanes = splat(load1(x + r * 4)), out + r % 16 * vectors * LINE
            for k in range(vectors):
                store16(lanes + k * LINE, vfma(vector(d, first + r, k), scale, load16(F32, lanes + k * LINE)))


@item_kernel
def product_f32(block, item, slot):
    """product_item of binary32 elements."""
    product_item(stream_f32, vector_f32, block, item, slot)


@item_kernel
def product_bf16(block, item, slot):
    """product_item of bfloat16 elements."""
    product_item(stream_bf16, vector_bf16, block, item, slot)


@item_kernel
def product_f16(block, item, slot):
    """product_item of binary16 elements."""
    product_item(stream_f16, vector_f16, block, item, slot)


@kernel
def walk_rows(d, first, count, x, out):
    """Rows first .. first+count-1 of a matrix of any format, each padded with +0 to whole vectors of 16.

    With x = 0 they are written as f32 to address out. Else x is the address of f32[count], and row r times x[r] is
    added by fma to row r mod 16 of the sixteen rows at address out. `d` is the descriptor i64[16] of the matrix.
    """
    block = np.zeros(JOB, np.int64)
    block[MATRICES], block[STARTS], block[ROWS], block[PACKED], block[PLACES] = address(d), first, count, x, out
    call_item(d[PRODUCT], address(block), np.int64(0), np.int64(0))
    return block.shape[0]  # in use through its address until here


@item_kernel
def _any_format(block, item, slot):
    """Hand an item to the function that the matrix's descriptor names."""
    b = view64(block, JOB)
    work = view64(b[WORK] + item * 24, 3)
    d = view64(b[MATRICES] + (work[1] * b[SETS] + work[0]) * WORDS * 8, WORDS)
    call_item(d[PRODUCT], block, item, slot)


@item_kernel
def _pack_item(block, item, slot):
    """One column tile: the tile of set s that comes as number `item`."""
    b = view64(block, JOB)
    starts, tiles, s = view64(b[STARTS], b[SETS] + 1), view64(b[TILES], b[SETS] + 1), 0
    while tiles[s + 1] <= item:
        s += 1
    low = starts[s] + (item - tiles[s]) * TILE_COLS
    rows = view64(b[X_ROWS] + low * 8, min(TILE_COLS, starts[s + 1] - low))
    pack(b[X], b[COLUMNS], rows, b[PACKED] + item * ((b[COLUMNS] + 15) // 16) * TILE_COLS * LINE)


@item_kernel
def _quantise_item(block, item, slot):
    """One row of x as codes."""
    b = view64(block, JOB)
    quantise_row(b[X] + item * b[COLUMNS] * 4, b[COLUMNS], b[CODES] + item * row_bytes(b[COLUMNS]))


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
def _tile_starts(starts, plain):
    """First packed column tile of each set; sets that are streamed have none, nor has a job without plain matrices."""
    tiles = np.zeros(starts.shape[0], np.int64)
    for s in range(starts.shape[0] - 1):
        count = starts[s + 1] - starts[s]
        tiles[s + 1] = tiles[s] + ((count + TILE_COLS - 1) // TILE_COLS if plain and count >= FEW else 0)
    return tiles


@kernel
def _aligned(size):
    """Bytes from a whole cache line on, and the address of that line."""
    block = np.empty(size + LINE, np.uint8)
    return block, (address(block) + LINE - 1) // LINE * LINE


@kernel
def _matmul(control, item, packer, quantiser, matrices, rows, x, x_rows, starts, out, out_rows, shares):
    """Fill in the operands, pack what is not streamed, do the work; packer and quantiser are 0 if there is no need."""
    cols, block, work, places = x.shape[1], np.empty(JOB, np.int64), _items(starts, rows), _places(rows, out)
    tiles = _tile_starts(starts, packer != 0)
    packed, block[PACKED] = _aligned(tiles[-1] * TILE_COLS * ((cols + 15) // 16) * LINE)
    size = max(PANEL_BYTES + SPILL_BYTES if tiles[-1] > 0 else 4, scratch_bytes(cols) if quantiser != 0 else 4)
    scratch, first = _aligned(shares * size)
    codes, block[CODES] = _aligned(x.shape[0] * row_bytes(cols) if quantiser != 0 else 4)
    block[MATRICES], block[SETS], block[ROWS] = address(matrices), starts.shape[0] - 1, address(rows)
    block[X], block[COLUMNS], block[X_ROWS] = address(x), cols, address(x_rows)
    block[STARTS], block[TILES] = address(starts), address(tiles)
    block[PLACES], block[OUT_ROWS], block[WORK] = address(places), address(out_rows), address(work)
    block[SCRATCH], block[SCRATCH_BYTES] = first, size
    if tiles[-1] > 0:
        team.run(control, packer, block, tiles[-1], shares)
    if quantiser != 0:
        team.run(control, quantiser, block, x.shape[0], shares)
    team.run(control, item, block, work.shape[0], shares)
    # All of these are in use through their addresses until here.
    return work.shape[0] + places.shape[0] + packed.shape[0] + scratch.shape[0] + tiles.shape[0] + codes.shape[0]


def matmul(operands, x, x_rows, starts, out_rows, parts):
    """Outputs f32[I, rows[m]] of all kinds: output[out_rows[i]] = W[m,s] x[x_rows[i]] for starts[s] <= i < starts[s+1].

    operands    formats.Operands: descriptors i64[M,S,16] of W[m,s], rows i64[M]
    x           f32[X,K] contiguous; x_rows i64[I]; starts i64[S+1]; out_rows i64[I], a permutation
    parts       number of shares, one per thread; any number gives the same bits
    """
    matrices, rows = operands.descriptors, operands.rows
    count = x_rows.shape[0]
    widths = rows.tolist()
    out = np.empty(count * sum(widths), np.float32)
    shares = 1 if out.shape[0] * x.shape[1] < SMALL else parts
    packer = _pack_item() if operands.plain and count >= FEW else 0  # compiled only when there is something to pack
    quantiser = _quantise_item() if operands.coded else 0
    _matmul(team.gather(shares), _any_format(), packer, quantiser, matrices, rows, x, x_rows, starts, out, out_rows,
            shares)
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
