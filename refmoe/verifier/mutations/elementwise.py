"""Residual, gated activation, combine, gates, limits: E01 to E05, R09, R10, N04."""

import math

import numpy as np

from refmoe.verifier.balls import UNIT, Ball
from refmoe.verifier.mutations import mutation, symptom

FACTORS = (2.5, 2.446, 2.827, 1.8, 16.0, 2.0)


def outcome(m, y):
    """A result."""
    return {"y": m.a.out(y)}


@mutation("E02", "add")
def addend_dropped(m):
    yield "only the residual", lambda: outcome(m, m.a.value(m.inputs["a"]))
    yield "only the addend", lambda: outcome(m, m.a.value(m.b))


@mutation("added_twice", "add", title="one of the two added twice")
def twice(m):
    a = m.inputs["a"]
    yield "the residual", m.given(a=2 * a)
    yield "the addend", m.given(b=2 * m.b)
    yield "subtracted", m.given(b=-m.b)


@mutation("E03", "swiglu")
def clamped(m):
    for limit in (7.0, 10.0, 20.0):
        gate = np.minimum(m.gate, np.float32(limit))
        yield f"limited at {limit:g}", m.given(gate=gate, up=np.clip(m.up, -np.float32(limit), np.float32(limit)))


@mutation("E05", "swiglu")
def exchanged(m):
    yield "", m.given(gate=m.up, up=m.gate)


@mutation("other_activation", "swiglu", title="another activation than silu")
def other_activation(m):
    gate, up = m.a.value(m.gate), m.a.value(m.up)
    erf = np.vectorize(math.erf, [float])
    functions = {
        "gelu": lambda g: g * 0.5 * (1 + erf(g / 2**0.5)),
        "gelu by tanh": lambda g: g * 0.5 * (1 + np.tanh(0.7978845608028654 * (g + 0.044715 * g**3))),
        "gelu by 1.702": lambda g: g / (1 + np.exp(-1.702 * g)),
        "sigmoid": lambda g: 1 / (1 + np.exp(-g)),
        "relu": lambda g: np.maximum(g, 0.0),
        "none": lambda g: g,
    }
    for word, f in functions.items():
        v = f(gate.v)
        yield word, lambda v=v: outcome(m, m.a.mid(Ball(v, 16 * UNIT * (abs(v) + 1e-6))) * up)
    both = gate * up
    yield "silu of the product", lambda: m.run(gate=both.v.astype(np.float32), up=np.ones_like(m.up))


@mutation("R09", "combine")
def factor_again(m):
    for factor in FACTORS:
        yield f"times {factor:g}", lambda factor=factor: outcome(m, m.run()["y"] * factor)


@mutation("R10", "combine")
def factor_lost(m):
    for factor in FACTORS:
        yield f"divided by {factor:g}", lambda factor=factor: outcome(m, m.run()["y"] * (1 / factor))


@mutation("weights_wrong", "combine", title="weights used in another way")
def weights_wrong(m):
    total = m.weights.sum(axis=1, keepdims=True)
    yield "applied twice", m.given(weights=m.weights**2)
    yield "not applied: the mean", m.given(weights=np.full_like(m.weights, 1 / m.weights.shape[1]))
    yield "not applied: the sum", m.given(weights=np.ones_like(m.weights))
    yield "divided by their sum", m.given(weights=(m.weights / total).astype(np.float32))
    yield "in reverse order", m.given(weights=m.weights[:, ::-1])
    yield "moved by one rank", m.given(weights=np.roll(m.weights, 1, axis=1))
    yield "the first row's for all", m.given(weights=np.repeat(m.weights[:1], len(m.weights), axis=0))


@mutation("choice_missing", "combine", title="one of the chosen experts left out")
def choice_missing(m):
    for rank in range(m.weights.shape[1]):
        kept = m.weights.copy()
        kept[:, rank] = 0
        yield f"rank {rank}", m.given(weights=kept)


@mutation("zero_weight_skipped", "combine", title="experts of weight 0 skipped although not finite")
def skipped(m):
    yield "", m.given(x=np.where((m.weights == 0)[:, :, None], np.float32(0), m.x))


@mutation("E01", "scale_by_sigmoid")
def gate_missing(m):
    x, g = m.a.value(m.x), m.a.value(m.g)
    yield "not applied", lambda: outcome(m, x)
    yield "without the sigmoid", lambda: outcome(m, x * g)
    yield "silu for sigmoid", lambda: outcome(m, x * (g * m.a.sigmoid(g)))
    yield "applied twice", lambda: outcome(m, x * m.a.sigmoid(g) * m.a.sigmoid(g))
    yield "the first row's for all", m.given(g=np.repeat(m.g[:1], len(m.g), axis=0))
    yield "negated", m.given(g=-m.g)


@mutation("limit", "clip", title="another limit")
def other_limit(m):
    yield "none", m.given(limit=np.inf)
    yield "only from above", lambda: outcome(m, Ball(np.minimum(m.a.value(m.x).v, np.float32(m.limit))))
    yield "only from below", lambda: outcome(m, Ball(np.maximum(m.a.value(m.x).v, -np.float32(m.limit))))
    yield "squared", m.given(limit=m.limit**2)


@mutation("order_of_heads", "split_heads", title="heads cut at another place")
def cut_elsewhere(m):
    x, size = m.a.value(m.x), m.x.shape[1] // m.heads

    def parts(left, right):
        return {"a": m.a.out(left.reshape(len(m.x), -1)), "b": m.a.out(right.reshape(len(m.x), -1))}

    yield "all left parts come first", lambda: parts(x[:, : m.heads * m.left], x[:, m.heads * m.left:])
    cut = x.reshape(len(m.x), m.heads, size)
    yield "right part first", lambda: parts(cut[..., m.right:], cut[..., : m.right])


@mutation("tie", "argmax", title="another of the largest, or a nan")
def argmax_ties(m):
    flipped = m.logits[:, ::-1]
    numbers = np.where(np.isnan(flipped), -np.inf, flipped)
    yield "the higher id of a tie", lambda: {"ids": m.logits.shape[1] - 1 - np.argmax(numbers, axis=1)}
    yield "nan wins", lambda: {"ids": np.argmax(m.logits, axis=1)}
    positive = np.where(m.logits > 0, m.logits, 0)
    yield "the maximum starts at 0", lambda: {"ids": np.argmax(positive, axis=1)}


@symptom("exp_overflow", "swiglu", "scale_by_sigmoid", title="exp overflows: inf / inf")
def exp_overflow(question, misses):
    """nan only where the gate is beyond the range of exp."""
    gate = question.inputs.get("gate", question.inputs.get("g"))
    bad = misses["y"].wrong
    odd = np.isnan(question.found["y"]) & np.broadcast_to(abs(gate) > 87, bad.shape)
    return "nan where exp of the gate is inf" if bad.any() and not (bad & ~odd).any() else None


@mutation("E03", "swiglu_clamped")
def limit_missing(m):
    yield "no limit", m.given(limit=3e38)
    for limit in (7.0, 10.0, 20.0):
        if abs(limit - m.limit) > 1e-6:
            yield f"limit {limit:g} for {m.limit:g}", m.given(limit=limit)


@mutation("E05", "swiglu_clamped")
def other_rows(m):
    half = m.x.shape[-1] // 2
    pairs = m.x.reshape(*m.x.shape[:-1], -1, 2)
    joined = np.stack([m.x[..., :half], m.x[..., half:]], axis=-1)
    yield "halves instead of interleaved", m.given(x=joined.reshape(m.x.shape))
    yield "gate and up exchanged", m.given(x=pairs[..., ::-1].reshape(m.x.shape))
    yield "halves, exchanged", m.given(x=joined[..., ::-1].reshape(m.x.shape))


@mutation("clamp", "swiglu_clamped", title="clamped or scaled in another way")
def other_clamp(m):
    limit, alpha = float(np.float32(m.limit)), float(np.float32(m.alpha))
    x = m.a.value(m.x)
    gate, up = x[..., 0::2], x[..., 1::2]

    def make(g, u, add=1.0):
        v = (u + add) * g / (1 + np.exp(-alpha * g))
        near = Ball(v, 64 * UNIT * (abs(v) + 1e-30))
        return outcome(m, m.a.mid(near))

    low, high = np.clip(gate.v, -limit, limit), np.minimum(gate.v, limit)
    both, above = np.clip(up.v, -limit, limit), np.minimum(up.v, limit)
    yield "the gate from below as well", lambda: make(low, both)
    yield "up only from above", lambda: make(high, above)
    yield "only the gate", lambda: make(high, up.v)
    yield "only up", lambda: make(gate.v, both)
    yield "1 not added to up", lambda: make(high, both, 0.0)
    for other in (1.0, 1.702):
        if abs(other - alpha) > 1e-6:
            yield f"alpha {other:g} for {alpha:g}", m.given(alpha=other)
