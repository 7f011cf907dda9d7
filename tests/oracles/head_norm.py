"""head_norm: rms_norm of every head, cut out and put back."""

import numpy as np

from tests.oracles.rms_norm import MUTANTS as ROW_MUTANTS
from tests.oracles.rms_norm import row_bits, row_reference


def _heads(x, w):
    return x.reshape(-1, len(w))


def bits(x, w, eps):
    """The result."""
    return {"y": np.stack([row_bits(head, w, eps) for head in _heads(x, w)]).reshape(x.shape)}


def reference(x, w, eps):
    """{name: (binary64 value, bound)}."""
    parts = [row_reference(head, w, eps) for head in _heads(x, w)]
    y, bound = (np.stack([part[i] for part in parts]).reshape(x.shape) for i in (0, 1))
    return {"y": (y, bound)}


def _per_head(name):
    def mutant(x, w, eps):
        return {"y": ROW_MUTANTS[name](_heads(x, w), w, eps)["y"].reshape(x.shape)}

    return mutant


def _rotated(x, sign):
    """Every head turned by the angles of half-split pairs at position t + 1."""
    size = x.shape[-1]
    angle = sign * np.arange(1, x.shape[0] + 1)[:, None, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    a, b = x[..., : size // 2], x[..., size // 2 :]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)


def _after_rotation(x, w, eps):
    heads = _rotated(x.reshape(x.shape[0], -1, len(w)).astype(float), 1)
    normed = heads / np.sqrt((heads**2).mean(axis=-1, keepdims=True) + eps) * w
    return {"y": _rotated(normed, -1).reshape(x.shape).astype(np.float32)}


def _whole_width(x, w, eps):
    wide = x.astype(float)
    scale = 1 / np.sqrt((wide**2).mean(axis=1, keepdims=True) + eps)
    return {"y": (wide * scale * np.tile(w, x.shape[1] // len(w))).astype(np.float32)}


MUTANTS = {
    "A09": _after_rotation,
    "A10": _whole_width,
    "E10": _per_head("E10"),
    "A11": lambda x, w, eps: {"y": x},
    "A14": _per_head("A14"),
    "padded_mean": _per_head("padded_mean"),
    "eps_outside_root": _per_head("eps_outside_root"),
}
