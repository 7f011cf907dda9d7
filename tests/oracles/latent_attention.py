"""latent_attention: the oracle of attention on joined rows, with one KV head and values of their own width."""

import numpy as np

from tests.oracles.arithmetic import TINY, U, dot, exp32, fma, gamma, lane_sum

CHUNK = 512


def _joined(q, q_rope, latent, k_rope, heads):
    """Queries [T,N,R+Q] and rows [S,R+Q]."""
    tokens = len(q)
    a = np.concatenate([q.reshape(tokens, heads, -1), q_rope.reshape(tokens, heads, -1)], axis=2)
    return a, np.concatenate([latent, k_rope], axis=1)


def _one(a, c, values, scale, chunk):
    """One query over all rows of c."""
    with np.errstate(all="ignore"):
        s = [np.float32(dot(a, row) * np.float32(scale)) for row in c]
        numbers = [x for x in s if not np.isnan(x)]
        top = max(numbers) if numbers else np.float32(-np.inf)
        e = [exp32(float(np.float32(x - top))) for x in s]
        total, result = np.float32(0), np.zeros(values.shape[1], np.float32)
        for first in range(0, len(c), chunk):
            total += lane_sum(e[first : first + chunk])
            for r in range(values.shape[1]):
                acc = 0.0
                for j in range(first, min(first + chunk, len(c))):
                    acc = fma(float(values[j, r]), float(e[j]), acc)
                result[r] += np.float32(acc)
        return result / total


def bits(q, q_rope, latent, k_rope, positions, scale, heads, chunk=CHUNK, values=None):
    """The result; `values` replaces what is summed."""
    a, c = _joined(q, q_rope, latent, k_rope, heads)
    values = latent if values is None else values
    y = np.empty((len(q), heads, latent.shape[1]), np.float32)
    for t, n in np.ndindex(y.shape[:2]):
        seen = int(positions[t]) + 1
        y[t, n] = _one(a[t, n], c[:seen], values[:seen], scale, chunk)
    return {"y": y.reshape(q.shape)}


def reference(q, q_rope, latent, k_rope, positions, scale, heads):
    """{name: (binary64 value, bound)}; the derivation is that of attention."""
    a, c = (x.astype(float) for x in _joined(q, q_rope, latent, k_rope, heads))
    y = np.empty((len(q), heads, latent.shape[1]))
    bound = np.empty_like(y)
    with np.errstate(all="ignore"):
        for t, n in np.ndindex(y.shape[:2]):
            rows, values = c[: positions[t] + 1], latent[: positions[t] + 1].astype(float)
            s = rows @ a[t, n] * scale
            sizes = np.abs(rows) @ np.abs(a[t, n]) * scale
            error = gamma(-(-c.shape[1] // 16) + 4) * sizes + 2 * U * sizes
            relative = np.expm1(error + error[np.argmax(s)] + 1.1 * U * np.abs(s - s.max())) + U
            p = np.exp(s - s.max())
            p /= p.sum()
            steps = relative + gamma(min(len(rows), CHUNK) + len(rows) // CHUNK + 3)
            y[t, n] = p @ values
            bound[t, n] = 1.01 * ((p * steps) @ np.abs(values) + (p @ steps) * np.abs(y[t, n]))
    return {"y": (y.reshape(q.shape), bound.reshape(q.shape) + len(c) * TINY)}


def _soft(q, q_rope, latent, k_rope, positions, scale, heads, seen, maximum=True, masked=None):
    """Binary64 attention; seen(p) lists keys, masked(p, j) those that are scored but weighted 0."""
    a, c = _joined(q, q_rope, latent, k_rope, heads)
    y = np.zeros((len(q), heads, latent.shape[1]))
    kind = float if maximum else np.float32
    with np.errstate(all="ignore"):
        for t, n in np.ndindex(y.shape[:2]):
            keys = list(seen(int(positions[t])))
            s = c[keys].astype(kind) @ a[t, n] * kind(scale)
            e = np.exp(s - s.max() if maximum and keys else s)
            if masked:
                e *= np.array([not masked(int(positions[t]), j) for j in keys])
            y[t, n] = e @ latent[keys] / e.sum()
    return {"y": y.reshape(q.shape).astype(np.float32)}


def _separate_sums(q, q_rope, latent, k_rope, positions, scale, heads):
    """Score of the latent plus score of the rotated part, each a reduction of its own: a row padded between them."""
    pad = -latent.shape[1] % 16

    def wide(x, parts):
        return np.pad(x.reshape(len(x), parts, -1), ((0, 0), (0, 0), (0, pad))).reshape(len(x), -1)

    found = bits(wide(q, heads), q_rope, wide(latent, 1), k_rope, positions, scale, heads)["y"]
    return {"y": found.reshape(len(q), heads, -1)[:, :, : latent.shape[1]].reshape(q.shape)}


def _without_rope(q_rope, **inputs):
    return bits(q_rope=np.zeros_like(q_rope), **inputs)


def _end_of_row(latent, k_rope, **inputs):
    row = np.concatenate([latent, k_rope], axis=1)
    return bits(latent=latent, k_rope=k_rope, values=row[:, row.shape[1] - latent.shape[1] :], **inputs)


def _latent_scale(q, heads, scale, **inputs):
    return bits(q=q, heads=heads, scale=(q.shape[1] // heads) ** -0.5, **inputs)


def _no_mscale(q, q_rope, heads, scale, **inputs):
    return bits(q=q, q_rope=q_rope, heads=heads, scale=((q.shape[1] + q_rope.shape[1]) // heads) ** -0.5, **inputs)


def _boundary_lost(latent, k_rope, **inputs):
    """The first position of a chunk takes no part."""
    low = latent.copy()
    low[CHUNK::CHUNK] = -1e4 * np.sign(inputs["q"][0, : latent.shape[1]])
    return bits(latent=low, k_rope=k_rope, values=latent, **inputs)


MUTANTS = {
    "A01": _no_mscale,
    "A02": _latent_scale,
    "rotated_part_forgotten": _without_rope,
    "separate_sums": _separate_sums,
    "values_from_the_end": _end_of_row,
    "future_seen": lambda latent, **k: _soft(latent=latent, **k, seen=lambda p: range(len(latent))),
    "own_position_missing": lambda **k: _soft(**k, seen=range),
    "no_maximum": lambda **k: _soft(**k, seen=lambda p: range(p + 1), maximum=False),
    "masked_by_weight_zero": lambda latent, **k: _soft(latent=latent, **k, seen=lambda p: range(len(latent)),
                                                       masked=lambda p, j: j > p),
    "one_sum": lambda **inputs: bits(**inputs, chunk=2048),
    "chunk_start_lost": _boundary_lost,
}  # fmt: skip
ORDER = {"one_sum", "separate_sums"}
