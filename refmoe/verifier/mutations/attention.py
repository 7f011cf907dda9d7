"""Attention: A01, A02, A12, A13, A16, and masks."""

import numpy as np

from refmoe.verifier.mutations import mutation, symptom

PLAIN = ("attention", "attention_sinks")
ALL = (*PLAIN, "latent_attention")
FAR = 1 << 62
FACTORS = (4.0, 8.0, 16.0, 32.0, 40.0, 64.0)


def head_size(m):
    """The width over which a score is summed."""
    latent = m.inputs.get("q_rope")
    return (m.q.shape[1] + (latent.shape[1] if latent is not None else 0)) // m.heads


@mutation("A01", *ALL)
def scale_of_yarn_missing(m):
    plain = head_size(m) ** -0.5
    if abs(plain / m.scale - 1) > 1e-4:
        yield f"scale 1/sqrt({head_size(m)}) where it is {m.scale:.5g}", m.given(scale=plain)
    for factor in FACTORS:
        mscale = 0.1 * np.log(factor) + 1
        yield f"scale divided by {mscale:.4f} squared (factor {factor:g})", m.given(scale=m.scale / mscale**2)


@mutation("A02", *ALL)
def other_mscale(m):
    plain = head_size(m) ** -0.5
    if abs(plain / m.scale - 1) > 1e-4:
        yield f"mscale 1, that is 1/sqrt({head_size(m)})", m.given(scale=plain)
    if m.scale > plain * 1.0001:
        yield "mscale applied once, not squared", m.given(scale=float(np.sqrt(m.scale * plain)))
        yield "mscale to the fourth power", m.given(scale=float(m.scale**2 / plain))
    for factor in FACTORS:
        mscale = 0.1 * np.log(factor) + 1
        yield f"scale times {mscale:.4f} squared (factor {factor:g})", m.given(scale=m.scale * mscale**2)
        yield f"scale times {mscale:.4f} (factor {factor:g})", m.given(scale=m.scale * mscale)
        yield f"scale divided by {mscale:.4f} (factor {factor:g})", m.given(scale=m.scale / mscale)
    if m.op == "latent_attention":
        yield "1/sqrt of the latent width", m.given(scale=(m.q.shape[1] // m.heads) ** -0.5)
        yield "1/sqrt of the rotated width", m.given(scale=(m.q_rope.shape[1] // m.heads) ** -0.5)


@mutation("other_scale", *ALL, title="scores scaled in another way")
def other_scale(m):
    size = head_size(m)
    yield "not scaled", m.given(scale=1.0)
    yield "scaled twice", m.given(scale=m.scale**2)
    yield f"1 / {size}", m.given(scale=1 / size)
    for block in (8, 16, 32, 64, 128, 256):
        padded = -(-size // block) * block
        if padded != size:
            yield f"1/sqrt({padded}), the padded width", m.given(scale=padded**-0.5)
    if m.op != "latent_attention":
        yield "1/sqrt of the whole width", m.given(scale=m.q.shape[1] ** -0.5)


@mutation("A12", *PLAIN)
def window_moved(m):
    if m.window < FAR // 4:
        for change in (1, -1, 2, -2):
            if m.window + change >= 1:
                yield f"window {m.window + change} for {m.window}", m.given(window=m.window + change)
        yield "no window", m.given(window=FAR)
        yield f"window {m.window // 2}", m.given(window=max(m.window // 2, 1))
        yield f"window {2 * m.window}", m.given(window=2 * m.window)
    for window in (128, 256, 512, 1024, 4096):
        if window < min(m.window, len(m.k)):
            yield f"window {window} where there is none", m.given(window=window)


@mutation("window_in_chunks", *PLAIN, title="a window of fixed chunks instead of a sliding one")
def chunked(m):
    def seen(positions, keys, window):
        j = np.arange(keys)
        return (j <= positions[:, None]) & (j // window == positions[:, None] // window)

    if m.window < len(m.k):
        yield "", m.given(seen=seen)


@mutation("A13", "attention_sinks")
def sinks_dropped(m):
    yield "", m.given(sinks=np.full_like(m.sinks, -np.inf))
    yield "taken as 0", m.given(sinks=np.zeros_like(m.sinks))
    yield "of the first head for all", m.given(sinks=np.full_like(m.sinks, m.sinks[0]))
    yield "multiplied by the scale", m.given(sinks=(m.sinks * np.float32(m.scale)).astype(np.float32))


@mutation("A16", *PLAIN)
def tiled_heads(m):
    if m.kv_heads > 1 and m.heads > m.kv_heads:
        yield "KV heads tiled", m.given(head_of=lambda n, heads, kv_heads: n % kv_heads)
    if m.kv_heads > 1:
        yield "the first KV head for all", m.given(head_of=lambda n, heads, kv_heads: 0)
        yield "KV heads in reverse", m.given(
            head_of=lambda n, heads, kv_heads: kv_heads - 1 - n // (heads // kv_heads))  # fmt: skip


def masked(change):
    """What a query sees, changed: change(p, j, window) -> bool."""
    def seen(positions, keys, window):
        j = np.arange(keys)[None]
        return change(positions[:, None], j, window) & (j < keys)

    return seen


MASKS = {
    "the future is seen": lambda p, j, window: j > p - window,
    "the next position is seen": lambda p, j, window: (j <= p + 1) & (j > p - window),
    "the position itself is not seen": lambda p, j, window: (j < p) & (j >= p - window),
    "one key too few, never fewer than none": lambda p, j, window: (j <= p) & (j > np.maximum(0, p - window + 1)),
    "position 0 is never seen": lambda p, j, window: (j <= p) & (j > p - window) & (j > 0),
    "the first position of every 512 is not seen": lambda p, j, window: (j <= p) & (j > p - window)
    & ((j % 512 != 0) | (j == 0)),
    "only the last 512 positions": lambda p, j, window: (j <= p) & (j // 512 == p // 512) & (j > p - window),
    "only whole blocks of 16": lambda p, j, window: (j <= p) & (j > p - window)
    & (j < np.maximum((p + 1) // 16 * 16, 1)),
}


@mutation("mask", *PLAIN, title="another mask")
def other_mask(m):
    for word, change in MASKS.items():
        yield word, m.given(seen=masked(change))


@mutation("mask", "latent_attention", title="another mask")
def other_latent_mask(m):
    for word, change in MASKS.items():
        yield word, m.given(seen=masked(change))


@mutation("head_cut", *PLAIN, title="heads summed over fewer elements")
def head_cut(m):
    size = head_size(m)
    for block in (8, 16, 32, 64):
        if size % block and size > block:
            keep = np.tile(np.arange(size) < size // block * block, m.heads).astype(np.float32)
            yield f"multiples of {block}", m.given(q=m.q * keep)


@mutation("values_wrong", *PLAIN, title="other values are summed")
def keys_for_values(m):
    yield "keys for values", m.given(v=m.k)
    yield "keys and values exchanged", m.given(k=m.v, v=m.k)


@mutation("rotated_part", "latent_attention", title="the rotated part of keys left out or misplaced")
def rotated_part(m):
    yield "left out", m.given(q_rope=np.zeros_like(m.q_rope))
    yield "without the latent part", m.given(q=np.zeros_like(m.q))
    size = m.q_rope.shape[1] // m.heads
    first = np.tile(m.q_rope[:, :size], m.heads)
    yield "the first head's for all", m.given(q_rope=first)


@mutation("values_wrong", "latent_attention", title="other values are summed")
def other_values(m):
    row = np.concatenate([m.latent, m.k_rope], axis=1)
    width = m.latent.shape[1]
    yield "the end of the cached row", m.given(values=row[:, row.shape[1] - width:])


@symptom("no_maximum", *ALL, title="exp of scores without the largest subtracted")
def overflow(question, misses):
    """nan, inf or zeros where a score is beyond the range of exp, and nowhere else."""
    inputs, found = question.inputs, question.found["y"]
    keys = inputs["latent"] if "latent" in inputs else inputs["k"]
    bad = misses["y"].wrong.reshape(len(found), inputs["heads"], -1).any(axis=2)
    odd = ~np.isfinite(found).reshape(len(found), inputs["heads"], -1).all(axis=2)
    if not bad.any() or (bad & ~odd).any():
        return None
    sizes = abs(inputs["q"].astype(float)).reshape(len(found), -1).sum(axis=1) * abs(np.nan_to_num(keys)).max()
    return "nan where scores are large" if (sizes * inputs["scale"])[bad.any(axis=1)].min() > 80 else None


@symptom("masked_with_weight", *ALL, title="positions out of sight take part with weight 0: their nan leaks")
def leaks(question, misses):
    """nan only, and there is something not finite among keys or values that a query does not see."""
    found, wrong = question.found["y"], misses["y"].wrong
    rows = [question.inputs[name] for name in ("k", "v", "latent", "k_rope") if name in question.inputs]
    if (wrong & np.isfinite(found)).any() or all(np.isfinite(array).all() for array in rows):
        return None
    return "nan where all that a query sees is finite"
