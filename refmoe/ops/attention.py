"""attention - causal softmax attention with grouped key-value heads and a window, over a cache.

Signature   q f32[T,N*D], k f32[S,G*D], v f32[S,G*D], positions i64[T], scale f32, window i64 -> y f32[T,N*D]
Semantics   query t at p = positions[t] sees the keys j with max(0, p - window + 1) <= j <= p. Head n uses
            KV head n // (N/G).
            y[t,n] = sum over j of v[j] * exp(s[j] - m) / (sum over j of exp(s[j] - m)), s[j] = (q[t,n] . k[j]) * scale
Order       R1 k and v are rounded once to the cache's type (f32: nothing; bf16: to nearest even) when they are stored;
            R2 s = q . k by the one reduction over D; R3 s = s * scale; R4 m = max of s, exact; R5 e = exp(s - m), the
            difference rounded, exp correctly rounded; then in absolute chunks of 512 positions (j // 512), ascending:
            R6 l_c = sum of e in 16 lanes (j mod 16) and the halving tree; R7 o_c[d] = fma(v[j,d], e[j], o_c[d]) for j
            ascending from +0; R8 l = l + l_c, o[d] = o[d] + o_c[d], from +0; R9 y = o / l
Special     a position out of sight takes no part in any sum; nan never wins R4; a score nan or +inf makes
            the row nan
Errors      N must be a multiple of G (program check); window >= 1
Golden      attention: chunk_boundary, first_position, grouped_heads, large_scores, many_rows, odd_head_dim,
            one_kv_head, out_of_sight_nan, ratio_one, scale_is_an_attribute, three_chunks, window_across_chunks,
            window_boundary, window_one
Origin      arXiv:1706.03762, 2305.13245; Mistral's window. Dissent: online softmax rescales, with further roundings
"""

import numpy as np

from refmoe import jit
from refmoe.jit import kernel
from refmoe.numerics import reduce
from refmoe.numerics.elementary import exp32
from refmoe.numerics.fma import fma

if jit.ENABLED:
    from refmoe.kernels.attention import attend_rows

CHUNK = 512


@kernel
def _head(q, k, v, start, low, high, scale, y):
    """One query head q f32[D] over positions low..high; its KV head begins at column `start` of k, v -> y f32[D]."""
    size = q.shape[0]
    e = np.zeros((high + CHUNK) // CHUNK * CHUNK, np.float32)  # +0 where nothing is seen: adds nothing in R6
    top = np.float32(-np.inf)
    for j in range(low, high + 1):
        e[j] = np.float32(reduce.dot(q, k[j, start:start + size]) * scale)  # R2, R3
        if e[j] > top:
            top = e[j]  # R4
    for j in range(low, high + 1):
        e[j] = exp32(np.float32(e[j] - top))  # R5
    total, part = np.float32(0.0), np.empty(size, np.float32)
    y[:] = np.float32(0.0)
    for first in range(low // CHUNK * CHUNK, high + 1, CHUNK):
        total = np.float32(total + reduce.lane_sum(e[first:first + CHUNK]))  # R6, R8
        part[:] = np.float32(0.0)
        for j in range(max(low, first), min(high + 1, first + CHUNK)):
            for d in range(size):
                part[d] = fma(v[j, start + d], e[j], part[d])  # R7
        for d in range(size):
            y[d] = np.float32(y[d] + part[d])  # R8
    for d in range(size):
        y[d] = np.float32(y[d] / total)  # R9


@kernel
def attention(q, k, v, positions, heads, kv_heads, scale, window, y):
    """Plain kernel: q f32[T,N*D], k, v f32[S,G*D] as stored, positions i64[T] -> y f32[T,N*D]."""
    size = q.shape[1] // heads
    for t in range(q.shape[0]):
        for n in range(heads):
            low = max(np.int64(0), positions[t] - window + 1)
            _head(q[t, n * size:n * size + size], k, v, n // (heads // kv_heads) * size, low, positions[t], scale,
                  y[t, n * size:n * size + size])


def plain(q, k, v, positions, scale, window, heads, kv_heads):
    """The op through the plain kernel; k and v hold all positions of the sequence; see Signature."""
    y = np.empty_like(q)
    attention(q, k, v, positions, heads, kv_heads, np.float32(scale), np.int64(window), y)
    return y


def bind(weights, attrs, parts):
    """Engine call (q, k, v, positions, cache): k, v are the new rows; cache lists (first row, last row, LayerCache)."""
    heads, kv_heads, scale = attrs["heads"], attrs["kv_heads"], np.float32(attrs["scale"])
    window = np.int64(attrs["window"])

    def call(q, k, v, positions, cache):
        y = np.empty_like(q)
        for first, last, layer in cache:
            at = layer.append(k[first:last], v[first:last])
            if jit.ENABLED:
                attend_rows(layer.tag, q[first:last], layer.k_table, layer.v_table, at, heads, kv_heads,
                            layer.row.widths[0], scale, window, y[first:last], parts)
            else:
                stored = layer.rows()
                y[first:last] = plain(q[first:last], *stored, positions[first:last], scale, window, heads, kv_heads)
        return y

    return call
