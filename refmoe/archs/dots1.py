"""dots1 - dots.llm1 (base, inst). transformers: Dots1ForCausalLM.

Attention as qwen3: RMSNorm of each head of q and k, biases on q, k, v and o if attention_bias says so. Experts as in
deepseek_v3: from layer first_k_dense_replace on, scores by sigmoid, e_score_correction_bias and groups for the choice
only, routed_scaling_factor, n_shared_experts as one ungated unit. A window holds in the layers that layer_types names,
or else from layer max_window_layers on (62 if absent: none of the published model's) unless sliding_window is null.
norm_topk_prob has no default: the class default is false, the published files say true.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, latent, round32, sizes
from refmoe.steps import Tables

TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
    **parts.O_BIAS,
    **parts.HEAD_NORMS,
    **parts.DENSE,
    **parts.EXPERTS,
    **parts.SHARED_EXPERTS,
    **parts.ROUTER_BIAS,
}
FIXED = {
    **sizes.FIXED,
    "mlp_bias": sizes.NO_BIAS,
    "topk_method": (("noaux_tc",), "a bias for the choice, and groups"),
    "scoring_func": (("sigmoid", "noaux_tc"), "scores of experts"),
}
IGNORED = {"seq_aux": "training option", "aux_loss_alpha": "training option"}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c, kv_heads=None)
    layers, halves = latent.layers(c, d), {}
    if "dense" in layers:
        halves["dense"] = parts.dense()
    if "sparse" in layers:
        latent.groups(c, d)
        d["factor"] = round32(c.number("routed_scaling_factor", reason="times the weights of experts"))
        route = parts.route_sigmoid(c.flag("norm_topk_prob"))
        halves["sparse"] = parts.sparse(route, shared=parts.SHARED if "S" in d else ())
    border = d["L"]
    if c.has("layer_types"):
        c.unused("layer_types says which layers have a window", "max_window_layers")
    elif c.has("sliding_window") or "sliding_window" not in c.values:
        border = c.integer("max_window_layers", low=0, default=62, reason="which layers have a window")
    else:
        c.unused("no window", "max_window_layers")
    window, windowed = sizes.listed_layers(c, d, 4096, lambda layer: layer >= border)
    bias = "qkvo" if c.flag("attention_bias", default=False) else ""
    first = partial(parts.attention, bias=bias, norm="head")
    return assemble(c, d, TENSORS, first=first, halves=halves, layers=layers, window=window, windowed=windowed)
