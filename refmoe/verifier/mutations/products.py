"""Products with matrices: E05, E06, E08, N03, Q14, R12, R17, R23, W01, W02."""

import numpy as np

from refmoe.verifier.balls import Ball, into, nearest
from refmoe.verifier.mutations import mutation, symptom

LINEAR = ("linear", "linear_bias", "logits")
PRODUCTS = (*LINEAR, "expert_linear", "expert_linear_bias", "absorb_query", "expand_value")
BLOCKS = (4, 8, 16, 32, 64, 128, 256)


def orders(width):
    """Permutations of rows that a misread fused matrix has."""
    index, half = np.arange(width), width // 2
    if width % 2 == 0:
        yield "halves exchanged", np.concatenate([index[half:], index[:half]])
        yield "halves read as interleaved", np.stack([index[:half], index[half:]], 1).reshape(-1)
        yield "interleaved read as halves", np.concatenate([index[::2], index[1::2]])
        yield "neighbours exchanged", index.reshape(-1, 2)[:, ::-1].reshape(-1)


@mutation("E05", "expert_linear", "expert_linear_bias", "linear")
def gate_and_up(m):
    for word, order in orders(m.w.shape[-2]):
        yield word, m.given(w=m.w[..., order, :], **({"b": m.b[:, order]} if "b" in m.inputs else {}))
        if "b" in m.inputs:
            yield f"of the bias: {word}", m.given(b=m.b[:, order])


@mutation("E06", "linear", "linear_bias", "logits", "expert_linear", "expert_linear_bias")
def transposed(m):
    rows, cols = m.w.shape[-2:]
    turned = np.swapaxes(m.w.reshape(*m.w.shape[:-2], cols, rows), -1, -2)
    yield "read as [in, out]", m.given(w=turned)


@mutation("E06", "absorb_query", "expand_value")
def transposed_blocks(m):
    blocks = m.w.reshape(m.heads, -1, m.w.shape[1])
    size = m.x.shape[1] // m.heads if m.op == "absorb_query" else m.width
    part = slice(0, size) if m.op == "absorb_query" else slice(blocks.shape[1] - size, None)
    if size == m.w.shape[1]:
        changed = blocks.copy()
        changed[:, part] = np.swapaxes(blocks[:, part], 1, 2)
        yield "the square block of a head", m.given(w=changed.reshape(m.w.shape))


@mutation("R12", "linear", "logits")
def narrow_router(m):
    for kind in ("bf16", "f16"):
        if m.a.profile.output != kind:
            yield f"result rounded to {kind}", lambda kind=kind: {"y": into(m.run()["y"], kind, True)}
            yield f"inputs rounded to {kind}", m.given(x=nearest(m.x, kind), w=nearest(m.w, kind))
            yield f"all rounded to {kind}", lambda kind=kind: {
                "y": into(m.run(x=nearest(m.x, kind), w=nearest(m.w, kind))["y"], kind, True)}  # fmt: skip


@mutation("R23", "linear")
def softmaxed(m):
    yield "", lambda: {"y": m.a.out(m.a.softmax(m.a.dot(m.a.operand(m.x), m.a.operand(m.w, "weight"))))}


@mutation("Q14", "linear")
def quantised(m):
    from refmoe.verifier.mutations.formats import quantised_like

    for word, w in quantised_like(m.w):
        yield word, m.given(w=w)


@mutation("W02", "linear_bias", "expert_linear_bias")
def bias_left_out(m):
    yield "the bias is 0", m.given(b=np.zeros_like(m.b))
    if m.op == "linear_bias":
        yield "the bias is added twice", m.given(b=2 * m.b)
    yield "the bias is 1", m.given(b=np.ones_like(m.b))


@mutation("W02", "linear", "logits", "expert_linear", "linear_bias", whole=True)
def weights_left_out(m):
    yield "the weights are 0", m.given(w=np.zeros_like(m.w))


@mutation("tail_dropped", *PRODUCTS, title="the last terms of the sums are missing")
def tail_dropped(m):
    width = m.x.shape[-1] // m.inputs.get("heads", 1)
    for block in BLOCKS:
        if 0 < width % block < width:
            keep = np.arange(width) < width // block * block
            many = np.tile(keep, m.x.shape[-1] // width).astype(np.float32)
            yield f"sums run over multiples of {block}", m.given(x=m.x * many)
    many = np.tile(np.arange(width) < width - 1, m.x.shape[-1] // width).astype(np.float32)
    yield "the last term", m.given(x=m.x * many)


@mutation("rows_dropped", *LINEAR, title="the last results of a row are missing")
def rows_dropped(m):
    rows = m.w.shape[0]
    for block in BLOCKS:
        if rows % block:
            keep = (np.arange(rows) < rows // block * block).astype(np.float64)
            def make(keep=keep):
                y = m.run()["y"]
                return {"y": Ball(y.v * keep, y.e * keep)}

            yield f"rows of W beyond a multiple of {block}", make


@mutation("capped", "logits", title="logits capped by tanh")
def capped(m):
    for cap in (30.0, 50.0, 15.0):
        def make(cap=cap):
            y = m.a.dot(m.a.operand(m.x), m.a.operand(m.w, "weight"))
            return {"y": m.a.out(Ball(cap * np.tanh(y.v / cap), y.e + 1e-6 * cap))}

        yield f"{cap:g}", make


@mutation("activation_of_other_row", *LINEAR, title="a row computed from another row's input")
def other_row(m):
    if len(m.x) > 1:
        yield "the first row for all", m.given(x=np.repeat(m.x[:1], len(m.x), axis=0))
        yield "rows moved by one", m.given(x=np.roll(m.x, 1, axis=0))
        yield "rows moved by one", m.given(x=np.roll(m.x, -1, axis=0))


@symptom("W01", "logits", last=True)
def unrelated(question, misses):
    """Nothing in common with the right logits."""
    found, v = question.found["y"].astype(np.float64), misses["y"].ball.v
    if found.size < 8 or not misses["y"].wrong.mean() > 0.9 or not np.isfinite(found).all():
        return None
    both = np.corrcoef(found.reshape(-1), v.reshape(-1))[0, 1]
    return f"correlation with the reference {both:.2f}: another matrix" if abs(both) < 0.6 else None


@mutation("R17", "expert_linear", "expert_linear_bias")
def ids_in_eight_bits(m):
    if (m.ids > 255).any():
        yield "ids held in 8 bits", m.given(ids=m.ids & 255)


@mutation("E08", "expert_linear", "expert_linear_bias")
def other_experts(m):
    """Which expert's matrix gives what was found? The same exchange for all rows, or another for each."""
    found, x = m.question.found["y"].astype(np.float64), m.a.operand(m.x)
    count = len(m.w)
    if count > 1024 or found.shape != (*m.ids.shape, m.w.shape[1]):
        return
    used = m.ids.copy()
    best = np.full(m.ids.shape, np.inf)
    for expert in range(count):
        y = x.v @ m.w[expert].T.astype(np.float64)
        y = y if x.v.ndim == 3 else y[:, None]
        y = y + m.b[expert] if "b" in m.inputs else y
        apart = abs(found - y).sum(axis=2)
        closer = apart < best
        best, used = np.where(closer, apart, best), np.where(closer, expert, used)
    moved = {int(i): int(j) for i, j in zip(m.ids.reshape(-1), used.reshape(-1), strict=True)}
    steady = all(moved[int(i)] == j for i, j in zip(m.ids.reshape(-1), used.reshape(-1), strict=True))
    if steady and (used != m.ids).any():
        shown = ", ".join(f"{i} computed with {j}" for i, j in sorted(moved.items()) if i != j)
        yield shown[:80], m.given(ids=used)


@mutation("ids_of_other_row", "expert_linear", "expert_linear_bias", title="experts of another token or rank")
def ids_elsewhere(m):
    yield "the first token chooses for all", m.given(ids=np.repeat(m.ids[:1], len(m.ids), axis=0))
    yield "ranks reversed", m.given(ids=m.ids[:, ::-1])
    yield "ranks moved by one", m.given(ids=np.roll(m.ids, 1, axis=1))
    if m.x.ndim == 3:
        yield "the token's first row for all its experts", m.given(x=np.repeat(m.x[:, :1], m.x.shape[1], axis=1))
        yield "rows of the experts reversed", m.given(x=m.x[:, ::-1])


@mutation("one_row_per_expert", "expert_linear", title="of several tokens of an expert only one is computed")
def one_row(m):
    def make(last):
        y = m.run()["y"]
        v, e = y.v.copy(), y.e.copy()
        for expert in np.unique(m.ids):
            places = np.argwhere(m.ids == expert)
            kept = tuple(places[-1 if last else 0])
            for place in map(tuple, places):
                v[place], e[place] = y.v[kept], y.e[kept]
        return {"y": Ball(v, e)}

    yield "its last", lambda: make(True)
    yield "its first", lambda: make(False)


def rows_of(m, first):
    """The matrix with the rows of each head taken from another place."""
    blocks = m.w.reshape(m.heads, -1, m.w.shape[1])
    return np.stack([first(blocks, head) for head in range(m.heads)]).reshape(m.w.shape)


@mutation("value_rows", "absorb_query", "expand_value", title="keys and values of the expanding matrix exchanged")
def halves_exchanged(m):
    per = m.w.shape[0] // m.heads
    first = per - m.x.shape[1] // m.heads if m.op == "absorb_query" else m.width
    yield "", m.given(w=rows_of(m, lambda blocks, head: np.roll(blocks[head], -first, axis=0)))


@mutation("keys_first", "absorb_query", "expand_value", title="rows taken as all keys, then all values")
def keys_then_values(m):
    per = m.w.shape[0] // m.heads
    size = m.x.shape[1] // m.heads if m.op == "absorb_query" else m.width
    rest = per - size

    def make():
        keys, values = (size, rest) if m.op == "absorb_query" else (rest, size)
        first, last = m.w[: m.heads * keys], m.w[m.heads * keys:]
        parts = [np.concatenate([first[n * keys:(n + 1) * keys], last[n * values:(n + 1) * values]])
                 for n in range(m.heads)]  # fmt: skip
        return m.run(w=np.concatenate(parts))

    yield "", make


@mutation("first_head", "absorb_query", "expand_value", title="all heads use the matrix of the first")
def first_head(m):
    yield "", m.given(w=rows_of(m, lambda blocks, head: blocks[0]))


@mutation("one_based", "embedding", title="ids counted from 1")
def one_based(m):
    yield "", m.given(ids=np.maximum(m.ids - 1, 0))
    yield "the other way", m.given(ids=np.minimum(m.ids + 1, len(m.w) - 1))


@mutation("embedding_scaled", "embedding", title="embeddings multiplied by sqrt(hidden)")
def scaled(m):
    yield "", lambda: {"y": m.a.out(m.run()["y"] * float(m.w.shape[1] ** 0.5))}


@mutation("sorted_ids", "embedding", title="rows by the place of an id among the distinct ids")
def place_among_distinct(m):
    yield "", m.given(ids=np.searchsorted(np.unique(m.ids), m.ids))


@mutation("E04", "expert_linear_bias")
def bias_after_weight(m):
    """The bias counts once for each choice, instead of once for all of them."""
    count = m.ids.shape[1]
    for factor in (float(count), 1.0 / count):
        if count > 1:
            yield f"the bias counts {factor:g} times", m.given(b=(m.b * np.float32(factor)).astype(np.float32))


@mutation("bias_by_rank", "expert_linear_bias", title="the bias of another expert")
def bias_elsewhere(m):
    for word, ids in (("of the rank", np.broadcast_to(np.arange(m.ids.shape[1]), m.ids.shape)),
                      ("of the first expert", np.zeros_like(m.ids)), ("of the next rank", np.roll(m.ids, -1, 1)),
                      ("of the previous rank", np.roll(m.ids, 1, 1))):  # fmt: skip
        def make(ids=ids):
            y = m.run(b=np.zeros_like(m.b))["y"]
            return {"y": m.a.out(y + m.b[ids].astype(np.float64))}

        yield word, make
