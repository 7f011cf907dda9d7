"""absorb_query: the one reduction in rationals on explicitly transposed blocks; its distance from the exact product."""

import numpy as np

from tests.oracles.arithmetic import dot_bound, dots, exact_dots, halves_after, serial_dots


def blocks(x, w, heads):
    """[(x of one head, its key rows transposed)]."""
    xs, ws = x.reshape(len(x), heads, -1), w.reshape(heads, -1, w.shape[1])
    return [(xs[:, n], ws[n, : xs.shape[2]].T) for n in range(heads)]


def _joined(results):
    return {"y": np.concatenate(results, axis=1).astype(np.float32)}


def bits(x, w, heads, product=dots, cut=blocks):
    """The result, every fma rounded from a Fraction."""
    return _joined([product(*pair) for pair in cut(x, w, heads)])


def reference(x, w, heads):
    """{name: (binary64 value, bound)}."""
    pairs = blocks(x, w, heads)
    return {"y": (np.concatenate([exact_dots(*pair) for pair in pairs], axis=1),
                  np.concatenate([dot_bound(*pair) for pair in pairs], axis=1))}


def _value_rows(x, w, heads):
    size = x.shape[1] // heads
    return [(a, w.reshape(heads, -1, w.shape[1])[n, -size:].T) for n, (a, _) in enumerate(blocks(x, w, heads))]


def _keys_first(x, w, heads):
    size = x.shape[1] // heads
    return [(a, w[n * size : (n + 1) * size].T) for n, (a, _) in enumerate(blocks(x, w, heads))]


def _first_head(x, w, heads):
    pairs = blocks(x, w, heads)
    return [(a, pairs[0][1]) for a, _ in pairs]


def _unfused(x, w):
    y = np.zeros((len(x), len(w)), np.float32)
    for t, n in np.ndindex(y.shape):
        lanes = np.zeros(16, np.float32)
        for k in range(x.shape[1]):
            lanes[k % 16] += x[t, k] * w[n, k]
        for half in (8, 4, 2, 1):
            lanes = lanes[:half] + lanes[half:]
        y[t, n] = lanes[0]
    return y


def _zeros_skipped(x, w):
    y = [[sum((a * b for a, b in zip(row, vector) if a != 0 and b != 0), np.float32(0)) for row in w] for vector in x]
    return np.array(y, np.float32)


def _whole_vectors(x, w):
    return dots(x[:, : x.shape[1] // 16 * 16], w[:, : x.shape[1] // 16 * 16])


PRODUCTS = {
    "N03": lambda x, w: halves_after(x, w, 8),
    "serial": serial_dots,
    "unfused": _unfused,
    "tail_dropped": _whole_vectors,
    "zeros_skipped": _zeros_skipped,
}
CUTS = {"value_rows": _value_rows, "keys_first": _keys_first, "first_head": _first_head}
ORDER = {"N03", "serial", "unfused"}  # within the bound: only the bits tell
MUTANTS = (
    {key: lambda x, w, heads, f=f: bits(x, w, heads, product=f) for key, f in PRODUCTS.items()}
    | {key: lambda x, w, heads, f=f: bits(x, w, heads, cut=f) for key, f in CUTS.items()}
    | {"E06": lambda x, w, heads: bits(x, w, heads, product=lambda a, b: dots(a, b.T))}
)
