"""attention: one query head after the other, rational reductions, decimal exponentials, chunks of 512 positions."""

import numpy as np

from tests.oracles.arithmetic import TINY, U, dot, exp32, fma, gamma, lane_sum

CHUNK = 512


def _views(q, k, v, heads, kv_heads):
    size = q.shape[1] // heads
    return q.reshape(-1, heads, size), k.reshape(-1, kv_heads, size), v.reshape(-1, kv_heads, size)


def _seen(position, window):
    return range(max(0, int(position) - window + 1), int(position) + 1)


def _one(q, k, v, keys, scale, chunk):
    """One query q[D] over the listed keys of k, v [S,D]."""
    with np.errstate(all="ignore"):
        s = {j: np.float32(dot(q, k[j]) * np.float32(scale)) for j in keys}
        numbers = [x for x in s.values() if not np.isnan(x)]
        top = max(numbers) if numbers else np.float32(-np.inf)
        e = {j: exp32(float(np.float32(s[j] - top))) for j in keys}
        total, result = np.float32(0), np.zeros(len(q), np.float32)
        for first in range(min(keys) // chunk * chunk, max(keys) + 1, chunk):
            inside = [j for j in range(first, first + chunk) if j in keys]
            total += lane_sum([e.get(j, 0.0) for j in range(first, first + chunk)])
            for d in range(len(q)):
                acc = 0.0
                for j in inside:
                    acc = fma(float(v[j, d]), float(e[j]), acc)
                result[d] += np.float32(acc)
        return result / total


def bits(q, k, v, positions, scale, window, heads, kv_heads, chunk=CHUNK):
    """The result."""
    qs, ks, vs = _views(q, k, v, heads, kv_heads)
    y = np.empty_like(qs)
    for t, n in np.ndindex(y.shape[:2]):
        g = n // (heads // kv_heads)
        y[t, n] = _one(qs[t, n], ks[:, g], vs[:, g], _seen(positions[t], window), scale, chunk)
    return {"y": y.reshape(q.shape)}


def reference(q, k, v, positions, scale, window, heads, kv_heads):
    """{name: (binary64 value, bound)}. A score errs by d_j <= gamma(n + 4) sum |q||k| scale + 2 u |s|, so e_j by
    expm1(d_j + d_top + u |s_j - top|) + u; the sums of a chunk and of all chunks round at most 512 + chunks times."""
    size = q.shape[1] // heads
    qs, ks, vs = (x.astype(float) for x in _views(q, k, v, heads, kv_heads))
    y, bound = np.empty_like(qs), np.empty_like(qs)
    for t, n in np.ndindex(y.shape[:2]):
        g, keys = n // (heads // kv_heads), list(_seen(positions[t], window))
        kk, vv = ks[keys, g], vs[keys, g]
        s = kk @ qs[t, n] * scale
        sizes = np.abs(kk) @ np.abs(qs[t, n]) * scale
        error = gamma(-(-size // 16) + 4) * sizes + 2 * U * sizes
        relative = np.expm1(error + error[np.argmax(s)] + 1.1 * U * np.abs(s - s.max())) + U
        p = np.exp(s - s.max())
        p /= p.sum()
        steps = gamma(min(len(keys), CHUNK) + len(keys) // CHUNK + 3)
        y[t, n] = p @ vv
        bound[t, n] = (p * (relative + steps)) @ np.abs(vv) * 1.01 + (p @ (relative + steps)) * np.abs(y[t, n]) * 1.01
    return {"y": (y.reshape(q.shape), bound.reshape(q.shape) + len(k) * TINY)}


def _soft(q, k, v, positions, scale, heads, head_of, seen, masked=None):
    """Binary64 attention; seen(p) lists keys, masked(p) those that are scored but weighted 0."""
    qs, ks, vs = _views(q, k, v, heads, k.shape[1] * heads // q.shape[1])
    y = np.zeros(qs.shape)
    with np.errstate(all="ignore"):
        for t, n in np.ndindex(y.shape[:2]):
            keys, g = list(seen(int(positions[t]))), head_of(n)
            s = ks[keys, g].astype(float) @ qs[t, n] * scale
            e = np.exp(s - s.max()) if keys else s
            if masked:
                e *= np.array([not masked(int(positions[t]), j) for j in keys])
            y[t, n] = e @ vs[keys, g] / e.sum()
    return {"y": y.reshape(q.shape).astype(np.float32)}


def _tiled(q, k, v, positions, scale, window, heads, kv_heads):
    return _soft(q, k, v, positions, scale, heads, lambda n: n % kv_heads, lambda p: _seen(p, window))


def _with_window(change):
    def mutant(window, **rest):
        return bits(window=max(window + change, 1), **rest)

    return mutant


def _zero_window(q, k, v, positions, scale, window, heads, kv_heads):
    """The window does not count the position itself: one key too few, never fewer than none."""
    return _soft(q, k, v, positions, scale, heads, lambda n: n * kv_heads // heads,
                 lambda p: range(max(0, p - window + 1) + 1, p + 1))


def _future(q, k, v, positions, scale, window, heads, kv_heads):
    return _soft(q, k, v, positions, scale, heads, lambda n: n * kv_heads // heads,
                 lambda p: range(max(0, p - window + 1), len(k)))


def _own_missing(q, k, v, positions, scale, window, heads, kv_heads):
    return _soft(q, k, v, positions, scale, heads, lambda n: n * kv_heads // heads,
                 lambda p: range(max(0, p - window), p))


def _weight_zero(q, k, v, positions, scale, window, heads, kv_heads):
    return _soft(q, k, v, positions, scale, heads, lambda n: n * kv_heads // heads, lambda p: range(len(k)),
                 lambda p, j: j not in _seen(p, window))


def _default_scale(q, heads, scale, **rest):
    return bits(q=q, heads=heads, scale=(q.shape[1] // heads) ** -0.5, **rest)


def _padded_scale(q, heads, scale, **rest):
    return bits(q=q, heads=heads, scale=(-(-q.shape[1] // heads // 16) * 16) ** -0.5, **rest)


def _no_maximum(q, k, v, positions, scale, window, heads, kv_heads):
    qs, ks, vs = _views(q, k, v, heads, kv_heads)
    y = np.zeros_like(qs)
    with np.errstate(all="ignore"):
        for t, n in np.ndindex(y.shape[:2]):
            g, keys = n * kv_heads // heads, list(_seen(positions[t], window))
            e = np.exp(ks[keys, g] @ qs[t, n] * np.float32(scale))
            y[t, n] = e @ vs[keys, g] / e.sum()
    return {"y": y.reshape(q.shape)}


def _tail_dropped(q, k, heads, kv_heads, **rest):
    keep = (np.arange(q.shape[1] // heads) < 16).astype(np.float32)
    return bits(q=q * np.tile(keep, heads), k=k, heads=heads, kv_heads=kv_heads, **rest)


def _boundary_lost(k, positions, window, **rest):
    """The first position of a chunk takes no part."""
    low = k.copy()
    low[CHUNK::CHUNK] = -1e4 * np.sign(rest["q"][0, : k.shape[1]])
    return bits(k=low, positions=positions, window=window, **rest)


MUTANTS = {
    "A01": _default_scale,
    "A02": _default_scale,
    "A12": _with_window(1),
    "A16": _tiled,
    "window_too_narrow": _zero_window,
    "future_seen": _future,
    "own_position_missing": _own_missing,
    "masked_by_weight_zero": _weight_zero,
    "padded_scale": _padded_scale,
    "tail_dropped": _tail_dropped,
    "no_maximum": _no_maximum,
    "one_sum": lambda **inputs: bits(**inputs, chunk=2048),
    "chunk_start_lost": _boundary_lost,
}
ORDER = {"one_sum"}
