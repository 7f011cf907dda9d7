"""How far two results lie apart, in one look at every number: what comparing whole runs spends its time on."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np

from refmoe.jit import kernel

LIMITS = (0, 1, 3, 15, 255, 65535)  # units in the last place: the last one of each class but the two last
LARGE = 1 << 18  # numbers from which on sharing pays
FLOOR = 1 / 16  # of the largest number of a row: below it, a difference counts as if the number were that large


class Apart(NamedTuple):
    """`equal`: every bit (any nan equals any nan). `counts` i64[8]: numbers 0, 1, 2-3, 4-15, 16-255, 256-65535 and more
    units in the last place apart; not finite in one of the two only. `largest` f64[T]: difference in each row, inf for
    what is not finite; `scale` f64[T]: largest finite number of each row of the reference. `rows` f64[T], `cols`
    f64[W]: the largest difference as a share of its number."""

    equal: bool
    counts: np.ndarray
    largest: np.ndarray
    scale: np.ndarray
    rows: np.ndarray
    cols: np.ndarray


@kernel
def _scales(y, scale):
    """The largest finite |y| of each row."""
    for t in range(y.shape[0]):
        top = np.float32(0.0)
        for j in range(y.shape[1]):
            size = abs(y[t, j])
            if size > top and size < np.inf:
                top = size
        scale[t] = top


@kernel
def _look(x, y, x_bits, y_bits, scale, counts, largest, rows, cols):
    """Fill counts, largest, rows and cols; returns how many numbers differ in their bits."""
    odd = 0
    for t in range(y.shape[0]):
        least = scale[t] * FLOOR
        for j in range(y.shape[1]):
            if x_bits[t, j] == y_bits[t, j]:
                continue
            a, b = np.int64(x_bits[t, j]), np.int64(y_bits[t, j])
            if np.isnan(x[t, j]) and np.isnan(y[t, j]):
                continue
            odd += 1
            apart, share = np.float64(np.inf), np.float64(np.inf)
            if np.isfinite(x[t, j]) and np.isfinite(y[t, j]):
                a, b = a if a >= 0 else -(a & 0x7FFFFFFF), b if b >= 0 else -(b & 0x7FFFFFFF)
                steps, place = abs(a - b), 0
                while place < 6 and steps > LIMITS[place]:
                    place += 1
                counts[place] += 1
                apart = abs(np.float64(x[t, j]) - np.float64(y[t, j]))
                size = max(np.float64(abs(y[t, j])), least)
                share = apart / size if size > 0 else (np.inf if apart > 0 else 0.0)
            else:
                counts[7] += 1
            largest[t], rows[t], cols[j] = max(largest[t], apart), max(rows[t], share), max(cols[j], share)
    return odd


def apart(found: np.ndarray, expected: np.ndarray) -> Apart:
    """Compare f32[T,W] with f32[T,W], contiguous; large ones in two threads."""
    count, width = expected.shape
    largest, scale, rows = np.zeros(count), np.zeros(count), np.zeros(count)
    halves = [slice(0, count)] if expected.size < LARGE else [slice(0, count // 2), slice(count // 2, count)]
    counts, cols = np.zeros((len(halves), 8), np.int64), np.zeros((len(halves), width))

    def look(n: int) -> int:
        x, y, own = found[halves[n]], expected[halves[n]], halves[n]
        _scales(y, scale[own])
        return int(_look(x, y, x.view(np.int32), y.view(np.int32), scale[own], counts[n], largest[own], rows[own],
                         cols[n]))  # fmt: skip

    odd = look(0) if len(halves) == 1 else sum(_pool().map(look, range(len(halves))))
    total = counts[0] + counts[-1] if len(halves) > 1 else counts[0]
    total[0] += expected.size - odd
    return Apart(odd == 0, total, largest, scale, rows, cols.max(axis=0))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2)
