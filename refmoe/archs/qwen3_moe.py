"""qwen3_moe - Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder. transformers: Qwen3MoeForCausalLM.

Attention as qwen3, but head_dim falls back to hidden_size / heads, and an active window holds in every layer (so
transformers 5.23, which does not read max_window_layers here; no published file has an active window).
Layer l has experts if it is not in mlp_only_layers and (l + 1) is a multiple of decoder_sparse_step; else a dense unit
of width intermediate_size. norm_topk_prob has no default here: the class default is false, every published file says
true, so nothing can be inferred from a file without it. transformers 5 writes num_experts as num_local_experts.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, sizes
from refmoe.steps import Tables

TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
    **parts.O_BIAS,
    **parts.HEAD_NORMS,
    **parts.DENSE,
    **parts.EXPERTS,
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
    layers = sizes.qwen_experts(c, d)
    halves = {}
    if "dense" in layers:
        halves["dense"] = parts.dense()
    if "sparse" in layers:
        halves["sparse"] = parts.sparse(
            "route_softmax_topk_renorm" if c.flag("norm_topk_prob") else "route_softmax_topk"
        )
    bias = c.flag("attention_bias", default=False)
    c.fixed({"qkv_bias": ((bias,), "as attention_bias")})
    window = None
    if c.flag("use_sliding_window", default=False, reason="attention window"):
        window = sizes.window(c)
    else:
        c.unused("use_sliding_window is not true", "sliding_window")
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(parts.attention, bias="qkvo" if bias else "", norm="head"),
        halves=halves,
        layers=layers,
        window=window,
        windowed=sizes.every_layer(c, d, window),
    )
