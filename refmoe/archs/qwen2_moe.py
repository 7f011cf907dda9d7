"""qwen2_moe - Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B. transformers: Qwen2MoeForCausalLM.

Attention as qwen2, but qkv_bias may switch the biases off. Layers with experts as in qwen3_moe; beside the chosen
experts every token runs the shared expert, whose output is multiplied by the sigmoid of one number per token
(shared_gate_logit). norm_topk_prob false is the class default and what every published file says; a file without the
key means that. An active window holds in the layers that layer_types names, or else in every second layer, from the
first on, below max_window_layers (so transformers 5.23; no published file has an active window).
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, sizes
from refmoe.steps import Tables, matrix, step

SHARED = "model.layers.{l}.mlp.shared_expert"
TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
    **parts.DENSE,
    **parts.EXPERTS,
    "s_weight": matrix(SHARED + "_gate", "1,H"),
    "s_gate": matrix(SHARED + ".gate_proj", "S,H"),
    "s_up": matrix(SHARED + ".up_proj", "S,H"),
    "s_down": matrix(SHARED + ".down_proj", "H,S"),
}
FIXED = {**sizes.FIXED, "mlp_bias": sizes.NO_BIAS}
IGNORED: dict[str, str] = {}
GATED = (
    step("shared_gate_logit", "linear", "ffn_norm", "s_weight"),
    *parts.SHARED,
    step("shared", "scale_by_sigmoid", "shared_down shared_gate_logit"),
)


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c)
    layers = sizes.qwen_experts(c, d)
    halves = {}
    if "dense" in layers:
        halves["dense"] = parts.dense()
    if "sparse" in layers:
        d["S"] = c.integer("shared_expert_intermediate_size")
        renormalised = c.flag("norm_topk_prob", default=False)
        halves["sparse"] = parts.sparse(
            "route_softmax_topk_renorm" if renormalised else "route_softmax_topk", shared=GATED
        )
    bias = c.flag("qkv_bias", default=True)
    c.fixed({"attention_bias": ((bias,), "as qkv_bias")})
    window, windowed = sizes.some_layers(c, d, lambda layer, border: layer % 2 == 0 and layer < border)
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(parts.attention, bias="qkv" if bias else ""),
        halves=halves,
        layers=layers,
        window=window,
        windowed=windowed,
    )
