"""expert_linear: one choice after the other, with the rational reduction of linear."""

import numpy as np

from tests.oracles.arithmetic import dot, dot_bound, dots, exact_dots


def _rows(x, ids):
    """(t, j, expert, row) of every choice."""
    for t, j in np.ndindex(ids.shape):
        yield t, j, int(ids[t, j]), (x[t] if x.ndim == 2 else x[t, j])[None]


def _each(function, x, ids, w, dtype=np.float32):
    y = np.empty((*ids.shape, w.shape[1]), dtype)
    for t, j, expert, row in _rows(x, ids):
        y[t, j] = function(row, w[expert])[0]
    return y


def bits(x, ids, w):
    """The result."""
    return {"y": _each(dots, x, ids, w)}


def reference(x, ids, w):
    """{name: (binary64 value, bound)}: as linear."""
    return {"y": (_each(exact_dots, x, ids, w, float), _each(dot_bound, x, ids, w, float))}


def _halves_after(x, ids, w, rows):
    """Choices of an expert beyond its first `rows` are summed in two halves of the width."""
    y, seen, half = bits(x, ids, w)["y"], {}, x.shape[-1] // 2
    for t, j, expert, (row,) in _rows(x, ids):
        seen[expert] = seen.get(expert, 0) + 1
        if seen[expert] > rows:
            y[t, j] = [dot(f[:half], row[:half]) + dot(f[half:], row[half:]) for f in w[expert]]
    return {"y": y}


def _one_row_per_expert(x, ids, w):
    y, done = bits(x, ids, w)["y"], set()
    for t, j, expert, _ in _rows(x, ids):
        y[t, j] *= expert not in done
        done.add(expert)
    return {"y": y}


def _halves_exchanged(x, ids, w):
    return bits(x, ids, np.roll(w, w.shape[1] // 2, axis=1))


MUTANTS = {
    "E05": (_halves_exchanged, lambda x, ids, w: bits(x, ids, np.concatenate([w[:, 0::2], w[:, 1::2]], axis=1))),
    "E06": lambda x, ids, w: bits(x, ids, w.reshape(w.shape[0], w.shape[2], w.shape[1]).transpose(0, 2, 1)),
    "E08": lambda x, ids, w: bits(x, (ids + 1) % w.shape[0], w),
    "N03": lambda x, ids, w: _halves_after(x, ids, w, 8),
    "N05": lambda x, ids, w: _halves_after(x, ids, w, 1),
    "R17": lambda x, ids, w: bits(x, ids & 255, w),
    "first_token_chooses": lambda x, ids, w: bits(x, np.broadcast_to(ids[:1], ids.shape), w),
    "one_row_per_expert": _one_row_per_expert,
    "first_row_for_all": lambda x, ids, w: bits(x[:, 0], ids, w),
}
ORDER = {"N03", "N05"}
