"""llama - Llama 1 to 3 and models in that layout (dense). transformers: LlamaForCausalLM.

attention_bias puts biases on q, k, v and o; mlp_bias on all three matrices of the gated unit. No window. The published
Llama 1 files lack num_key_value_heads (one per query head), those of Llama 1 and 2 lack rope_theta (10000).
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, sizes
from refmoe.steps import Tables, vector

TENSORS = {
    **parts.MODEL,
    **parts.QKV_BIAS,
    **parts.O_BIAS,
    **parts.DENSE,
    "b_gate": vector("model.layers.{l}.mlp.gate_proj.bias", "F"),
    "b_up": vector("model.layers.{l}.mlp.up_proj.bias", "F"),
    "b_down": vector("model.layers.{l}.mlp.down_proj.bias", "H"),
}
FIXED = sizes.FIXED
IGNORED: dict[str, str] = {}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c, kv_heads=None)
    d["F"] = c.integer("intermediate_size")
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(parts.attention, bias="qkvo" if c.flag("attention_bias", default=False) else ""),
        halves={"dense": parts.dense(bias=c.flag("mlp_bias", default=False))},
        windowed=sizes.every_layer(c, d, None),
        theta=10000.0,
    )
