"""qwen3_moe - Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder. transformers: Qwen3MoeForCausalLM.

Attention as qwen3, but head_dim falls back to hidden_size / heads, and an active window holds in every layer (so
transformers 5.23, which does not read max_window_layers here; no published file has an active window).
Layer l has experts if it is not in mlp_only_layers and (l + 1) is a multiple of decoder_sparse_step; else a dense unit
of width intermediate_size. norm_topk_prob has no default here: the class default is false, every published file says
true, so nothing can be inferred from a file without it. transformers 5 writes num_experts as num_local_experts.
"""

from refmoe.archs import parts
from refmoe.config import MAX_EXPERTS, Config, sizes
from refmoe.steps import Tables, matrix

MLP = "model.layers.{l}.mlp."
TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
    **parts.O_BIAS,
    **parts.HEAD_NORMS,
    **parts.DENSE,
    "router": matrix(MLP + "gate", "E,H"),
    "e_gate": matrix(MLP + "experts.{e}.gate_proj", "M,H"),
    "e_up": matrix(MLP + "experts.{e}.up_proj", "M,H"),
    "e_down": matrix(MLP + "experts.{e}.down_proj", "H,M"),
}
FIXED = {
    **sizes.FIXED,
    "mlp_bias": sizes.NO_BIAS,
    "use_qk_norm": sizes.HEAD_NORM,
    "shared_expert_intermediate_size": ((0,), "this family has no shared expert"),
}
IGNORED = {"max_window_layers": "not read in this family: a window holds in every layer"}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c)
    experts = c.integer("num_experts", "num_local_experts", low=0, high=MAX_EXPERTS)
    period = c.integer("decoder_sparse_step", default=1, reason="which layers have experts")
    only = set(c.items("mlp_only_layers", int, "a list of layer numbers", reason="which layers have experts") or ())
    layers = ["sparse" if experts and (n + 1) % period == 0 and n not in only else "dense" for n in range(d["L"])]
    halves = {}
    if "dense" in layers:
        d["F"] = c.integer("intermediate_size")
        halves["dense"] = parts.dense()
    else:
        c.unused("no layer is dense", "intermediate_size")
    if "sparse" in layers:
        d |= {
            "E": experts,
            "K": c.integer("num_experts_per_tok", high=experts),
            "M": c.integer("moe_intermediate_size"),
        }
        route = "route_softmax_topk_renorm" if c.flag("norm_topk_prob") else "route_softmax_topk"
        halves["sparse"] = parts.sparse(route)
    else:
        c.unused("no layer has experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
    bias = c.flag("attention_bias", default=False)
    c.fixed({"qkv_bias": ((bias,), "as attention_bias")})
    window = None
    if c.flag("use_sliding_window", default=False, reason="attention window"):
        window = sizes.window(c)
    else:
        c.unused("use_sliding_window is not true", "sliding_window")
    return parts.model(
        c,
        d,
        TENSORS,
        halves=halves,
        layers=layers,
        window=window,
        windowed=sizes.every_layer(c, d, window),
        bias="qkvo" if bias else "",
        head_norm=True,
    )
