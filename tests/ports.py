"""Correct ports, simulated: every op in NumPy float32 with the roundings and the free orders of real kernels.

A Port draws everything that a port is free to choose: the order and the splitting of sums, blocks of a matrix unit that
cut their terms, fused or eager (every elementary step rounded) kernels, which operands are held unrounded, exp by exp2.
Nothing of refmoe's kernels, bounds or oracles is used. `run(case)` gives the outputs of one vector.
"""

import numpy as np

F = np.float32
LOG2E = F(1.4426950408889634)
KINDS = ("f32-any-order", "bf16", "f16", "tf32", "fp8-accumulate", "int8-activations")


def bf16(x):
    bits = np.ascontiguousarray(x, F).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(F)
    return np.where(np.isnan(x), x, rounded).astype(F)


def f16(x):
    return np.asarray(x, F).astype(np.float16).astype(F)


def cut_tf32(x):
    return (np.ascontiguousarray(x, F).view(np.uint32) & np.uint32(0xFFFFE000)).view(F)


def round_tf32(x):
    bits = np.ascontiguousarray(x, F).view(np.uint32)
    return np.where(np.isfinite(x), ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(F), x).astype(F)


def toward_zero(x):
    """binary64 to binary32, cut."""
    y = x.astype(F)
    over = np.abs(y.astype(float)) > np.abs(x)
    return np.where(over & np.isfinite(y), np.nextafter(y, F(0)), y)


def keep_bits(x, bits):
    """Cut to so many significant bits."""
    m, e = np.frexp(x)
    return np.ldexp(np.trunc(m * 2.0**bits) / 2.0**bits, e)


def e4m3(x):
    """Rounded to float8 e4m3, which must be in range."""
    _, e = np.frexp(np.abs(x).astype(float))
    step = np.ldexp(1.0, np.maximum(e - 1, -6) - 3)
    return (np.sign(x) * np.minimum(np.rint(np.abs(x) / step) * step, 448.0)).astype(float)


class Port:
    """One port; `kind` is also the profile that it declares."""

    def __init__(self, kind, seed):
        self.kind, self.rng = kind, np.random.default_rng([seed, KINDS.index(kind)])
        self.eager = bool(self.rng.integers(2))
        self.exp2 = bool(self.rng.integers(2))
        self.narrow = {"bf16": bf16, "f16": f16, "fp8-accumulate": bf16, "int8-activations": bf16}.get(kind)
        self.unrounded_vectors = bool(self.rng.integers(2))
        self.tf32 = (cut_tf32, round_tf32)[self.rng.integers(2)]

    # -- roundings
    def load(self, x):
        """An activation as it comes out of storage."""
        return self.narrow(x) if self.narrow else np.asarray(x, F)

    def vector(self, x):
        """Norm weights and biases."""
        return np.asarray(x, F) if self.unrounded_vectors else self.load(x)

    def mid(self, x):
        return self.narrow(x) if self.narrow and self.eager else x

    def out(self, x):
        x = np.asarray(x, F)
        return self.narrow(x) if self.narrow else x

    def exp(self, x):
        return np.exp2(x * LOG2E) if self.exp2 else np.exp(x)

    def sigmoid(self, x):
        return F(1) / (F(1) + self.exp(-x))

    # -- sums
    def add_up(self, terms):
        """Sum over the last axis in float32, in some order, in some pieces."""
        count = terms.shape[-1]
        terms = terms[..., self.rng.permutation(count)]
        pieces = np.array_split(np.arange(count), int(self.rng.integers(1, min(count, 8) + 1)))
        serial = bool(self.rng.integers(2))
        parts = [np.cumsum(terms[..., piece], axis=-1, dtype=F)[..., -1] if serial else
                 np.add.reduce(terms[..., piece], axis=-1, dtype=F) for piece in pieces]  # fmt: skip
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def matrix_unit(self, products, bits=None):
        """Exact products, aligned and cut in blocks, accumulated."""
        block = int(self.rng.choice([4, 8, 16, 32]))
        total = np.zeros(products.shape[:-1], F)
        for first in range(0, products.shape[-1], block):
            part = products[..., first : first + block]
            top = np.maximum(np.abs(part).max(axis=-1), np.abs(total))
            unit = np.ldexp(1.0, np.frexp(top)[1] - (bits or 24))
            with np.errstate(all="ignore"):
                aligned = np.trunc(part / unit[..., None]).sum(axis=-1) + np.trunc(total / unit)
                value = np.where(unit > 0, aligned * unit, 0.0)
            value = np.where(np.isfinite(top), value, total + part.sum(axis=-1))
            total = toward_zero(value if bits is None else np.where(np.isfinite(value), keep_bits(value, bits), value))
        return total

    def product(self, x, w):
        """x[..., K] w[N, K]; attention's products too, where no scales are shared."""
        products = self.load(x).astype(float)[..., None, :] * self.load(w).astype(float)
        if self.kind == "f32-any-order":
            return self.add_up(np.asarray(x, F)[..., None, :] * np.asarray(w, F))
        if self.kind == "tf32":
            products = self.tf32(x).astype(float)[..., None, :] * self.tf32(w).astype(float)
        return self.matrix_unit(products) if self.rng.integers(2) else self.add_up(products.astype(F))

    def matmul(self, x, w):
        """A matrix of weights applied to activations."""
        if self.kind == "int8-activations":
            group = 32
            held = np.array(x, float)
            for first in range(0, x.shape[-1], group):
                part = x[..., first : first + group].astype(float)
                scale = np.abs(part).max(axis=-1, keepdims=True) / 127
                scale = scale.astype(np.float16).astype(float) if self.eager and (scale > 1e-4).all() else scale
                with np.errstate(all="ignore"):
                    held[..., first : first + group] = np.where(scale > 0, np.rint(part / scale) * scale, part)
            return self.add_up((held[..., None, :] * np.asarray(w, float)).astype(F))
        if self.kind == "fp8-accumulate":
            products = self.scaled(x, 128)[..., None, :] * self.scaled(w, 128)
            total = np.zeros(products.shape[:-1], F)
            for first in range(0, products.shape[-1], 128):
                total = total + self.matrix_unit(products[..., first : first + 128], 14)
            return total
        return self.product(x, w)

    def scaled(self, x, group):
        held = np.array(x, float)
        for first in range(0, x.shape[-1], group):
            part = x[..., first : first + group].astype(float)
            scale = np.abs(part).max(axis=-1, keepdims=True) / 448
            if self.eager:
                scale = np.exp2(np.ceil(np.log2(np.where(scale > 0, scale, 1))))
            with np.errstate(all="ignore"):
                held[..., first : first + group] = np.where(scale > 0, e4m3(part / scale) * scale, part)
        return held

    def run(self, case):
        """The outputs of one vector; None for an op that is not simulated. A decoded matrix is kept as it is, or stored
        in the narrow type."""
        if not case.format and case.op not in OPS:
            return None
        with np.errstate(all="ignore"):
            if case.format:
                return {name: self.out(array) for name, array in case.expected.items()}
            found = OPS[case.op](self, **case.inputs, **case.attrs)
        found = found if isinstance(found, tuple) else (found,)
        return dict(zip(case.outputs, found, strict=True))


# ---- products ------------------------------------------------------------------------------------------------------

def linear(p, x, w):
    return p.out(p.matmul(x, w))


def linear_bias(p, x, w, b):
    if p.rng.integers(2) and p.kind == "f32-any-order":  # the accumulator begins with the bias
        terms = np.concatenate([np.broadcast_to(b[:, None], (len(x), len(b), 1)), x[:, None] * w], axis=-1)
        return p.out(p.add_up(terms))
    return p.out(p.mid(p.matmul(x, w)) + p.vector(b))


def expert_linear(p, x, ids, w):
    y = np.empty((*ids.shape, w.shape[1]), F)
    for t, j in np.ndindex(ids.shape):
        y[t, j] = p.matmul((x[t] if x.ndim == 2 else x[t, j])[None], w[ids[t, j]])[0]
    return p.out(y)


def embedding(p, ids, w):
    return p.out(w[ids])


def absorb_query(p, x, w, heads):
    xs, ws = x.reshape(len(x), heads, -1), w.reshape(heads, -1, w.shape[1])
    return p.out(np.concatenate([p.matmul(xs[:, n], ws[n, : xs.shape[2]].T) for n in range(heads)], axis=1))


def expand_value(p, x, w, width, heads):
    xs, ws = x.reshape(len(x), heads, -1), w.reshape(heads, -1, w.shape[1])
    return p.out(np.concatenate([p.matmul(xs[:, n], ws[n, -width:]) for n in range(heads)], axis=1))


def split_heads(p, x, left, right, heads):
    cut = x.reshape(len(x), heads, left + right)
    return p.out(cut[:, :, :left].reshape(len(x), -1)), p.out(cut[:, :, left:].reshape(len(x), -1))


# ---- elementwise ---------------------------------------------------------------------------------------------------

def add(p, a, b):
    return p.out(p.load(a) + p.load(b))


def clip(p, x, limit):
    return p.out(np.clip(p.load(x), -F(limit), F(limit)))


def swiglu(p, gate, up):
    gate, up = p.load(gate), p.load(up)
    if p.rng.integers(2):
        return p.out(p.mid(gate * p.sigmoid(gate)) * up)
    return p.out(p.mid(gate / (F(1) + p.exp(-gate))) * up)


def scale_by_sigmoid(p, x, g):
    return p.out(p.load(x) * p.mid(p.sigmoid(p.load(g))))


def combine(p, x, weights):
    x, weights = p.load(x), p.load(weights)
    if not (p.narrow and p.eager):
        return p.out(p.add_up(np.moveaxis(x * weights[..., None], 1, -1)))
    y = np.zeros((x.shape[0], x.shape[2]), F)
    for j in p.rng.permutation(x.shape[1]):
        y = p.mid(y + p.mid(x[:, j] * weights[:, j, None]))
    return y


def argmax(p, logits):
    value = np.where(np.isnan(logits), -np.inf, logits)
    ids = [next((v for v in np.flatnonzero(row == row.max()) if not np.isnan(raw[v])), 0)
           for row, raw in zip(value, logits, strict=True)]
    return np.array(ids, np.int64)


# ---- norms, rotation -----------------------------------------------------------------------------------------------

def rms_norm(p, x, w, eps):
    x, w = p.load(x), p.vector(w)
    mean = p.add_up(x * x)[..., None] / F(x.shape[-1])
    scale = F(1) / np.sqrt(mean + F(eps))
    return p.out(p.mid(x * scale) * w)


def head_norm(p, x, w, eps):
    return rms_norm(p, x.reshape(len(x), -1, len(w)), w, eps).reshape(x.shape)


def rotated(p, x, positions, inv_freq, amplitude, first, second):
    angle = positions.astype(F)[:, None] * inv_freq
    if p.rng.integers(2):
        angle = positions[:, None] * inv_freq.astype(float)
    c, s = (p.mid((f(angle.astype(float)).astype(F)) * F(amplitude))[:, None] for f in (np.cos, np.sin))
    heads = p.load(x).reshape(len(x), -1, 2 * len(inv_freq))
    a, b = heads[..., first], heads[..., second]
    y = np.empty_like(heads)
    y[..., first] = p.mid(a * c) - p.mid(b * s)
    y[..., second] = p.mid(b * c) + p.mid(a * s)
    return p.out(y.reshape(x.shape))


def rope_half(p, x, positions, inv_freq, amplitude):
    half = np.arange(len(inv_freq))
    return rotated(p, x, positions, inv_freq, amplitude, half, half + len(half))


def rope_pairs(p, x, positions, inv_freq, amplitude):
    pair = np.arange(0, 2 * len(inv_freq), 2)
    return rotated(p, x, positions, inv_freq, amplitude, pair, pair + 1)


def rope_half_partial(p, x, positions, inv_freq, amplitude, head_dim):
    size = 2 * len(inv_freq)
    heads = x.reshape(len(x), -1, head_dim)
    part = rope_half(p, np.ascontiguousarray(heads[..., :size]).reshape(len(x), -1), positions, inv_freq, amplitude)
    return np.concatenate([part.reshape(len(x), -1, size), p.out(heads[..., size:])], axis=2).reshape(x.shape)


# ---- attention -----------------------------------------------------------------------------------------------------

def attend(p, q, k, v, scale, sink=None):
    """One query over the keys that it sees; in pieces with rescaling, or at once."""
    scale = F(scale)
    if p.rng.integers(2):
        s = p.mid(p.product(p.mid(p.load(q) * scale)[None], k))[0]
    else:
        s = p.mid(p.mid(p.product(q[None], k)) * scale)[0]
    pieces = np.array_split(np.arange(len(k)), int(p.rng.integers(1, 4)))
    top, total, y = F(-np.inf), F(0), np.zeros(v.shape[1], F)
    for piece in (piece for piece in pieces if len(piece)):
        new = max(top, s[piece].max())
        e, old = p.exp(s[piece] - new), p.exp(top - new) if np.isfinite(top) else F(0)
        total = total * old + p.add_up(e)
        y = y * old + p.product(p.mid(e)[None] if p.narrow else e[None], v[piece].T)[0]
        top = new
    if sink is not None:
        new = max(top, F(sink))
        total, y = total * p.exp(top - new) + p.exp(F(sink) - new), y * p.exp(top - new)
    return y / total


def attention(p, q, k, v, positions, scale, window, heads, kv_heads):
    size = q.shape[1] // heads
    y = np.empty(q.shape, F)
    for t, n in np.ndindex(len(q), heads):
        g = n // (heads // kv_heads)
        keys = slice(max(0, positions[t] - window + 1), positions[t] + 1)
        mine, theirs = slice(n * size, n * size + size), slice(g * size, g * size + size)
        y[t, mine] = attend(p, q[t, mine], k[keys, theirs], v[keys, theirs], scale)
    return p.out(y)


def latent_attention(p, q, q_rope, latent, k_rope, positions, scale, heads):
    a = np.concatenate([q.reshape(len(q), heads, -1), q_rope.reshape(len(q), heads, -1)], axis=2)
    c = np.concatenate([latent, k_rope], axis=1)
    y = np.empty((len(q), heads, latent.shape[1]), F)
    for t, n in np.ndindex(len(q), heads):
        seen = positions[t] + 1
        y[t, n] = attend(p, a[t, n], c[:seen], latent[:seen], scale)
    return p.out(y.reshape(q.shape))


# ---- routing: in float32 in every port, the weights stored like other results ---------------------------------------

def best(values, k):
    def key(row, e):
        return np.isnan(row[e]), 0.0 if np.isnan(row[e]) else -row[e], e

    return np.array([sorted(range(len(row)), key=lambda e: key(row, e))[:k] for row in values])


def softmax(p, logits):
    e = p.exp(logits - np.where(np.isnan(logits), -np.inf, logits).max(axis=-1, keepdims=True))
    return e / p.add_up(e)[..., None]


def finish(p, ids, chosen, renorm, tiny=0.0, factor=1.0):
    if renorm:
        chosen = chosen / (p.add_up(chosen)[:, None] + F(tiny))
    return ids, p.out(chosen * F(factor))


def route_softmax_topk(p, logits, k):
    values = softmax(p, logits)
    ids = best(values, k)
    return finish(p, ids, np.take_along_axis(values, ids, 1), False)


def route_softmax_topk_renorm(p, logits, k):
    values = softmax(p, logits)
    if p.rng.integers(2) and not np.isnan(values).any() and (np.sort(-values, axis=1)[:, :k] < 0).all():
        ids = best(logits, k)  # top-k first, softmax of the chosen
        return ids, p.out(softmax(p, np.take_along_axis(logits, ids, 1)))
    ids = best(values, k)
    return finish(p, ids, np.take_along_axis(values, ids, 1), True)


def grouped(choice, scores, k, groups, open_groups):
    """Best experts of open groups."""
    closed = np.ones(scores.shape, bool)
    np.put_along_axis(closed, best(scores, open_groups), False, axis=1)
    shut = np.repeat(closed, choice.shape[1] // groups, axis=1)
    ids = []
    for row, dead in zip(choice, shut, strict=True):
        free = np.flatnonzero(~dead)
        ids.append(free[best(row[free][None], k)[0]])
    return np.array(ids)


def route_softmax_groups(p, logits, k, groups, open_groups, factor):
    values = softmax(p, logits)
    scores = np.fmax.reduce(values.reshape(len(values), groups, -1), axis=2)
    ids = grouped(values, scores, k, groups, open_groups)
    return finish(p, ids, np.take_along_axis(values, ids, 1), False, factor=factor)


def sigmoid_groups(p, logits, bias, k, groups, open_groups, factor, renorm):
    s = p.sigmoid(logits)
    choice = s + bias
    members = choice.reshape(len(choice), groups, -1)
    two = np.array([[row[best(row[None], 2)[0]].sum(dtype=F) for row in rows] for rows in members])
    ids = grouped(choice, two, k, groups, open_groups)
    return finish(p, ids, np.take_along_axis(s, ids, 1), renorm, 1e-20, factor)


def route_sigmoid_groups(p, **inputs):
    return sigmoid_groups(p, **inputs, renorm=False)


def route_sigmoid_groups_renorm(p, **inputs):
    return sigmoid_groups(p, **inputs, renorm=True)


def attention_sinks(p, q, k, v, positions, sinks, scale, window, heads, kv_heads):
    size = q.shape[1] // heads
    y = np.empty(q.shape, F)
    for t, n in np.ndindex(len(q), heads):
        g = n // (heads // kv_heads)
        keys = slice(max(0, positions[t] - window + 1), positions[t] + 1)
        mine, theirs = slice(n * size, n * size + size), slice(g * size, g * size + size)
        y[t, mine] = attend(p, q[t, mine], k[keys, theirs], v[keys, theirs], scale, p.vector(sinks)[n])
    return p.out(y)


def expert_linear_bias(p, x, ids, w, b):
    y = np.empty((*ids.shape, w.shape[1]), F)
    for t, j in np.ndindex(ids.shape):
        row = (x[t] if x.ndim == 2 else x[t, j])[None]
        y[t, j] = p.mid(p.matmul(row, w[ids[t, j]])[0]) + p.vector(b)[ids[t, j]]
    return p.out(y)


def swiglu_clamped(p, x, limit, alpha):
    gate, up = p.load(x[..., 0::2]), p.load(x[..., 1::2])
    gate, up = np.minimum(gate, F(limit)), np.clip(up, -F(limit), F(limit))
    if p.rng.integers(2):
        glu = p.mid(gate * p.mid(p.sigmoid(p.mid(gate * F(alpha)))))
    else:
        glu = p.mid(gate / (F(1) + p.exp(-F(alpha) * gate)))
    return p.out(p.mid(up + F(1)) * glu)


def route_topk_softmax(p, logits, k):
    ids = best(logits, k)
    if p.rng.integers(2):
        return ids, p.out(softmax(p, np.take_along_axis(logits, ids, 1)))
    values = softmax(p, logits)
    return finish(p, ids, np.take_along_axis(values, ids, 1), True)


def codes_times(p, x, q, scale, minimum):
    """One row; the codes by a division or by a multiplication, the units in any order."""
    unit = 32 if scale.shape[1] == -(-len(x) // 32) else 16
    total = np.zeros((len(q), scale.shape[1], 2), F)
    for first in range(0, len(x), 32):
        part = x[first : first + 32]
        s = np.abs(part).max() / F(127)
        if not np.isfinite(s):
            return np.full(len(q), np.nan, F)
        codes = np.rint(part / s if p.exp2 else part * (F(1) / s)) if s >= 2.0**-126 else np.zeros(len(part))
        for at in range(first, min(first + 32, len(x)), unit):
            c, u = codes[at - first : at - first + unit], at // unit
            both = (q[:, at : at + len(c)] * c).sum(axis=1)
            total[:, u, 0] = both.astype(F) * (scale[:, u] * s if p.eager else scale[:, u]) * (F(1) if p.eager else s)
            total[:, u, 1] = F(c.sum()) * minimum[:, u] * s
    return p.add_up(total.reshape(len(q), -1))


def linear_a8(p, x, q, scale, minimum):
    return p.out(np.stack([codes_times(p, row, q, scale, minimum) for row in p.load(x)]))


def expert_linear_a8(p, x, ids, q, scale, minimum):
    x = p.load(x)
    y = np.empty((*ids.shape, q.shape[1]), F)
    for t, j in np.ndindex(ids.shape):
        e = ids[t, j]
        y[t, j] = codes_times(p, x[t] if x.ndim == 2 else x[t, j], q[e], scale[e], minimum[e])
    return p.out(y)


def linear_bias_a8(p, x, q, scale, minimum, b):
    return p.out(p.mid(np.stack([codes_times(p, row, q, scale, minimum) for row in p.load(x)])) + p.vector(b))


def expert_linear_bias_a8(p, x, ids, q, scale, minimum, b):
    x = p.load(x)
    y = np.empty((*ids.shape, q.shape[1]), F)
    for t, j in np.ndindex(ids.shape):
        e = ids[t, j]
        y[t, j] = p.mid(codes_times(p, x[t] if x.ndim == 2 else x[t, j], q[e], scale[e], minimum[e])) + p.vector(b)[e]
    return p.out(y)


def logits_(p, x, w):
    return linear(p, x, w)


OPS = {name: value for name, value in list(globals().items()) if callable(value)} | {"logits": logits_}
