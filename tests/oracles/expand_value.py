"""expand_value: the one reduction in rationals per head; its distance from the exact product."""

import numpy as np

from tests.oracles import absorb_query as shared
from tests.oracles.arithmetic import dot_bound, dots, exact_dots


def blocks(x, w, width, heads):
    """[(x of one head, its value rows)]."""
    xs, ws = x.reshape(len(x), heads, -1), w.reshape(heads, -1, w.shape[1])
    return [(xs[:, n], ws[n, ws.shape[1] - width :]) for n in range(heads)]


def bits(x, w, width, heads, product=dots, cut=blocks):
    """The result, every fma rounded from a Fraction."""
    results = [product(*pair) for pair in cut(x, w, width, heads)]
    return {"y": np.concatenate(results, axis=1).astype(np.float32)}


def reference(x, w, width, heads):
    """{name: (binary64 value, bound)}."""
    pairs = blocks(x, w, width, heads)
    return {"y": (np.concatenate([exact_dots(*pair) for pair in pairs], axis=1),
                  np.concatenate([dot_bound(*pair) for pair in pairs], axis=1))}


def _key_rows(x, w, width, heads):
    ws = w.reshape(heads, -1, w.shape[1])
    return [(a, ws[n, :width]) for n, (a, _) in enumerate(blocks(x, w, width, heads))]


def _keys_first(x, w, width, heads):
    values = w[len(w) - heads * width :]
    return [(a, values[n * width : (n + 1) * width]) for n, (a, _) in enumerate(blocks(x, w, width, heads))]


def _first_head(x, w, width, heads):
    pairs = blocks(x, w, width, heads)
    return [(a, pairs[0][1]) for a, _ in pairs]


CUTS = {"key_rows": _key_rows, "keys_first": _keys_first, "first_head": _first_head}
ORDER = shared.ORDER
MUTANTS = (
    {key: lambda x, w, width, heads, f=f: bits(x, w, width, heads, product=f) for key, f in shared.PRODUCTS.items()}
    | {key: lambda x, w, width, heads, f=f: bits(x, w, width, heads, cut=f) for key, f in CUTS.items()}
)
