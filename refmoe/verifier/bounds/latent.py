"""Latent attention: queries into the latent space, attention over latents, values out of it."""

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import bound
from refmoe.verifier.bounds.attention import scores, sight, weighted


def joined(balls, axis=-1) -> Ball:
    """Balls side by side."""
    return Ball(np.concatenate([b.v for b in balls], axis), np.concatenate([b.e for b in balls], axis))


@bound("absorb_query")
def absorb_query(a, x, w, heads):
    """Head by head: x times the key rows, summed down their columns."""
    xs, ws = a.operand(x).reshape(len(x), heads, -1), a.operand(w, "weight").reshape(heads, -1, w.shape[1])
    keys = ws[:, : xs.v.shape[2]]
    turned = Ball(np.swapaxes(keys.v, 1, 2), np.swapaxes(keys.e, 1, 2))
    return {"y": a.out(joined([a.dot(xs[:, n], turned[n]) for n in range(heads)]))}


@bound("expand_value")
def expand_value(a, x, w, width, heads):
    """Head by head: x times the last `width` rows."""
    xs, ws = a.operand(x).reshape(len(x), heads, -1), a.operand(w, "weight").reshape(heads, -1, w.shape[1])
    values = ws[:, ws.v.shape[1] - width :]
    return {"y": a.out(joined([a.dot(xs[:, n], values[n]) for n in range(heads)]))}


@bound("split_heads")
def split_heads(a, x, left, right, heads):
    """A copy."""
    cut = a.value(x).reshape(len(x), heads, left + right)
    return {"a": a.out(cut[..., :left].reshape(len(x), -1)), "b": a.out(cut[..., left:].reshape(len(x), -1))}


@bound("latent_attention")
def latent_attention(a, q, q_rope, latent, k_rope, positions, scale, heads, *, seen=sight, values=None):
    """One key-value head whose keys are latent and rotated part, whose values are latents."""
    queries = joined([a.state(part).reshape(len(q), heads, -1) for part in (q, q_rope)])
    keys, visible = joined([a.state(latent), a.state(k_rope)]), seen(positions, len(latent), len(latent))
    values = a.state(latent if values is None else values)
    outs = [weighted(a, scores(a, queries[:, n], keys, scale), values, visible) for n in range(heads)]
    return {"y": a.out(joined(outs))}
