"""olmoe - OLMoE-1B-7B. transformers: OlmoeForCausalLM.

RMSNorm of the whole q and k projections, before they are cut into heads, so its weights have N*D and G*D entries and
hidden_size must be N*D. clip_qkv, null in the published files, limits q, k and v after these norms. attention_bias puts
biases on q, k, v and o. Every layer has experts of width intermediate_size (M here). norm_topk_prob false is the class
default and what the published files say; a file without the key means that. No window.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import MAX_EXPERTS, Config, round32, sizes
from refmoe.steps import Tables, vector

TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
    **parts.O_BIAS,
    **parts.EXPERTS,
    "q_norm": vector(parts.LAYER + "self_attn.q_norm.weight", "N*D"),
    "k_norm": vector(parts.LAYER + "self_attn.k_norm.weight", "G*D"),
}
FIXED = {**sizes.FIXED, "mlp_bias": sizes.NO_BIAS}
IGNORED: dict[str, str] = {}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c, kv_heads=None)
    if d["N"] * d["D"] != d["H"]:
        raise c.error("head_dim", f"hidden_size / heads = {d['H'] / d['N']:g} (the norm of q has hidden_size weights)")
    d["M"] = c.integer("intermediate_size")
    d["E"] = c.integer("num_experts", "num_local_experts", high=MAX_EXPERTS)
    d["K"] = c.integer("num_experts_per_tok", high=d["E"])
    clip = c.has("clip_qkv")
    if clip:
        d["clip_qkv"] = round32(c.number("clip_qkv"))
    bias = "qkvo" if c.flag("attention_bias", default=False) else ""
    renormalised = c.flag("norm_topk_prob", default=False)
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(parts.attention, bias=bias, norm="full", clip=clip),
        halves={"sparse": parts.sparse("route_softmax_topk_renorm" if renormalised else "route_softmax_topk")},
        windowed=sizes.every_layer(c, d, None),
    )
