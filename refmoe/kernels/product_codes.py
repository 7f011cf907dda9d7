"""product_codes - the work items of kernels.matmul for products of integer codes (clause linear_a8)."""

from refmoe.jit import inlined, kernel
from refmoe.kernels.coded import stream_codes
from refmoe.kernels.matmul import (
    CODES,
    JOB,
    MATRICES,
    OUT_ROWS,
    PLACES,
    ROWS,
    SCRATCH,
    SCRATCH_BYTES,
    SETS,
    STARTS,
    WORK,
    X_ROWS,
)
from refmoe.kernels.matrix import WORDS
from refmoe.kernels.panels import PANEL
from refmoe.kernels.turned import multiply_codes
from refmoe.numerics.vec import view64

FEW = 3  # sets with fewer rows of x than this are streamed


@inlined
def product_codes_item(kind, stored, codes, scales, minima, block, item, slot, apart=None):
    """One panel of one matrix times one set of quantised rows, for a format that stores codes row after row.

    kind    numerics.vec_dots.Kind of the codes; stored, codes, scales, minima, apart: see kernels.coded
    """
    d, first, last, x, x_rows, out, width, out_rows, scratch = _work(block, item, slot)
    if x_rows.shape[0] < FEW:
        stream_codes(kind, stored, codes, scales, minima, apart, d, first, last, x, x_rows, out, width, out_rows,
                     scratch)
    else:
        multiply_codes(kind, stored, codes, scales, minima, d, first, last, x, x_rows, out, width, out_rows, scratch)


@kernel
def _work(block, item, slot):
    """Matrix, rows, codes of x and which of them, outputs and scratch of an item."""
    b = view64(block, JOB)
    work = view64(b[WORK] + item * 24, 3)
    s, m, first = work[0], work[1], work[2]
    d = view64(b[MATRICES] + (m * b[SETS] + s) * WORDS * 8, WORDS)
    starts, width = view64(b[STARTS], b[SETS] + 1), view64(b[ROWS], m + 1)[m]
    low, count = starts[s], starts[s + 1] - starts[s]
    x_rows, out_rows = view64(b[X_ROWS] + low * 8, count), view64(b[OUT_ROWS] + low * 8, count)
    out, scratch = view64(b[PLACES], m + 1)[m], b[SCRATCH] + slot * b[SCRATCH_BYTES]
    return d, first, min(first + PANEL, width), b[CODES], x_rows, out, width, out_rows, scratch
