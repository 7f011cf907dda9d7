"""Mutant ports for rows of the catalogue that the oracles of the ops do not have: plain NumPy, nothing of refmoe."""

import numpy as np


def _int8_by_rows(w):
    scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    return np.rint(w / np.where(scale > 0, scale, 1)) * scale


def _linear(x, w):
    return {"y": (x.astype(float) @ w.astype(float).T).astype(np.float32)}


def _half_rotated(x, positions, inv_freq, amplitude):
    """Only the first half of the pairs turns."""
    kept = np.where(np.arange(len(inv_freq)) < len(inv_freq) // 2, inv_freq, 0)
    angle = positions[:, None] * kept.astype(float)
    c, s = np.cos(angle)[:, None] * amplitude, np.sin(angle)[:, None] * amplitude
    heads = x.reshape(len(x), -1, 2 * len(inv_freq)).astype(float)
    a, b = heads[..., : len(inv_freq)], heads[..., len(inv_freq) :]
    return {"y": np.concatenate([a * c - b * s, b * c + a * s], axis=-1).reshape(x.shape).astype(np.float32)}


MORE = {
    "rope_half": {"A06": (lambda x, **rest: {"y": x}, _half_rotated)},
    "rope_pairs": {"A06": lambda x, **rest: {"y": x}},
    "add": {"E02": lambda a, b: {"y": a}},
    "linear": {"Q14": lambda x, w: _linear(x, _int8_by_rows(w))},
    "combine": {
        "R09": lambda x, weights: {"y": (2.5 * np.einsum("tk,tkh->th", weights, x)).astype(np.float32)},
        "R10": lambda x, weights: {"y": (np.einsum("tk,tkh->th", weights, x) / 2.446).astype(np.float32)},
    },
    "head_norm": {"E10": lambda x, w, eps: {"y": _normed(x, 1 + w.astype(float), eps)}},
}


def _normed(x, w, eps):
    heads = x.reshape(len(x), -1, len(w)).astype(float)
    return (heads / np.sqrt((heads**2).mean(axis=-1, keepdims=True) + eps) * w).reshape(x.shape).astype(np.float32)
