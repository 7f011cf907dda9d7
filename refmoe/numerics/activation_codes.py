"""activation_codes - a row of x as integer codes, with a scale for each group of 32, times a row of codes of weights.

Signature   quantise(x f32[K]) -> p i64[K], s f32[G], G = ceil(K / 32)
            dot(p i64[K], s f32[G], q i64[K], scale f32[U], minimum f32[U]) -> y f32
Semantics   x[k] is replaced by s[k / 32] * p[k] with |p[k]| <= 127. A unit u of the weights is 32 columns
            (U = ceil(K / 32)) or 16 (U = ceil(K / 16)), a weight is scale[u] * q[k] + minimum[u] with |q[k]| <= 128;
            y = sum over u of s * (scale[u] * (sum of q * p) + minimum[u] * (sum of p)), both sums over the unit
Order       codes: R1 d = the largest |x| of the group, exact; R2 s = d / 127; below 2^-126 it is replaced by +0 and all
            codes of the group are 0; R3 i = 1 / s; R4 v = x * i; R5 p = v rounded to an integer, ties to even.
            product: the integer sums are exact (below 2^24); units take sixteen lanes, unit u in lane u mod 16 from +0,
            u ascending: R6 b = scale[u] * s; R7 lane = fma(f32(sum of q * p), b, lane); then
            R8 m = minimum[u] * s; R9 lane = fma(f32(sum of p), m, lane); at the end the halving tree over 8, 4, 2, 1.
            Units that are not there take no part. Without minima R8 and R9 change nothing and may be left out
Special     a group with inf or nan has the scale nan and the codes 0: every product with the row is nan
Errors      none here; K = 0 is refused by the callers
Golden      exercised by linear_a8, expert_linear_a8
Origin      groups of 32 with round(x * (1 / (d / 127))) are llama.cpp's type Q8_0. Dissent: llama.cpp rounds s to
            binary16, ties away from zero in its portable code, takes groups of 256 for K-quants, and adds units in
            an order that the processor decides
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.fma import fma
from refmoe.numerics.reduce import tree

Codes = tuple[np.ndarray, np.ndarray, np.ndarray]  # of a matrix: q i64[N,K], scale f32[N,U], minimum f32[N,U]
GROUP = 32
SMALLEST = np.float32(2.0**-126)
MAGIC = np.float32(12582912.0)  # 1.5 * 2^23: adding, then subtracting it rounds |v| < 2^22 to an integer, ties to even


def unit_of(width):
    """Columns of a unit for groups of `width` columns (0: the whole row), 0 if units do not fit."""
    return 16 if width == 16 else 0 if width % 32 else 32


def arranged(rows, q, scale, minimum=None):
    """Codes of a matrix from blocks in row-major order: q any integers, scale and minimum f32, for each unit."""
    scale = np.ascontiguousarray(scale, np.float32).reshape(rows, -1)
    least = np.zeros_like(scale) if minimum is None else np.ascontiguousarray(minimum, np.float32).reshape(rows, -1)
    return q.reshape(rows, -1).astype(np.int64), scale, least


@kernel
def quantise(x, p, s):
    """Codes p i64[K] and scales s f32[G] of x f32[K]."""
    for g in range(s.shape[0]):
        first, last = g * GROUP, min(x.shape[0], g * GROUP + GROUP)
        top, finite = np.float32(0.0), True
        for k in range(first, last):
            size = np.float32(abs(x[k]))
            finite = finite and size < np.float32(np.inf)
            if size > top:
                top = size  # R1
        scale, inverse = np.float32(top / np.float32(127.0)), np.float32(0.0)  # R2
        if not finite:
            scale = np.float32(np.nan)
        elif scale < SMALLEST:
            scale = np.float32(0.0)
        else:
            inverse = np.float32(np.float32(1.0) / scale)  # R3
        s[g] = scale
        for k in range(first, last):
            v = np.float32(x[k] * inverse) if finite else np.float32(0.0)  # R4
            p[k] = np.int64(np.float32(np.float32(v + MAGIC) - MAGIC))  # R5


@kernel
def dot(p, s, q, scale, minimum):
    """y of codes p i64[K] with scales s f32[G] and codes q i64[K] with scale, minimum f32[U]."""
    lanes = np.zeros(16, np.float32)
    unit = 32 if scale.shape[0] == s.shape[0] else 16
    for u in range(scale.shape[0]):
        products, codes = 0, 0
        for k in range(u * unit, min(p.shape[0], u * unit + unit)):
            products += q[k] * p[k]
            codes += p[k]
        factor = s[u * unit // GROUP]
        b, m = np.float32(scale[u] * factor), np.float32(minimum[u] * factor)  # R6, R8
        lanes[u % 16] = fma(np.float32(products), b, lanes[u % 16])  # R7
        lanes[u % 16] = fma(np.float32(codes), m, lanes[u % 16])  # R9
    return tree(lanes)


@kernel
def products(x, q, scale, minimum, y):
    """Rows x f32[T,K] times rows q i64[N,K], scale, minimum f32[N,U] -> y f32[T,N]."""
    p, s = np.empty(x.shape[1], np.int64), np.empty((x.shape[1] + GROUP - 1) // GROUP, np.float32)
    for t in range(x.shape[0]):
        quantise(x[t], p, s)
        for n in range(q.shape[0]):
            y[t, n] = dot(p, s, q[n], scale[n], minimum[n])
