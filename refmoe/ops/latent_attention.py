"""latent_attention - causal softmax attention of all heads over one latent row for each position.

Signature   q f32[T,N*R], q_rope f32[T,N*Q], latent f32[S,R], k_rope f32[S,Q], positions i64[T], scale f32
            -> y f32[T,N*R]
Semantics   query t at p = positions[t] sees the keys j <= p. The row of position j is c[j] = (latent[j], k_rope[j]),
            the query of head n is a[t,n] = (q[t,n], q_rope[t,n]), both of R + Q numbers.
            y[t,n] = sum over j of latent[j] * exp(s[j] - m) / (sum over j of exp(s[j] - m)),
            s[j] = (a[t,n] . c[j]) * scale
Order       R1 latent and k_rope are rounded once to the cache's type (f32: nothing; bf16: to nearest even) when they
            are stored; R2 s = a . c by the one reduction over R + Q: lane of rotated element i is (R + i) mod 16;
            R3 s = s * scale; R4 m = max of s, exact; R5 e = exp(s - m), the difference rounded, exp correctly rounded;
            then in absolute chunks of 512 positions (j // 512), ascending: R6 l_c = sum of e in 16 lanes (j mod 16) and
            the halving tree; R7 o_c[r] = fma(latent[j,r], e[j], o_c[r]) for j ascending from +0; R8 l = l + l_c,
            o[r] = o[r] + o_c[r], from +0; R9 y = o / l
Special     a position out of sight takes no part in any sum; nan never wins R4; a score nan or +inf makes the row nan
Errors      none
Golden      latent_attention: chunk_boundary, first_position, large_scores, odd_sizes, out_of_sight_nan,
            rotated_part_counts, scale_is_an_attribute, three_chunks, values_are_latents_only
Origin      arXiv:2405.04434 in the absorbed form (absorb_query before, expand_value after): the cache holds R + Q
            numbers for each position, whatever the number of heads. Dissent: separate sums for the two parts of a
            score
"""

import numpy as np

from refmoe import jit
from refmoe.jit import kernel
from refmoe.numerics import reduce
from refmoe.numerics.elementary import exp32
from refmoe.numerics.fma import fma

if jit.ENABLED:
    from refmoe.kernels.latent import attend_latent

CHUNK = 512


@kernel
def _head(a, c, high, scale, y):
    """One query a f32[R+Q] over rows 0..high of c f32[S,R+Q] -> y f32[R]."""
    e = np.zeros((high + CHUNK) // CHUNK * CHUNK, np.float32)  # +0 where nothing is seen: adds nothing in R6
    top = np.float32(-np.inf)
    for j in range(high + 1):
        e[j] = np.float32(reduce.dot(a, c[j]) * scale)  # R2, R3
        if e[j] > top:
            top = e[j]  # R4
    for j in range(high + 1):
        e[j] = exp32(np.float32(e[j] - top))  # R5
    total, part = np.float32(0.0), np.empty(y.shape[0], np.float32)
    y[:] = np.float32(0.0)
    for first in range(0, high + 1, CHUNK):
        total = np.float32(total + reduce.lane_sum(e[first:first + CHUNK]))  # R6, R8
        part[:] = np.float32(0.0)
        for j in range(first, min(high + 1, first + CHUNK)):
            for r in range(y.shape[0]):
                part[r] = fma(c[j, r], e[j], part[r])  # R7
        for r in range(y.shape[0]):
            y[r] = np.float32(y[r] + part[r])  # R8
    for r in range(y.shape[0]):
        y[r] = np.float32(y[r] / total)  # R9


@kernel
def joined(q, q_rope):
    """(q[t,n], q_rope[t,n]): q f32[T,N,R], q_rope f32[T,N,Q] -> f32[T,N,R+Q]."""
    rank = q.shape[2]
    a = np.empty((q.shape[0], q.shape[1], rank + q_rope.shape[2]), np.float32)
    for t in range(q.shape[0]):
        for n in range(q.shape[1]):
            a[t, n, :rank] = q[t, n]
            a[t, n, rank:] = q_rope[t, n]
    return a


@kernel
def latent_attention(a, c, positions, scale, y):
    """Plain kernel: a f32[T,N,R+Q], c f32[S,R+Q] as stored, positions i64[T] -> y f32[T,N,R]."""
    for t in range(a.shape[0]):
        for n in range(a.shape[1]):
            _head(a[t, n], c, positions[t], scale, y[t, n])


def plain(q, q_rope, latent, k_rope, positions, scale, heads):
    """The op through the plain kernel; latent and k_rope hold all positions of the sequence; see Signature."""
    y = np.empty((q.shape[0], heads, latent.shape[1]), np.float32)
    rows = np.concatenate([latent, k_rope], axis=1)
    latent_attention(_queries(q, q_rope, heads), rows, positions, np.float32(scale), y)
    return y.reshape(q.shape)


def _queries(q, q_rope, heads):
    return joined(q.reshape(q.shape[0], heads, -1), q_rope.reshape(q.shape[0], heads, -1))


def bind(weights, attrs, parts):
    """Engine call (q, q_rope, latent, k_rope, positions, cache); cache lists (first row, last row, LayerCache)."""
    heads, scale = attrs["heads"], np.float32(attrs["scale"])

    def call(q, q_rope, latent, k_rope, positions, cache):
        y = np.empty_like(q)
        for first, last, layer in cache:
            at = layer.append(latent[first:last], k_rope[first:last])
            if jit.ENABLED:
                a = _queries(q[first:last], q_rope[first:last], heads)
                attend_latent(layer.tag, a, layer.k_table, at, latent.shape[1], scale, y[first:last], parts)
                continue
            y[first:last] = plain(q[first:last], q_rope[first:last], *layer.rows(), positions[first:last], scale, heads)
        return y

    return call
