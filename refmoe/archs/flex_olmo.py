"""flex_olmo - FlexOlmo-7x7B-1T. transformers: FlexOlmoForCausalLM.

No norm before the two halves of a block: attention and router read the residual stream as it is, and what each half
adds is normalised first (post_attention_layernorm, post_feedforward_layernorm). RMSNorm of the whole q and k
projections as in olmoe. Experts as in olmoe, of width intermediate_size (M here); norm_topk_prob false is the class
default and holds without the key. attention_bias puts biases on q, k, v and o. No window.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import MAX_EXPERTS, Config, sizes
from refmoe.steps import Attr, Step, Tables, step, vector

TENSORS = {
    **{role: tensor for role, tensor in parts.MODEL.items() if role not in ("attn_norm", "ffn_norm")},
    **parts.QKV_BIAS,
    **parts.O_BIAS,
    **parts.EXPERTS,
    "q_norm": vector(parts.LAYER + "self_attn.q_norm.weight", "N*D"),
    "k_norm": vector(parts.LAYER + "self_attn.k_norm.weight", "G*D"),
    "o_norm": vector(parts.LAYER + "post_attention_layernorm.weight", "H"),
    "moe_norm": vector(parts.LAYER + "post_feedforward_layernorm.weight", "H"),
}
FIXED = {**sizes.FIXED, "mlp_bias": sizes.NO_BIAS}
IGNORED: dict[str, str] = {}


def attention(window: Attr, *, bias: str) -> tuple[Step, ...]:
    """The first half of parts, without the norm before it and with one behind o."""
    _, *steps, _ = parts.attention(window, bias=bias, norm="full")
    raw = [Step(s.out, s.op, tuple("x" if name == "attn_norm" else name for name in s.inputs), s.weights, s.attrs)
           for s in steps]  # fmt: skip
    return (*raw, step("o_norm", "rms_norm", "o", "o_norm", eps="eps"), step("attn_out", "add", "x o_norm"))


def sparse(route: str) -> tuple[Step, ...]:
    """The second half of parts, without the norm before it and with one behind combine."""
    _, *steps, _ = parts.sparse(route)
    raw = [Step(s.out, s.op, tuple("attn_out" if name == "ffn_norm" else name for name in s.inputs), s.weights, s.attrs)
           for s in steps]  # fmt: skip
    return (*raw, step("moe_norm", "rms_norm", "combine", "moe_norm", eps="eps"),
            step("ffn_out", "add", "attn_out moe_norm"))  # fmt: skip


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c, kv_heads=None)
    d["M"] = c.integer("intermediate_size")
    d["E"] = c.integer("num_experts", "num_local_experts", high=MAX_EXPERTS)
    d["K"] = c.integer("num_experts_per_tok", high=d["E"])
    bias = "qkvo" if c.flag("attention_bias", default=False) else ""
    renormalised = c.flag("norm_topk_prob", default=False)
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(attention, bias=bias),
        halves={"sparse": sparse("route_softmax_topk_renorm" if renormalised else "route_softmax_topk")},
        windowed=sizes.every_layer(c, d, None),
    )
