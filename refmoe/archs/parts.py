"""Fragments the architecture files share: tensor names and runs of steps."""

from collections.abc import Sequence

from refmoe.config import Config, rope
from refmoe.steps import UNLIMITED, Attr, Dims, Step, Tables, Tensor, matrix, step, vector

LAYER = "model.layers.{l}."
MODEL = {
    "embed": matrix("model.embed_tokens", "V,H"),
    "attn_norm": vector(LAYER + "input_layernorm.weight", "H"),
    "wq": matrix(LAYER + "self_attn.q_proj", "N*D,H"),
    "wk": matrix(LAYER + "self_attn.k_proj", "G*D,H"),
    "wv": matrix(LAYER + "self_attn.v_proj", "G*D,H"),
    "wo": matrix(LAYER + "self_attn.o_proj", "H,N*D"),
    "ffn_norm": vector(LAYER + "post_attention_layernorm.weight", "H"),
    "norm": vector("model.norm.weight", "H"),
    "lm_head": matrix("lm_head", "V,H"),
}
QKV_BIAS = {
    "bq": vector(LAYER + "self_attn.q_proj.bias", "N*D"),
    "bk": vector(LAYER + "self_attn.k_proj.bias", "G*D"),
    "bv": vector(LAYER + "self_attn.v_proj.bias", "G*D"),
}
O_BIAS = {"bo": vector(LAYER + "self_attn.o_proj.bias", "H")}
HEAD_NORMS = {
    "q_norm": vector(LAYER + "self_attn.q_norm.weight", "D"),
    "k_norm": vector(LAYER + "self_attn.k_norm.weight", "D"),
}
DENSE = {
    "w_gate": matrix(LAYER + "mlp.gate_proj", "F,H"),
    "w_up": matrix(LAYER + "mlp.up_proj", "F,H"),
    "w_down": matrix(LAYER + "mlp.down_proj", "H,F"),
}
INV_FREQ = ("*rotary_emb.inv_freq", "rotary tables are computed from the config, exactly; stored ones are rounded")
TIED = ("lm_head.*", "tied to embed_tokens")


def project(out: str, source: str, weight: str, bias: str | None = None) -> Step:
    """A linear step with or without bias."""
    return step(out, "linear_bias", source, f"{weight} {bias}") if bias else step(out, "linear", source, weight)


def attention(window: Attr, *, bias: str = "", head_norm: bool = False) -> tuple[Step, ...]:
    """First half of a block. `bias`: which of q, k, v, o have one; `head_norm`: RMSNorm of each head of q and k."""
    normed = {p: f"{p}_norm" if head_norm else p for p in "qk"}
    shape: dict[str, Attr] = {"heads": "N", "kv_heads": "G", "head_dim": "D", "scale": "scale", "window": window}
    return (
        step("attn_norm", "rms_norm", "x", "attn_norm", eps="eps"),
        *(project(p, "attn_norm", f"w{p}", f"b{p}" if p in bias else None) for p in "qkv"),
        *(step(normed[p], "head_norm", p, f"{p}_norm", eps="eps") for p in "qk" if head_norm),
        *(step(f"{p}_rope", "rope_half", f"{normed[p]} positions", table="rope", head_dim="D") for p in "qk"),
        Step(("attn",), "attention", ("q_rope", "k_rope", "v", "positions", "cache"), (), shape),
        project("o", "attn", "wo", "bo" if "o" in bias else None),
        step("attn_out", "add", "x o"),
    )


FFN_NORM = step("ffn_norm", "rms_norm", "attn_out", "ffn_norm", eps="eps")


def dense(bias: bool = False) -> tuple[Step, ...]:
    """Second half of a block: one gated unit."""
    return (
        FFN_NORM,
        project("gate", "ffn_norm", "w_gate", "b_gate" if bias else None),
        project("up", "ffn_norm", "w_up", "b_up" if bias else None),
        step("act", "swiglu", "gate up"),
        project("down", "act", "w_down", "b_down" if bias else None),
        step("ffn_out", "add", "attn_out down"),
    )


def sparse(route: str) -> tuple[Step, ...]:
    """Second half of a block: routed experts; `route` is the op that chooses and weighs them."""
    return (
        FFN_NORM,
        step("router_logits", "linear", "ffn_norm", "router"),
        step("route_ids route_weights", route, "router_logits", k="K"),
        step("expert_gate", "expert_linear", "ffn_norm route_ids", "e_gate"),
        step("expert_up", "expert_linear", "ffn_norm route_ids", "e_up"),
        step("expert_act", "swiglu", "expert_gate expert_up"),
        step("expert_down", "expert_linear", "expert_act route_ids", "e_down"),
        step("combine", "combine", "expert_down route_weights"),
        step("ffn_out", "add", "attn_out combine"),
    )


def model(
    c: Config,
    d: Dims,
    tensors: dict[str, Tensor],
    *,
    halves: dict[str, tuple[Step, ...]],
    layers: Sequence[str] | None = None,
    window: int | None = None,
    windowed: Sequence[bool],
    theta: float | None = None,
    bias: str = "",
    head_norm: bool = False,
) -> Tables:
    """Assemble the tables; blocks are named full_dense, window_sparse, ... after their two halves.

    `halves`: second halves by name; `layers`: the one of each layer (None: the only one); `windowed`: layers with a
    window of `window` positions; `theta`: rotary base of a file that lacks it (None: refused).
    """
    tied = c.flag("tie_word_embeddings", default=False, reason="head and embedding: one matrix or two")
    if any(windowed):
        d["window"] = window
    names = zip(windowed, layers or tuple(halves) * d["L"], strict=True)
    kinds = tuple(f"{'window' if flag else 'full'}_{half}" for flag, half in names)
    blocks = {}
    for kind in dict.fromkeys(kinds):
        first, _, second = kind.partition("_")
        size: Attr = "window" if first == "window" else UNLIMITED
        blocks[kind] = attention(size, bias=bias, head_norm=head_norm) + halves[second]
    head = (step("embed", "embedding", "ids", "embed"),)
    tail = (
        step("final_norm", "rms_norm", "x", "norm", eps="eps"),
        step("logits", "logits", "final_norm", "embed" if tied else "lm_head"),
    )
    used = dict.fromkeys(role for part in (head, *blocks.values(), tail) for s in part for role in s.weights)
    context = c.integer("max_position_embeddings", high=UNLIMITED, reason="context the publisher trained for")
    turns = rope.read(c, d["D"], context, theta)
    return Tables(
        dims=d,
        kinds=kinds,
        head=head,
        blocks=blocks,
        tail=tail,
        tensors={role: tensors[role] for role in used},
        tables={"rope": turns},
        context=rope.reach(turns, context),
        copies=(("lm_head", "model.embed_tokens"),) if tied else (),
        ignored_tensors=(INV_FREQ, TIED) if tied else (INV_FREQ,),
    )
