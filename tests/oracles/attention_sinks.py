"""attention_sinks: one query head after the other, rational reductions, decimal exponentials; the sink comes first."""

import numpy as np

from tests.oracles import attention
from tests.oracles.arithmetic import TINY, U, dot, exp32, fma, gamma, lane_sum

CHUNK = attention.CHUNK


def _one(q, k, v, keys, scale, sink, chunk):
    """One query q[D] over the listed keys of k, v [S,D]."""
    with np.errstate(all="ignore"):
        s = np.array([dot(q, k[j]) * np.float32(scale) for j in keys] + [sink], np.float32)
        numbers = s[~np.isnan(s)]
        top = numbers.max() if len(numbers) else np.float32(-np.inf)
        *e, total = [exp32(float(np.float32(x - top))) for x in s]
        result = np.zeros(len(q), np.float32)
        for number in range(keys[0] // chunk, keys[-1] // chunk + 1):
            places = [j // chunk == number for j in keys]
            inside = [(j, w) for j, w, here in zip(keys, e, places, strict=True) if here]
            lanes = [0.0] * chunk
            for j, w in inside:
                lanes[j % chunk] = w
            total = np.float32(total) + lane_sum(lanes)
            for d in range(len(q)):
                acc = 0.0
                for j, w in inside:
                    acc = fma(float(v[j, d]), float(w), acc)
                result[d] += np.float32(acc)
        return result / total


def bits(q, k, v, positions, sinks, scale, window, heads, kv_heads, chunk=CHUNK):
    """The result."""
    qs, ks, vs = attention._views(q, k, v, heads, kv_heads)
    y = np.empty_like(qs)
    for t, n in np.ndindex(y.shape[:2]):
        g, keys = n // (heads // kv_heads), list(attention._seen(positions[t], window))
        y[t, n] = _one(qs[t, n], ks[:, g], vs[:, g], keys, scale, sinks[n], chunk)
    return {"y": y.reshape(q.shape)}


def _weights(q, k, scale, sink):
    """Binary64 weights of the keys and of the sink, scores, errors of scores."""
    s, sizes = k @ q * scale, np.abs(k) @ np.abs(q) * scale
    error = gamma(-(-len(q) // 16) + 4) * sizes + 2 * U * sizes
    top = max(s.max(), sink)
    with np.errstate(all="ignore"):
        e = np.exp(np.append(s, sink) - top)
    error = np.append(error, 0.0)
    relative = np.expm1(error + error[np.argmax(np.append(s, sink))] + 1.1 * U * np.abs(np.append(s, sink) - top)) + U
    return e / e.sum(), relative


def reference(q, k, v, positions, sinks, scale, window, heads, kv_heads):
    """{name: (binary64 value, bound)}: as attention, with one more weight of an exact score, and one more sum."""
    qs, ks, vs = (x.astype(float) for x in attention._views(q, k, v, heads, kv_heads))
    y, bound = np.empty_like(qs), np.empty_like(qs)
    for t, n in np.ndindex(y.shape[:2]):
        g, keys = n // (heads // kv_heads), list(attention._seen(positions[t], window))
        with np.errstate(all="ignore"):
            p, relative = _weights(qs[t, n], ks[keys, g], scale, float(sinks[n]))
            relative = np.where(p > 0, relative, 0.0) + gamma(min(len(keys), CHUNK) + len(keys) // CHUNK + 4)
            size = np.abs(vs[keys, g])
            y[t, n] = p[:-1] @ vs[keys, g]
            bound[t, n] = ((p * relative)[:-1] @ size + (p @ relative) * np.abs(y[t, n])) * 1.01
            bound[t, n] += (size + np.abs(y[t, n])).sum(axis=0) * TINY * 2  # weights that underflow
    return {"y": (y.reshape(q.shape), bound.reshape(q.shape) + len(k) * TINY)}


def _without(sinks, **rest):
    return attention.bits(**rest)


def _changed(change):
    return lambda sinks, **rest: bits(sinks=np.array(change(sinks, rest), np.float32), **rest)


def _in_every_chunk(sinks, positions, **rest):
    """Each chunk brings the sink again: equal for one chunk."""
    more = [s + np.log(np.float32(p // CHUNK + 1)) for p in positions[-1:] for s in sinks]
    return bits(sinks=np.array(more, np.float32), positions=positions, **rest)


def _added_last(q, k, v, positions, sinks, scale, window, heads, kv_heads):
    """y = o / (l + exp(sink - m)) in binary32, l finished first."""
    qs, ks, vs = attention._views(q, k, v, heads, kv_heads)
    y = np.empty_like(qs)
    for t, n in np.ndindex(y.shape[:2]):
        g, keys = n // (heads // kv_heads), list(attention._seen(positions[t], window))
        s = np.array([dot(qs[t, n], ks[j, g]) * np.float32(scale) for j in keys], np.float32)
        top = max(s.max(), sinks[n])
        e = np.array([exp32(float(x - top)) for x in s], np.float32)
        lanes = [0.0] * (keys[0] % CHUNK) + e.tolist()
        total = np.float32(0)
        for first in range(0, len(lanes), CHUNK):
            total += lane_sum(lanes[first : first + CHUNK])
        for d in range(y.shape[2]):
            acc, out = 0.0, np.float32(0)
            for j, w in zip(keys, e, strict=True):
                if j % CHUNK == 0:
                    out, acc = out + np.float32(acc), 0.0
                acc = fma(float(vs[j, g, d]), float(w), acc)
            y[t, n, d] = (out + np.float32(acc)) / (total + exp32(float(sinks[n] - top)))
    return {"y": y.reshape(q.shape)}


def _maximum_of_scores(q, k, v, positions, sinks, scale, window, heads, kv_heads):
    """The sink takes no part in the maximum."""
    qs, ks, vs = attention._views(q, k, v, heads, kv_heads)
    y = np.zeros_like(qs)
    with np.errstate(all="ignore"):
        for t, n in np.ndindex(y.shape[:2]):
            g, keys = n // (heads // kv_heads), list(attention._seen(positions[t], window))
            s = (ks[keys, g] @ qs[t, n] * np.float32(scale)).astype(np.float32)
            e = np.exp(s - s.max())
            y[t, n] = e @ vs[keys, g] / np.float32(e.sum() + np.exp(np.float32(sinks[n] - s.max())))
    return {"y": y.reshape(q.shape)}


def _of_kv_heads(sinks, rest):
    return np.repeat(sinks[: rest["kv_heads"]], rest["heads"] // rest["kv_heads"])


MUTANTS = {
    "A12": lambda window, **rest: bits(window=window + 1, **rest),
    "A13": _without,
    "A16": lambda heads, kv_heads, q, sinks, **rest: _tiled(q, sinks, heads, kv_heads, **rest),
    "window_too_narrow": lambda window, **rest: bits(window=window - 1, **rest),
    "sink_scaled": _changed(lambda sinks, rest: sinks * np.float32(rest["scale"])),
    "sink_as_weight": _changed(lambda sinks, rest: np.log(np.abs(sinks))),
    "first_sink_for_all": _changed(lambda sinks, rest: np.full_like(sinks, sinks[0])),
    "sinks_of_kv_heads": _changed(_of_kv_heads),
    "sink_in_every_chunk": _in_every_chunk,
    "sink_added_last": _added_last,
    "maximum_of_scores": _maximum_of_scores,
    "one_sum": lambda **inputs: bits(**inputs, chunk=2048),
    "special_sink_ignored": _changed(lambda sinks, rest: np.where(np.isfinite(sinks), sinks, np.float32(-np.inf))),
}
ORDER = {"one_sum", "sink_added_last"}


def _tiled(q, sinks, heads, kv_heads, **rest):
    """KV heads tiled over the query heads instead of repeated."""
    order = np.argsort(np.arange(heads) % kv_heads, kind="stable")
    moved = q.reshape(len(q), heads, -1)[:, order].reshape(q.shape)
    y = bits(q=moved, sinks=sinks[order], heads=heads, kv_heads=kv_heads, **rest)["y"].reshape(len(q), heads, -1)
    return {"y": y[:, np.argsort(order)].reshape(q.shape)}
