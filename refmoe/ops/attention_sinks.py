"""attention_sinks - attention in which each head has a sink: one more score, which has no value.

Signature   q f32[T,N*D], k f32[S,G*D], v f32[S,G*D], positions i64[T], sinks f32[N], scale f32, window i64
            -> y f32[T,N*D]
Semantics   as attention, but y[t,n] = sum over j of v[j] * exp(s[j] - m) / (exp(sinks[n] - m) + sum over j of
            exp(s[j] - m)), where m is the maximum of the s[j] and sinks[n]; the sink is not scaled
Order       R1 to R9 of attention, except: R4 m = max of s and the sink, exact; R8 l = l + l_c from exp(sink - m), the
            difference rounded, exp correctly rounded: the sink is the first term, before the first chunk
Special     as attention; a sink of -inf gives the bits of attention; one of +inf or nan makes the row of its head nan
Errors      as attention
Golden      attention_sinks: chunk_boundary, dominating_sink, grouped_heads, negligible_sink,
            odd_head_dim, sink_is_not_scaled, special_sinks, window_boundary
Origin      gpt-oss (arXiv:2309.17453 for the idea). Dissent: a sink added to the finished denominator
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
def _head(q, k, v, start, low, high, scale, sink, y):
    """One query head q f32[D] over positions low..high; its KV head begins at column `start` of k, v -> y f32[D]."""
    size = q.shape[0]
    e = np.zeros((high + CHUNK) // CHUNK * CHUNK, np.float32)  # +0 where nothing is seen: adds nothing in R6
    top = sink if sink > np.float32(-np.inf) else np.float32(-np.inf)
    for j in range(low, high + 1):
        e[j] = np.float32(reduce.dot(q, k[j, start:start + size]) * scale)  # R2, R3
        if e[j] > top:
            top = e[j]  # R4
    for j in range(low, high + 1):
        e[j] = exp32(np.float32(e[j] - top))  # R5
    total, part = exp32(np.float32(sink - top)), np.empty(size, np.float32)  # the first term of R8
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
def attention_sinks(q, k, v, positions, sinks, kv_heads, scale, window, y):
    """Plain kernel: q f32[T,N*D], k, v f32[S,G*D] as stored, positions i64[T], sinks f32[N] -> y f32[T,N*D]."""
    heads = sinks.shape[0]
    size = q.shape[1] // heads
    for t in range(q.shape[0]):
        for n in range(heads):
            low = max(np.int64(0), positions[t] - window + 1)
            _head(q[t, n * size:n * size + size], k, v, n // (heads // kv_heads) * size, low, positions[t], scale,
                  sinks[n], y[t, n * size:n * size + size])


def plain(q, k, v, positions, sinks, scale, window, heads, kv_heads):
    """The op through the plain kernel; k and v hold all positions of the sequence; see Signature."""
    y = np.empty_like(q)
    attention_sinks(q, k, v, positions, sinks, kv_heads, np.float32(scale), np.int64(window), y)
    return y


def bind(weights, attrs, parts):
    """Engine call (q, k, v, positions, cache): k, v are the new rows; cache lists (first row, last row, LayerCache)."""
    heads, kv_heads, scale = attrs["heads"], attrs["kv_heads"], np.float32(attrs["scale"])
    (sinks,), window = weights, np.int64(attrs["window"])

    def call(q, k, v, positions, cache):
        y = np.empty_like(q)
        for first, last, layer in cache:
            at, rows = layer.append(k[first:last], v[first:last]), slice(first, last)
            if jit.ENABLED:
                attend_rows(layer.tag, q[rows], layer.k_table, layer.v_table, at, heads, kv_heads,
                            layer.row.widths[0], scale, window, y[rows], parts, sinks)
            else:
                y[rows] = plain(q[rows], *layer.rows(), positions[rows], sinks, scale, window, heads, kv_heads)
        return y

    return call
