"""deepseek_v2 - DeepSeek-V2, V2-Lite, V2.5, Coder-V2. transformers: DeepseekV2ForCausalLM.

Attention, dense layers and shared experts as deepseek_v3 (always rotated pairs); the softmax scale includes m^2, which
transformers forgot until 2025. Scores by softmax, without a bias. topk_method greedy: one group, whatever n_group says;
group_limited_greedy: n_group groups, of which the topk_group with the best expert are open. Weights are the
probabilities times routed_scaling_factor. norm_topk_prob is false in all published files. True is taken for greedy with
a factor of 1, where the checkpoints' code and vLLM agree (renormalised); otherwise it is refused: the checkpoints' code
then drops the factor, vLLM keeps it, transformers ignores norm_topk_prob.
"""

from refmoe.archs import parts_latent
from refmoe.config import Config, latent, round32
from refmoe.steps import Dims, Step, Tables, step

FIXED = {
    **parts_latent.FIXED,
    "rope_interleave": ((True,), "this family rotates pairs"),
    "scoring_func": (("softmax",), "scores of experts"),
    "topk_method": (("greedy", "group_limited_greedy"), "how experts are chosen"),
}
TENSORS = {role: tensor for role, tensor in parts_latent.TENSORS.items() if role != "router_bias"}
IGNORED = parts_latent.IGNORED
ROUTE = "route_ids route_weights"


def _route(c: Config, d: Dims) -> Step:
    """The step that chooses experts."""
    grouped = c.values.get("topk_method") == "group_limited_greedy"
    factor = round32(c.number("routed_scaling_factor", reason="times the weights of experts"))
    if c.flag("norm_topk_prob", default=False):
        if grouped or factor != 1.0:
            raise c.error("norm_topk_prob", "false (implementations differ in true with groups or a factor)")
        c.unused("topk_method is greedy", "n_group", "topk_group")
        return step(ROUTE, "route_softmax_topk_renorm", "router_logits", k="K")
    if grouped:
        latent.groups(c, d)
    else:
        c.unused("topk_method is greedy", "n_group", "topk_group")
        d |= {"groups": 1, "open_groups": 1}
    d["factor"] = factor
    return step(ROUTE, "route_softmax_groups", "router_logits", k="K", groups="groups", open_groups="open_groups",
                factor="factor")  # fmt: skip


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = latent.sizes(c)
    layers = latent.layers(c, d)
    return parts_latent.tables(c, d, layers, _route(c, d) if "sparse" in layers else None)
