"""qwen3 - Qwen3 (dense). transformers: Qwen3ForCausalLM.

RMSNorm of each head of q and k before the rotation, one weight vector for all heads. head_dim is its own number (128
if the file lacks it, the class default), not hidden_size / heads. attention_bias puts biases on q, k, v and o. Window
as in qwen2.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, sizes
from refmoe.steps import Tables

TENSORS = {**parts.MODEL, **parts.QKV_BIAS, **parts.O_BIAS, **parts.HEAD_NORMS, **parts.DENSE}
FIXED = {**sizes.FIXED, "mlp_bias": sizes.NO_BIAS, "use_qk_norm": sizes.HEAD_NORM}
IGNORED: dict[str, str] = {}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c, head_dim=128)
    d["F"] = c.integer("intermediate_size")
    window, windowed = sizes.late_layers(c, d)
    bias = "qkvo" if c.flag("attention_bias", default=False) else ""
    return assemble(
        c,
        d,
        TENSORS,
        first=partial(parts.attention, bias=bias, norm="head"),
        halves={"dense": parts.dense()},
        window=window,
        windowed=windowed,
    )
