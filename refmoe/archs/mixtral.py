"""mixtral - Mixtral 8x7B, 8x22B. transformers: MixtralForCausalLM.

Mistral attention; in every layer softmax over all experts, top-k, weights always renormalised. intermediate_size is
the width of one expert (M here). Experts: w1 gate, w3 up, w2 down. No window if the key is absent or null.
"""

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import MAX_EXPERTS, Config, sizes
from refmoe.steps import Tables, matrix

MOE = "model.layers.{l}.block_sparse_moe."
TENSORS = {
    **parts.MODEL,
    "router": matrix(MOE + "gate", "E,H"),
    "e_gate": matrix(MOE + "experts.{e}.w1", "M,H"),
    "e_up": matrix(MOE + "experts.{e}.w3", "M,H"),
    "e_down": matrix(MOE + "experts.{e}.w2", "H,M"),
}
FIXED = {**sizes.FIXED, "attention_bias": sizes.NO_BIAS, "mlp_bias": sizes.NO_BIAS}
IGNORED: dict[str, str] = {}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c)
    d["M"] = c.integer("intermediate_size")
    d["E"] = c.integer("num_local_experts", "num_experts", high=MAX_EXPERTS)
    d["K"] = c.integer("num_experts_per_tok", high=d["E"])
    window = sizes.window(c)
    windowed = sizes.every_layer(c, d, window)
    halves = {"sparse": parts.sparse("route_softmax_topk_renorm")}
    return assemble(c, d, TENSORS, first=parts.attention, halves=halves, window=window, windowed=windowed)
