"""qwen2 - Qwen1.5, Qwen2 and Qwen2.5 (dense). transformers: Qwen2ForCausalLM.

q, k and v always have a bias, o never has one; the config does not say so. The window needs use_sliding_window, and
then holds in the layers that layer_types names, or from layer max_window_layers on.
"""

from functools import partial

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, sizes
from refmoe.steps import Tables

TENSORS = {**parts.MODEL, **parts.QKV_BIAS, **parts.DENSE}
QKV_ONLY = ((True,), "this family has biases on q, k and v")
FIXED = {**sizes.FIXED, "attention_bias": QKV_ONLY, "qkv_bias": QKV_ONLY, "mlp_bias": sizes.NO_BIAS}
IGNORED: dict[str, str] = {}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c)
    d["F"] = c.integer("intermediate_size")
    window, windowed = sizes.late_layers(c, d)
    first, halves = partial(parts.attention, bias="qkv"), {"dense": parts.dense()}
    return assemble(c, d, TENSORS, first=first, halves=halves, window=window, windowed=windowed)
