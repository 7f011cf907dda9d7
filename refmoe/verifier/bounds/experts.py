"""gpt-oss: attention with sinks, softmax of the chosen, biases of experts, the clamped gated unit."""

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import bound
from refmoe.verifier.bounds.attention import repeated, scores, sight, weighted
from refmoe.verifier.bounds.routes import pick
from refmoe.verifier.routing import Routing


@bound("attention_sinks")
def attention_sinks(a, q, k, v, positions, sinks, scale, window, heads, kv_heads, *, head_of=repeated, seen=sight):
    """As attention, with one more score for each head."""
    size = q.shape[1] // heads
    q, k, v, sinks = a.state(q), a.state(k), a.state(v), a.value(sinks, "vector")
    visible = seen(positions, len(k.v), window)
    y, e = np.empty(q.v.shape), np.empty(q.v.shape)
    for n in range(heads):
        g = head_of(n, heads, kv_heads)
        mine, theirs = slice(n * size, n * size + size), slice(g * size, g * size + size)
        s = scores(a, q[:, mine], k[:, theirs], scale)
        out = weighted(a, s, v[:, theirs], visible, sink=sinks[n : n + 1])
        y[:, mine], e[:, mine] = out.v, out.e
    return {"y": a.out(Ball(y, e))}


@bound("route_topk_softmax")
def topk_softmax(a, logits, k):
    """The k largest logits; softmax over all experts and division by the sum of the chosen is the same in reals."""
    logits = a.value(logits)
    return Routing(int(k), logits, lambda ids: a.out(a.mid(a.softmax(pick(logits, ids)))), (logits.v,))


@bound("expert_linear_bias")
def expert_linear_bias(a, x, ids, w, b):
    """Expert by expert; the sum may be rounded before the bias is added, or begin with the bias."""
    x, b = a.operand(x), a.value(b, "vector")
    shape = (*ids.shape, w.shape[1])
    v, e = np.empty(shape), np.empty(shape)
    for expert in np.unique(ids):
        t, j = np.nonzero(ids == expert)
        y = a.mid(a.dot(x[t] if x.v.ndim == 2 else x[t, j], a.operand(w[expert], "weight"))) + b[expert]
        v[t, j], e[t, j] = y.v, y.e
    return {"y": a.out(Ball(v, e))}


@bound("swiglu_clamped")
def swiglu_clamped(a, x, limit, alpha):
    """Both clamped, then (up + 1) gate sigmoid(alpha gate); every step may be in the intermediate type."""
    x, limit, alpha = a.value(x), float(np.float32(limit)), float(np.float32(alpha))
    gate = Ball(np.minimum(x.v[..., 0::2], limit), x.e[..., 0::2])
    up = Ball(np.clip(x.v[..., 1::2], -limit, limit), x.e[..., 1::2])
    glu = a.mid(gate * a.mid(a.sigmoid(a.mid(gate * alpha))))
    lost = alpha * gate.v < -86  # exp overflows in binary32, or the quotient underflows
    glu = Ball(glu.v, glu.e + np.where(lost, 90 / alpha * np.exp(-86.0), 0.0))
    return {"y": a.out(a.mid(up + 1.0) * glu)}
