"""glm4_moe - GLM-4.5, GLM-4.5-Air, GLM-4.6. transformers: Glm4MoeForCausalLM.

attention_bias puts biases on q, k and v, never on o; use_qk_norm normalises each head of q and k before the rotation.
Only the first head_dim * partial_rotary_factor numbers of a head are rotated, pairs half of that apart (0.5 if the key
is absent, the class default). Experts as in deepseek_v3: from layer first_k_dense_replace on, scores by sigmoid,
e_score_correction_bias and groups for the choice only, routed_scaling_factor; n_shared_experts make one ungated unit.
Layers from num_hidden_layers on (multi-token prediction) are not read. No window.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, latent, rope, round32, sizes
from refmoe.steps import Tables

TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
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
    "scoring_func": (("sigmoid",), "scores of experts"),
}
IGNORED: dict[str, str] = {}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c)
    layers, halves = latent.layers(c, d), {}
    if "dense" in layers:
        halves["dense"] = parts.dense()
    if "sparse" in layers:
        latent.groups(c, d)
        d["factor"] = round32(c.number("routed_scaling_factor", default=1.0, reason="times the weights of experts"))
        route = parts.route_sigmoid(c.flag("norm_topk_prob", default=True))
        halves["sparse"] = parts.sparse(route, shared=parts.SHARED if "S" in d else ())
    d["Q"] = rope.rotated(c, d["D"], 0.5)
    bias = "qkv" if c.flag("attention_bias", default=False) else ""
    norm = "head" if c.flag("use_qk_norm", default=False) else ""
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(parts.attention, bias=bias, norm=norm, partial=True),
        halves=halves,
        layers=layers,
        windowed=sizes.every_layer(c, d, None),
        turned="Q",
        partial=True,
        ignored=latent.unread_layers(c, d),
    )
