"""Norms: A09 to A11, A14, E10, N01, N02."""

import numpy as np

from refmoe.verifier.balls import Ball, nearest
from refmoe.verifier.mutations import mutation, symptom

NORMS = ("rms_norm", "head_norm")
EPS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def heads(m) -> Ball:
    """x by the width that is normalised."""
    return m.a.value(m.x).reshape(len(m.x), -1, len(m.w))


def shaped(m, y: Ball):
    """A result in the shape of x."""
    return {"y": m.a.out(y.reshape(*m.x.shape))}


def scale_of(m, x: Ball, count=None) -> Ball:
    """1 / sqrt(mean(x^2) + eps)."""
    mean = m.a.sum(x * x) / float(count or x.v.shape[-1])
    return m.a.inverse_root(mean + float(np.float32(m.eps)))


@mutation("A14", *NORMS)
def other_eps(m):
    for eps in EPS:
        if np.float32(eps) != np.float32(m.eps):
            yield f"eps {eps:g} for {m.eps:g}" if eps else f"no eps where it is {m.eps:g}", m.given(eps=eps)


@mutation("eps_outside_root", *NORMS, title="eps added outside the root")
def eps_outside(m):
    x, w = heads(m), m.a.value(m.w, "vector")

    def make():
        size = np.sqrt((x.v**2).mean(axis=-1, keepdims=True)) + float(np.float32(m.eps))
        return shaped(m, x * Ball(1 / size, 1e-6 / size) * w)

    yield "", make


@mutation("A11", *NORMS)
def not_called(m):
    yield "the input comes out as it was", lambda: shaped(m, m.a.value(m.x))
    yield "the weights are not applied", m.given(w=np.ones_like(m.w))
    yield "only the weights are applied", lambda: shaped(m, heads(m) * m.a.value(m.w, "vector"))


@mutation("E10", *NORMS)
def one_plus_w(m):
    x, w = heads(m), m.a.value(m.w, "vector")
    for one, word in ((1.0, "1 + w for w"), (-1.0, "w - 1 for w")):
        yield word, lambda one=one: shaped(m, m.a.mid(x * scale_of(m, x)) * m.a.mid(w + one))


@mutation("N01", *NORMS)
def rounded_before_weight(m):
    x, w = heads(m), m.a.value(m.w, "vector")
    for kind in ("bf16", "f16"):
        if m.a.profile.intermediate != kind:
            def make(kind=kind):
                y = x * scale_of(m, x)
                low, high = (nearest(end.astype(np.float32), kind) for end in (y.v - y.e, y.v + y.e))
                return shaped(m, Ball((low.astype(float) + high) / 2, abs(high.astype(float) - low) / 2) * w)

            yield f"rounded to {kind} before the weight", make


@mutation("N02", *NORMS)
def narrow_scale(m):
    x, w = heads(m), m.a.value(m.w, "vector")
    for kind in ("bf16", "f16"):
        def make(kind=kind, of_mean=False):
            mean = (x.v**2).mean(axis=-1, keepdims=True)
            mean = nearest(mean.astype(np.float32), kind).astype(float) if of_mean else mean
            scale = 1 / np.sqrt(mean + float(np.float32(m.eps)))
            scale = scale if of_mean else nearest(scale.astype(np.float32), kind).astype(float)
            return shaped(m, m.a.mid(x * Ball(scale, 1e-7 * scale)) * w)

        yield f"inverse root in {kind}", make
        yield f"mean in {kind}", lambda make=make: make(of_mean=True)


@mutation("A10", "head_norm")
def whole_width(m):
    x, w = m.a.value(m.x), m.a.value(m.w, "vector")
    many = Ball(np.tile(w.v, m.x.shape[1] // len(m.w)), np.tile(w.e, m.x.shape[1] // len(m.w)))
    if m.x.shape[1] > len(m.w):
        yield "one mean over all heads", lambda: shaped(m, m.a.mid(x * scale_of(m, x)) * many)


@mutation("A10", "rms_norm")
def per_part(m):
    x, w = m.a.value(m.x), m.a.value(m.w, "vector")
    for parts in (2, 4, 8, 16, 32):
        if m.x.shape[1] % parts == 0 and m.x.shape[1] > parts:
            cut = x.reshape(len(m.x), parts, -1)
            def make(cut=cut):
                return shaped(m, m.a.mid(cut * scale_of(m, cut)).reshape(*m.x.shape) * w)

            yield f"a mean for each of {parts} parts", make


@mutation("padded_mean", *NORMS, title="mean taken over another number of elements")
def padded(m):
    x, w = heads(m), m.a.value(m.w, "vector")
    width = len(m.w)
    counts = {-(-width // block) * block for block in (4, 8, 16, 32, 64, 128)} | {width - 1, width + 1} - {width}
    for count in sorted(counts - {0, width}):
        yield f"{count} for {width}", lambda count=count: shaped(m, m.a.mid(x * scale_of(m, x, count)) * w)


@mutation("mean_subtracted", *NORMS, title="LayerNorm: the mean subtracted as well")
def layer_norm(m):
    x, w = heads(m), m.a.value(m.w, "vector")

    def make():
        centred = x - m.a.sum(x) / float(len(m.w))
        return shaped(m, m.a.mid(centred * scale_of(m, centred)) * w)

    yield "", make


@symptom("A09", "head_norm")
def after_rotation(question, misses):
    """Norm, rotation by any angle, weights, rotation back: (y / s - mean(w) x) is |difference of the weights| / 2 times
    as long as x, for every pair of a head. No angle need be known."""
    x, w = question.inputs["x"].astype(np.float64), question.inputs["w"].astype(np.float64)
    y, miss, size = question.found["y"].astype(np.float64), misses["y"], len(w)
    if size % 2 or not np.isfinite(y).all():
        return None
    unit = 2.0**-22 if question.profile.output == question.profile.intermediate == "f32" else 2.0**-7
    x, y, e = (array.reshape(-1, size) for array in (x, y, miss.ball.e))
    s = 1 / np.sqrt((x**2).mean(axis=1, keepdims=True) + float(np.float32(question.inputs["eps"])))
    pairs = {"half-split pairs": (np.arange(size // 2), np.arange(size // 2) + size // 2),
             "neighbours": (np.arange(0, size, 2), np.arange(1, size, 2))}  # fmt: skip
    for word, (i, j) in pairs.items():
        middle, apart = (w[i] + w[j]) / 2, abs(w[i] - w[j]) / 2
        left = np.hypot(y[:, i] - s * middle * x[:, i], y[:, j] - s * middle * x[:, j])
        right = s * apart * np.hypot(x[:, i], x[:, j])
        slack = 4 * np.hypot(e[:, i], e[:, j]) + 4 * unit * (right + np.hypot(y[:, i], y[:, j]))
        if (abs(left - right) <= slack).all() and (apart > 1e-3 * abs(middle)).any():
            return f"the norm follows the rotation of {word}"
    return None
