"""linear: the one reduction in rationals; its distance from the exact product."""

import numpy as np

from tests.oracles.arithmetic import bf16, dot_bound, dots, exact_dots, halves_after, serial_dots


def bits(x, w):
    """The result, every fma rounded from a Fraction."""
    return {"y": dots(x, w)}


def reference(x, w):
    """{name: (binary64 value, bound)}."""
    return {"y": (exact_dots(x, w), dot_bound(x, w))}


def _unfused(x, w):
    y = np.zeros((x.shape[0], w.shape[0]), np.float32)
    for t, n in np.ndindex(y.shape):
        lanes = np.zeros(16, np.float32)
        for k in range(x.shape[1]):
            lanes[k % 16] += x[t, k] * w[n, k]
        for half in (8, 4, 2, 1):
            lanes = lanes[:half] + lanes[half:]
        y[t, n] = lanes[0]
    return {"y": y}


def _softmax(x, w):
    e = np.exp(exact_dots(x, w))
    return {"y": (e / e.sum(axis=1, keepdims=True)).astype(np.float32)}


def _zeros_skipped(x, w):
    y = [[sum((a * b for a, b in zip(row, vector) if a != 0 and b != 0), np.float32(0)) for row in w] for vector in x]
    return {"y": np.array(y, np.float32)}


def _int8(x, w):
    """Rows of W as signed bytes with one scale each."""
    scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    return {"y": dots(x, np.rint(w / np.where(scale > 0, scale, np.float32(1))) * scale)}


MUTANTS = {
    "Q14": _int8,
    "E06": lambda x, w: {"y": dots(x, w.reshape(w.shape[1], w.shape[0]).T)},
    "N03": lambda x, w: {"y": halves_after(x, w, 8)},
    "R12": lambda x, w: {"y": bf16(exact_dots(x, w))},
    "R23": _softmax,
    "serial": lambda x, w: {"y": serial_dots(x, w)},
    "unfused": _unfused,
    "binary64": lambda x, w: {"y": exact_dots(x, w).astype(np.float32)},
    "tail_dropped": lambda x, w: {"y": dots(x[:, : x.shape[1] // 16 * 16], w[:, : x.shape[1] // 16 * 16])},
    "rows_dropped": lambda x, w: {"y": dots(x, w) * (np.arange(w.shape[0]) < w.shape[0] // 16 * 16).astype(np.float32)},
    "zeros_skipped": _zeros_skipped,
}
ORDER = {"N03", "serial", "unfused", "binary64"}  # within the bound: only the bits tell
