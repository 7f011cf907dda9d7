"""minimax_m2 - MiniMax-M2, M2.1, M2.5. transformers: MiniMaxM2ForCausalLM.

RMSNorm of the whole q and k projections before the head split; the first rotary_dim numbers of a head are rotated
(or head_dim * partial_rotary_factor; all of them if neither is stated). In every layer experts of width
intermediate_size (M here) in the names of mixtral, chosen by sigmoid score + e_score_correction_bias, weighed by the
scores of the chosen divided by their sum. The model's own code has no 1e-20 in that sum: the bits are the same unless
the chosen scores add up to less than 2^-43. No window, no shared expert.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import MAX_EXPERTS, Config, rope, sizes
from refmoe.steps import Tables, matrix, vector

MOE = parts.LAYER + "block_sparse_moe."
TENSORS = {
    **parts.MODEL,
    "q_norm": vector(parts.LAYER + "self_attn.q_norm.weight", "N*D"),
    "k_norm": vector(parts.LAYER + "self_attn.k_norm.weight", "G*D"),
    "router": matrix(MOE + "gate", "E,H"),
    "router_bias": vector(MOE + "e_score_correction_bias", "E"),
    "e_gate": matrix(MOE + "experts.{e}.w1", "M,H"),
    "e_up": matrix(MOE + "experts.{e}.w3", "M,H"),
    "e_down": matrix(MOE + "experts.{e}.w2", "H,M"),
}
FIXED = {
    **sizes.FIXED,
    "attention_bias": sizes.NO_BIAS,
    "mlp_bias": sizes.NO_BIAS,
    "qk_norm_type": (("per_layer",), "one norm for all heads"),
    "use_qk_norm": ((True,), "this family normalises q and k"),
    "scoring_func": (("sigmoid",), "scores of experts"),
    "use_routing_bias": ((True,), "this family has a bias for the choice"),
    "shared_intermediate_size": ((0,), "no shared expert"),
    "sliding_window": ((), "no window"),
}
MTP = "multi-token prediction: drafts further tokens, the model's own logits do not use it"
IGNORED = {
    "use_mtp": MTP,
    "num_mtp_modules": MTP,
    "mtp_transformer_layers": MTP,
    "mlp_intermediate_size": "no layer is dense",
    "shared_moe_mode": "no shared expert",
    "max_model_len": "a length limit of an engine",
}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c, head_dim=None if "head_dim" in c.values else 128)
    d["M"] = c.integer("intermediate_size")
    d["E"] = c.integer("num_local_experts", "num_experts", high=MAX_EXPERTS)
    d["K"] = c.integer("num_experts_per_tok", high=d["E"])
    d |= {"groups": 1, "open_groups": 1, "factor": 1.0}
    kinds = c.items("attn_type_list", int, "a list of ones: softmax attention in all layers", reason="kinds of layers")
    if kinds is not None and kinds != [1] * d["L"]:
        raise c.error("attn_type_list", f"{d['L']} ones: softmax attention in all layers")
    stated = c.integer("rotary_dim", high=d["D"], default=None)
    d["Q"] = rope.rotated(c, d["D"], 1.0 if stated is None else stated / d["D"])
    if stated is not None and d["Q"] != stated:
        raise c.error("rotary_dim", f"{d['Q']}, as head_dim * partial_rotary_factor")
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(parts.attention, norm="full", partial=True),
        halves={"sparse": parts.sparse(parts.route_sigmoid(True))},
        windowed=sizes.every_layer(c, d, None),
        turned="Q",
        partial=True,
    )
