"""Fragments the architecture files share: tensor names and runs of steps."""

from refmoe.steps import Attr, Step, matrix, step, vector

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
EXPERTS = {
    "router": matrix(LAYER + "mlp.gate", "E,H"),
    "e_gate": matrix(LAYER + "mlp.experts.{e}.gate_proj", "M,H"),
    "e_up": matrix(LAYER + "mlp.experts.{e}.up_proj", "M,H"),
    "e_down": matrix(LAYER + "mlp.experts.{e}.down_proj", "H,M"),
}
SHARED_EXPERTS = {
    "s_gate": matrix(LAYER + "mlp.shared_experts.gate_proj", "S,H"),
    "s_up": matrix(LAYER + "mlp.shared_experts.up_proj", "S,H"),
    "s_down": matrix(LAYER + "mlp.shared_experts.down_proj", "H,S"),
}
ROUTER_BIAS = {"router_bias": vector(LAYER + "mlp.gate.e_score_correction_bias", "E")}


def project(out: str, source: str, weight: str, bias: str | None = None) -> Step:
    """A linear step with or without bias."""
    return step(out, "linear_bias", source, f"{weight} {bias}") if bias else step(out, "linear", source, weight)


def attention(
    window: Attr,
    *,
    bias: str = "",
    norm: str = "",
    clip: bool = False,
    sinks: bool = False,
    partial: bool = False,
) -> tuple[Step, ...]:
    """First half of a block.

    `bias`: which of q, k, v, o have one; `norm`: RMSNorm of q and k, of each "head" or of the "full" projection;
    `clip`: q, k and v limited to clip_qkv; `sinks`: one more score for each head; `partial`: the first Q numbers of
    each head are rotated.
    """
    at = {p: p for p in "qkv"}  # the newest result of each
    norms, clips = [], []
    for p in "qk" if norm else "":
        norms.append(step(f"{p}_norm", "head_norm" if norm == "head" else "rms_norm", p, f"{p}_norm", eps="eps"))
        at[p] = f"{p}_norm"
    for p in "qkv" if clip else "":
        clips.append(step(f"{p}_clip", "clip", at[p], limit="clip_qkv"))
        at[p] = f"{p}_clip"
    turn = "rope_half_partial" if partial else "rope_half"
    width: dict[str, Attr] = {"table": "rope", "head_dim": "D"}
    if partial:
        width["rotated"] = "Q"
    op, weights = ("attention_sinks", ("sinks",)) if sinks else ("attention", ())
    shape: dict[str, Attr] = {"heads": "N", "kv_heads": "G", "head_dim": "D", "scale": "scale", "window": window}
    return (
        step("attn_norm", "rms_norm", "x", "attn_norm", eps="eps"),
        *(project(p, "attn_norm", f"w{p}", f"b{p}" if p in bias else None) for p in "qkv"),
        *norms,
        *clips,
        *(Step((f"{p}_rope",), turn, (at[p], "positions"), (), width) for p in "qk"),
        Step(("attn",), op, ("q_rope", "k_rope", at["v"], "positions", "cache"), weights, shape),
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


def sparse(route: str | Step, shared: tuple[Step, ...] = ()) -> tuple[Step, ...]:
    """Second half of a block: routed experts; `route` is the op, or the step, that chooses and weighs them.

    `shared`: steps of a shared expert, the last of which is its output.
    """
    moe = (*shared, step("moe", "add", f"combine {shared[-1].out[0]}")) if shared else ()
    return (
        FFN_NORM,
        step("router_logits", "linear", "ffn_norm", "router"),
        route if isinstance(route, Step) else step("route_ids route_weights", route, "router_logits", k="K"),
        step("expert_gate", "expert_linear", "ffn_norm route_ids", "e_gate"),
        step("expert_up", "expert_linear", "ffn_norm route_ids", "e_up"),
        step("expert_act", "swiglu", "expert_gate expert_up"),
        step("expert_down", "expert_linear", "expert_act route_ids", "e_down"),
        step("combine", "combine", "expert_down route_weights"),
        *moe,
        step("ffn_out", "add", f"attn_out {moe[-1].out[0] if moe else 'combine'}"),
    )


def route_sigmoid(renormalised: bool) -> Step:
    """Routing by sigmoid scores, with a bias and groups for the choice only."""
    op = "route_sigmoid_groups_renorm" if renormalised else "route_sigmoid_groups"
    attrs: dict[str, Attr] = {"k": "K", "groups": "groups", "open_groups": "open_groups", "factor": "factor"}
    return Step(("route_ids", "route_weights"), op, ("router_logits",), ("router_bias",), attrs)


SHARED = (
    step("shared_gate", "linear", "ffn_norm", "s_gate"),
    step("shared_up", "linear", "ffn_norm", "s_up"),
    step("shared_act", "swiglu", "shared_gate shared_up"),
    step("shared_down", "linear", "shared_act", "s_down"),
)
