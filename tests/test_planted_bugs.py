"""Ports with one planted bug each, in binary32 and bfloat16: found, and found where it is; without a bug never called
wrong, whatever the inputs."""

import numpy as np
import pytest
import test_comparison as runs
import tiny

from refmoe import comparison, formats
from refmoe.comparison import text
from refmoe.numerics import codecs

Q, M, K, S, W = "qwen3_moe", "mixtral", "kimi_k2", "qwen2_moe", "mixtral-window-linear"


class Context:
    """What a port has when it computes one step: earlier results, weights, attributes."""

    def __init__(self, name, point):
        self.model, self.found = tiny.model(name), {}
        self.layer = int(point.split(".")[1]) if point.startswith("layers.") else None
        self.dims = self.model.program.dims

    def __call__(self, word):
        name = word if self.layer is None or "." in word else f"layers.{self.layer}.{word}"
        return self.found[name].astype(np.float64)

    def w(self, role, expert=None):
        weights = self.model.engine.weights
        operand = weights[role, self.layer] if (role, self.layer) in weights else weights[role, None]
        operand = operand if expert is None else operand[expert]
        return np.asarray(formats.decode(operand) if hasattr(operand, "format") else operand, np.float64)


def times(factor):
    return lambda c, y: y * factor


def attention(c, y, window=None, kv=None, scale=None, late=0, first=0):
    """A plain attention with a bug in it."""
    n, g, size = c.dims["N"], c.dims["G"], c.dims["D"]
    q, k, v = (c(p).reshape(len(y), -1, size) for p in ("q_rope", "k_rope", "v"))
    out = np.zeros((len(y), n, size))
    for t in range(len(y)):
        low = max(first, t - window + 1) if window else first
        high = max(t + 1 - late, low + 1)
        for h in range(n):
            at = (kv or (lambda h: h * g // n))(h)
            s = (k[low:high, at] @ q[t, h]) * (scale or size**-0.5)
            p = np.exp(s - s.max())
            out[t, h] = p / p.sum() @ v[low:high, at]
    return out.reshape(len(y), -1)


def weights(c, y, renorm=True, tiny_sum=0.0):
    logits, ids = c("router_logits"), c("route_ids").astype(int)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    chosen = np.take_along_axis(p, ids, 1)
    return chosen / (chosen.sum(1, keepdims=True) + tiny_sum) if renorm else chosen


def norm(source, role, eps, plus=0.0):
    def compute(c, y):
        x = c(source)
        return x / np.sqrt((x * x).mean(1, keepdims=True) + eps) * (c.w(role) + plus)

    return compute


def tile(columns, value=0.0):
    def compute(c, y):
        y[..., columns] = value
        return y

    return compute


def linear(source, role, cut=None, turn=None):
    def compute(c, y):
        x, w = c(source), c.w(role)
        if cut:
            x = np.where(np.arange(x.shape[1]) < x.shape[1] - cut, x, 0.0)
        return x @ (turn(w) if turn else w).T

    return compute


def expert(role, source, of):
    """Rows of one expert computed with another's matrix."""
    def compute(c, y):
        ids, x = c("route_ids").astype(int), c(source)
        for t, j in zip(*np.nonzero(ids == ids[0, 0]), strict=True):
            row = x[t] if x.ndim == 2 else x[t, j]
            y[t, j] = c.w(role, of(ids[t, j])) @ row
        return y

    return compute


def rope(word, sign=1, shift=0, pairs=False, theta=None):
    def compute(c, y):
        size = c.dims["D"]
        x = c(word).reshape(len(y), -1, size)
        inverse = np.asarray(c.model.engine.attributes(next(
            s for s in c.model.program.blocks[c.model.program.kinds[c.layer]] if s.op.startswith("rope")))["inv_freq"])
        if theta:
            inverse = theta ** (-np.arange(size // 2) * 2 / size)
        angle = sign * (np.arange(len(y)) + shift)[:, None] * inverse
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = (x[..., ::2], x[..., 1::2]) if pairs else (x[..., : size // 2], x[..., size // 2 :])
        parts = a * cos - b * sin, b * cos + a * sin
        return (np.stack(parts, -1) if pairs else np.concatenate(parts, -1)).reshape(len(y), -1)

    return compute


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swapped(weights, row):
    weights = weights.copy()
    weights[row] = weights[row, ::-1]
    return weights


BUGS = [
    ("eps of a hundredth", Q, "layers.2.attn_norm", norm("layers.1.ffn_out", "attn_norm", 1e-2)),
    ("norm weight plus one", M, "layers.1.ffn_norm", norm("attn_out", "ffn_norm", 1e-5, 1.0)),
    ("one tile of o not written", M, "layers.0.o", tile(slice(16, 24))),
    ("one column of a tile", Q, "layers.1.q", tile(slice(31, 32))),
    ("last inputs of K forgotten", M, "layers.0.k", linear("attn_norm", "wk", cut=8)),
    ("last input of K forgotten", Q, "layers.2.o", linear("attn", "wo", cut=1)),
    ("k with the weights of v", Q, "layers.0.k", linear("attn_norm", "wv")),
    ("rows of q in another order", M, "layers.1.q", linear("attn_norm", "wq", turn=lambda w: w[::-1])),
    ("router transposed order", Q, "layers.0.router_logits", linear("ffn_norm", "router", turn=lambda w: w[::-1])),
    ("angle negative", M, "layers.0.q_rope", rope("q", sign=-1)),
    ("position off by one", M, "layers.0.k_rope", rope("k", shift=1)),
    ("pairs for halves", M, "layers.1.q_rope", rope("q", pairs=True)),
    ("base of another model", M, "layers.1.k_rope", rope("k", theta=500000.0)),
    ("window one too long", W, "layers.0.attn", lambda c, y: attention(c, y, window=7)),
    ("window one too short", W, "layers.1.attn", lambda c, y: attention(c, y, window=5)),
    ("heads tiled, not grouped", M, "layers.0.attn", lambda c, y: attention(c, y, kv=lambda h: h % c.dims["G"])),
    ("scale of the hidden size", M, "layers.1.attn", lambda c, y: attention(c, y, scale=c.dims["H"] ** -0.5)),
    ("scale 5 % too large", Q, "layers.1.attn", lambda c, y: attention(c, y, scale=1.05 * c.dims["D"] ** -0.5)),
    ("own position not seen", M, "layers.0.attn", lambda c, y: attention(c, y, late=1)),
    ("position 0 not seen", Q, "layers.1.attn", lambda c, y: attention(c, y, first=0, window=6)),
    ("weights not renormalised", M, "layers.0.route_weights", lambda c, y: weights(c, y, renorm=False)),
    ("1e-3 in the sum of weights", M, "layers.1.route_weights", lambda c, y: weights(c, y, tiny_sum=1e-3)),
    ("scaling factor twice", K, "layers.1.route_weights", lambda c, y: y * c.dims["factor"]),
    ("scaling factor forgotten", K, "layers.2.route_weights", lambda c, y: y / c.dims["factor"]),
    ("another expert for one id", M, "layers.0.expert_gate", expert("e_gate", "ffn_norm", lambda e: e ^ 1)),
    ("down of another expert", Q, "layers.2.expert_down", expert("e_down", "expert_act", lambda e: (e + 1) % 9)),
    ("gate and up exchanged", M, "layers.1.expert_act",
     lambda c, y: c("expert_up") * sigmoid(c("expert_up")) * c("expert_gate")),
    ("gelu for silu", Q, "layers.0.expert_act",
     lambda c, y: c("expert_gate") * sigmoid(1.702 * c("expert_gate")) * c("expert_up")),
    ("weights not used", M, "layers.0.combine", lambda c, y: c("expert_down").sum(1)),
    ("the last expert forgotten", Q, "layers.0.combine",
     lambda c, y: (c("expert_down") * c("route_weights")[..., None])[:, :-1].sum(1)),
    ("weights in another order", M, "layers.1.combine",
     lambda c, y: (c("expert_down") * c("route_weights")[:, ::-1, None]).sum(1)),
    ("shared expert dropped", K, "layers.1.moe", lambda c, y: c("combine")),
    ("shared gate without sigmoid", S, "layers.0.shared", lambda c, y: c("shared_down") * c("shared_gate_logit")),
    ("residual forgotten", M, "layers.0.attn_out", lambda c, y: c("o")),
    ("half a residual", Q, "layers.2.ffn_out", lambda c, y: c("attn_out") + 0.5 * c("combine")),
    ("3 % too much", K, "layers.0.attn", times(1.03)),
    ("head norms exchanged", Q, "layers.0.k_norm", times(0.9)),
    ("sign of a logit", M, "logits", tile(slice(5, 6), -1.0)),
    ("2 % in the last row only", Q, "layers.1.ffn_out", lambda c, y: np.vstack([y[:-1], 1.02 * y[-1:]])),
    ("1 % of the weights of experts", M, "layers.1.route_weights", times(1.01)),
    ("weights of two ranks exchanged in one row", Q, "layers.0.combine",
     lambda c, y: (c("expert_down") * swapped(c("route_weights"), 3)[..., None]).sum(1)),
    ("limit of the unit missing", "gpt_oss", "layers.0.expert_act",
     lambda c, y: (c("expert_gate_up")[..., 1::2] + 1) * c("expert_gate_up")[..., 0::2]
     * sigmoid(1.702 * c("expert_gate_up")[..., 0::2])),
    ("an expert id one too high", M, "layers.0.route_ids", lambda c, y: (y + 1) % c.dims["E"]),
]  # fmt: skip
NARROW = [
    ("router logits in bfloat16", Q, "layers.0.router_logits", lambda c, y: codecs.bf16_to_f32(codecs.f32_to_bf16(y))),
    ("attention in bfloat16", M, "layers.0.attn", lambda c, y: codecs.bf16_to_f32(codecs.f32_to_bf16(y))),
    ("another eps", Q, "layers.1.ffn_norm", norm("attn_out", "ffn_norm", 1e-4)),
]  # fmt: skip


def run(name, point, bug, narrow):
    context = Context(name, point)

    def change(word, rows):
        if word == point:
            with np.errstate(all="ignore"):
                rows[...] = bug(context, rows.copy())
        context.found[word] = rows

    return runs.port(name, change, narrow)


@pytest.mark.parametrize(("narrow", "profile"), [(False, "f32-any-order"), (True, "bf16")])
@pytest.mark.parametrize(("what", "name", "point", "bug"), BUGS, ids=[bug[0] for bug in BUGS])
def test_a_planted_bug_is_found_where_it_is(what, name, point, bug, narrow, profile, tmp_path):
    arrays, ids = run(name, point, bug, narrow)
    report = comparison.compare(runs.write(tmp_path / "a.safetensors", arrays, ids), model=tiny.model(name),
                                profile=profile)  # fmt: skip
    assert report.code == 1
    assert {entry.point for entry in report.wrong} == {point.replace("route_weights", "route_ids")}


@pytest.mark.parametrize(("what", "name", "point", "bug"), NARROW, ids=[bug[0] for bug in NARROW])
def test_less_precision_than_declared(what, name, point, bug, tmp_path):
    arrays, ids = run(name, point, bug, False)
    report = comparison.compare(runs.write(tmp_path / "a.safetensors", arrays, ids), model=tiny.model(name))
    assert [entry.point for entry in report.wrong] == [point]


@pytest.mark.parametrize("name", [Q, M, K, S, W, "olmoe", "gpt_oss", "glm4_moe"])
@pytest.mark.parametrize("seed", range(3))
def test_no_alarm_on_a_correct_port(name, seed, tmp_path):
    """Other prompts; every result moved to one of its two neighbours in bfloat16's grid, or left as it is."""
    model, found = tiny.model(name), {}
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, model.vocab, 24)]
    for narrow, profile in ((True, "bf16"), (False, "f32-any-order")):
        found.clear()

        def record(point, rows, narrow=narrow):
            if narrow and rows.dtype == np.float32 and "route" not in point:
                rows[...] = codecs.bf16_to_f32(codecs.f32_to_bf16(rows))
            found[point] = rows.copy()

        model.engine.run([(model.engine.sequence(), ids)], every=True, record=record)
        path = runs.write(tmp_path / f"{profile}.safetensors", found, ids)
        report = comparison.compare(path, model=model, profile=profile)
        assert report.code == 0 and not report.wrong
        assert not [note for entry in report.entries for note in entry.verdict.notes if "on average" in note]


@pytest.mark.parametrize(("name", "point"), [(Q, "layers.0.combine"), (M, "layers.0.combine"), (Q, "layers.1.attn")])
def test_a_factor_that_rounding_hides_is_noted(name, point, tmp_path):
    """Half a per cent is less than bfloat16 may err at any element, and more than it does on average."""
    arrays, ids = run(name, point, times(1.005), True)
    report = comparison.compare(runs.write(tmp_path / "a.safetensors", arrays, ids), model=tiny.model(name),
                                profile="bf16")  # fmt: skip
    noted = {entry.point: entry.verdict.notes for entry in report.entries if entry.verdict.notes}
    assert set(noted) == {point} and abs(float(noted[point][0].rpartition(" x ")[2]) - 1.005) < 0.0005
    assert f"note: {point}: y: within its bounds" in text.report(report)
