"""gpt_oss - gpt-oss-20b, gpt-oss-120b. transformers: GptOssForCausalLM.

Attention with a sink for each head, biases on q, k, v and o (attention_bias), a window in the layers that layer_types
names (without the key: every second, from the first on; sliding_window 128). YaRN with truncate false is stated in the
rope parameters; a file without them is refused, as the class default is not "no scaling". The router has a bias and
weighs the chosen experts only. gate and up of an expert are one matrix with interleaved rows (2i gate, 2i+1 up), its
activation is clamped at swiglu_limit (7 if absent) with swiglu_alpha (1.702 if absent), and every expert has biases.
All experts are stacked in one tensor: in MXFP4 `gate_up_proj_blocks` [E, 2M, ...],
plain `gate_up_proj` [E, H, 2M] and `down_proj` [E, M, H], biases `gate_up_proj_bias` [E, 2M] and `down_proj_bias`.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import MAX_EXPERTS, Config, round32, sizes
from refmoe.steps import Tables, matrix, step, vector

EXPERTS = parts.LAYER + "mlp.experts."
TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
    **parts.O_BIAS,
    "sinks": vector(parts.LAYER + "self_attn.sinks", "N"),
    "router": matrix(parts.LAYER + "mlp.router", "E,H"),
    "b_router": vector(parts.LAYER + "mlp.router.bias", "E"),
    "e_gate_up": matrix(EXPERTS + "gate_up_proj[{e}]", "2*M,H"),
    "b_gate_up": vector(EXPERTS + "gate_up_proj_bias", "E,2*M"),
    "e_down": matrix(EXPERTS + "down_proj[{e}]", "H,M"),
    "b_down": vector(EXPERTS + "down_proj_bias", "E,H"),
}
FIXED = {**sizes.FIXED, "mlp_bias": sizes.NO_BIAS}
IGNORED: dict[str, str] = {}
HALF = (
    parts.FFN_NORM,
    step("router_logits", "linear_bias", "ffn_norm", "router b_router"),
    step("route_ids route_weights", "route_topk_softmax", "router_logits", k="K"),
    step("expert_gate_up", "expert_linear_bias", "ffn_norm route_ids", "e_gate_up b_gate_up"),
    step("expert_act", "swiglu_clamped", "expert_gate_up", limit="limit", alpha="alpha"),
    step("expert_down", "expert_linear_bias", "expert_act route_ids", "e_down b_down"),
    step("combine", "combine", "expert_down route_weights"),
    step("ffn_out", "add", "attn_out combine"),
)
ORIGINAL = "original_max_position_embeddings"


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c, head_dim=None if "head_dim" in c.values else 64)
    d["M"] = c.integer("intermediate_size")
    d["E"] = c.integer("num_local_experts", "num_experts", high=MAX_EXPERTS)
    d["K"] = c.integer("num_experts_per_tok", "experts_per_token", high=d["E"])
    for name, default in (("limit", 7.0), ("alpha", 1.702)):
        if f"swiglu_{name}" in c.values and not c.has(f"swiglu_{name}"):
            raise c.error(f"swiglu_{name}", f"a number (absent means {default})")
        d[name] = round32(c.number(f"swiglu_{name}", default=default))
    if not c.values.get("rope_scaling") and not c.values.get("rope_parameters"):
        raise c.error("rope_scaling", "an object, because this family's files scale their positions")
    window, windowed = sizes.listed_layers(c, d, 128, lambda layer: layer % 2 == 0)
    bias = "qkvo" if c.flag("attention_bias", default=True) else ""
    first = partial(parts.attention, bias=bias, sinks=True)
    found = assemble(c, d, TENSORS, first=first, halves={"sparse": HALF}, window=window, windowed=windowed)
    rope = found.tables["rope"]
    if ORIGINAL in rope:
        c.fixed({"initial_context_length": ((rope[ORIGINAL],), f"as {ORIGINAL}")})
    else:
        c.unused("positions are not scaled", "initial_context_length")
    return found
