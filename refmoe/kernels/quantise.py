"""quantise - rows of x as integer codes with a scale for each group of 32 (clause activation_codes, R1 to R5).

A quantised row has P columns, K padded to whole chunks of 512, and holds one after the other
    P codes, signed bytes, then
    for units of 32:  P/32 scales f32,  P/32 sums of codes, times -1, i32,  P/32 sums of codes f32
    for units of 16:  P/16 scales (of the group),  P/16 sums, times -1,  P/16 sums f32, then
    the P codes again, of 128 columns first the first halves of their four groups, then the second ones
Beyond K all of them are 0.
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.kernels.matrix import load_x
from refmoe.numerics.activation_codes import GROUP, MAGIC, SMALLEST
from refmoe.numerics.vec import splat, store1, vadd, vmul
from refmoe.numerics.vec_codes import (
    bits,
    imax,
    isplat,
    isub,
    largest,
    mask,
    store_int,
    total,
)
from refmoe.numerics.vec_panels import store_codes

PADDING = 512
MAGIC_BITS = np.int32(0x4B400000)
INFINITE = 0x7F800000


@kernel
def padded(cols):
    """P of a row of K columns."""
    return (cols + PADDING - 1) // PADDING * PADDING


@kernel
def tables_at(cols, unit):
    """Where the three tables for units of 32 or of 16 begin in a quantised row; each has P / unit entries."""
    size = padded(cols)
    return size if unit == 32 else size + size // 32 * 12


@kernel
def halves_at(cols):
    """Where the codes in halves of groups begin in a quantised row."""
    size = padded(cols)
    return size + size // 32 * 12 + size // 16 * 12


@kernel
def row_bytes(cols):
    """Bytes of a quantised row."""
    return halves_at(cols) + padded(cols)


@kernel
def _entry(table, count, at, scale, number):
    """Entry `at` of three tables of `count` entries."""
    store1(table + at * 4, scale)
    store_int(table + (count + at) * 4, -number)
    store1(table + (2 * count + at) * 4, np.float32(number))


@kernel
def quantise_row(x, cols, target):
    """One row of f32 at address x -> a quantised row at address `target`."""
    size = padded(cols)
    large, small, apart = target + tables_at(cols, 32), target + tables_at(cols, 16), target + halves_at(cols)
    for g in range(size // GROUP):
        a, b = load_x(x, cols, 2 * g), load_x(x, cols, 2 * g + 1)
        top = largest(imax(mask(bits(a), 0x7FFFFFFF), mask(bits(b), 0x7FFFFFFF)))
        scale, inverse = np.float32(np.nan), np.float32(0.0)
        if top < INFINITE:
            scale = np.float32(np.int32(top).view(np.float32) / np.float32(127.0))
            if scale < SMALLEST:
                scale = np.float32(0.0)
            else:
                inverse = np.float32(np.float32(1.0) / scale)
        first = isub(bits(vadd(vmul(a, splat(inverse)), splat(MAGIC))), isplat(MAGIC_BITS))
        second = isub(bits(vadd(vmul(b, splat(inverse)), splat(MAGIC))), isplat(MAGIC_BITS))
        if top >= INFINITE:
            first, second = isplat(np.int32(0)), isplat(np.int32(0))
        store_codes(target + g * GROUP, first)
        store_codes(target + g * GROUP + 16, second)
        store_codes(apart + g // 4 * 128 + g % 4 * 16, first)
        store_codes(apart + g // 4 * 128 + g % 4 * 16 + 64, second)
        n, m = np.int64(total(first)), np.int64(total(second))
        _entry(large, size // 32, g, scale, n + m)
        _entry(small, size // 16, 2 * g, scale, n)
        _entry(small, size // 16, 2 * g + 1, scale, m)
