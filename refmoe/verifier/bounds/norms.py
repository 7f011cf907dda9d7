"""Norms: y = x w / sqrt(mean(x^2) + eps)."""

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import bound


def normed(a, x: Ball, w: Ball, eps) -> Ball:
    """The last axis. Both dialects are conforming: x s rounded to the intermediate type before the weight, or not."""
    mean = a.sum(x * x) / float(x.v.shape[-1])
    scale = a.inverse_root(mean + float(np.float32(eps)))
    return a.out(a.mid(x * scale) * w)


@bound("rms_norm")
def rms_norm(a, x, w, eps):
    """Row by row."""
    return {"y": normed(a, a.value(x), a.value(w, "vector"), eps)}


@bound("head_norm")
def head_norm(a, x, w, eps):
    """Head by head."""
    heads = a.value(x).reshape(len(x), -1, len(w))
    y = normed(a, heads, a.value(w, "vector"), eps)
    return {"y": y.reshape(*x.shape)}
