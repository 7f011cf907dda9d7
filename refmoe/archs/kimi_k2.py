"""kimi_k2 - Kimi-K2-Base, Instruct, Thinking. The checkpoints' own code: DeepseekV3ForCausalLM.

The program of deepseek_v3 under another name: all that differs is stated by the config. 384 experts in one group, 8 of
them chosen, weights times 2.827; 64 heads; YaRN with beta_fast = beta_slow = 1, whose ramp is a hard step between two
neighbouring pairs. The eps of the latent norms is 1e-6, also where rms_norm_eps is 1e-5 (Thinking). Kimi-K2-Instruct
stores a rotary table in every layer, of the wrong length: it is not read.
"""

from refmoe.archs import parts_latent
from refmoe.config import Config
from refmoe.steps import Tables

TENSORS = parts_latent.TENSORS
IGNORED = parts_latent.IGNORED


def tables(c: Config) -> Tables:
    """The tables of a config."""
    return parts_latent.sigmoid_tables(c)
