"""glm4_moe_lite - GLM-4.7-Flash. transformers: Glm4MoeLiteForCausalLM.

deepseek_v3 in other sizes: latent attention, experts by sigmoid scores with a bias for the choice. mlp_layer_types
(dense or sparse for each layer) may stand in for first_k_dense_replace, and must agree with it if both are stated.
"""

from refmoe.archs import parts_latent
from refmoe.config import Config
from refmoe.steps import Tables

TENSORS = parts_latent.TENSORS
IGNORED = parts_latent.IGNORED


def tables(c: Config) -> Tables:
    """The tables of a config."""
    return parts_latent.sigmoid_tables(c)
