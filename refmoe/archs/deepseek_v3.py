"""deepseek_v3 - DeepSeek-V3, R1, Moonlight. transformers: DeepseekV3ForCausalLM.

Latent attention in the absorbed form: keys and values of all heads come from one latent row of kv_lora_rank numbers and
one rotated key of qk_rope_head_dim per position, which is all the cache keeps. q_lora_rank may be null: then queries
come from one matrix, and no norm is invented. The norms of the two latents have eps 1e-6 whatever rms_norm_eps says: so
the checkpoints' own code, DeepSeek's and transformers (their default argument); vLLM passes rms_norm_eps, which differs
for Moonlight (1e-5). attention_bias puts biases on q_a, kv_a and o.
Softmax scale = RN32(m^2 / sqrt(qk_nope_head_dim + qk_rope_head_dim)) with m = 0.1 mscale_all_dim ln(factor) + 1 if
YaRN states mscale_all_dim, else m = 1; exact, rounded once, for all lengths (DeepSeek's inference code: only where
more than 4096 positions are asked for).
rope_interleave false means rotated halves; the published files have pairs.
Layer l has experts if l >= first_k_dense_replace and l is a multiple of moe_layer_freq (1). Scores by sigmoid, the bias
e_score_correction_bias and groups for the choice only. n_shared_experts make one gated unit of that many times the
expert width, run by every token and added ungated. Layers from num_hidden_layers on (multi-token prediction) are not
read.
"""

from refmoe.archs import parts_latent
from refmoe.config import Config
from refmoe.steps import Tables

TENSORS = parts_latent.TENSORS
IGNORED = parts_latent.IGNORED


def tables(c: Config) -> Tables:
    """The tables of a config."""
    return parts_latent.sigmoid_tables(c)
