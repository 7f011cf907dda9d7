"""mistral - Mistral 7B (dense). transformers: MistralForCausalLM.

Llama without biases. sliding_window holds in every layer unless it is null; a file without the key means 4096, the
class default, which is also the window of Mistral-7B-v0.1.
"""

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, sizes
from refmoe.steps import Tables

TENSORS = {**parts.MODEL, **parts.DENSE}
FIXED = {**sizes.FIXED, "attention_bias": sizes.NO_BIAS, "mlp_bias": sizes.NO_BIAS}
IGNORED: dict[str, str] = {}


def tables(c: Config) -> Tables:
    """The tables of a config."""
    c.fixed(FIXED)
    d = sizes.common(c)
    d["F"] = c.integer("intermediate_size")
    window = sizes.window(c, None if "sliding_window" in c.values else 4096)
    windowed = sizes.every_layer(c, d, window)
    halves = {"dense": parts.dense()}
    return assemble(c, d, TENSORS, first=parts.attention, halves=halves, window=window, windowed=windowed)
