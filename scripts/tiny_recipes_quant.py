"""Recipes of golden/tiny for quantised models; see tiny_recipes. They are small: their steps are those of others.

A sixth entry tells which matrices are stored in the encoding of the config: those whose name it matches.
"""

from tiny_recipes import config

LAYERS = r"layers\..*proj|layers\..*\.w[123]"
PACKED = {"group_0": {"targets": ["Linear"], "input_activations": None, "output_activations": None, "weights": {
    "num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 8, "dynamic": False,
    "actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {}}}}  # fmt: skip
BYTES = {"group_0": {"targets": ["Linear"], "weights": {
    "num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "group_size": None, "dynamic": False},
    "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}}}

# name: (config, stored type of the rest, tokens in the prompt, seed, shards, names of the encoded matrices)
RECIPES = {
    "qwen3_moe-fp8": (
        config("qwen3_moe", "27 30 1 3 1 10 41", moe_intermediate_size=13, num_experts=5, num_experts_per_tok=2,
               decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True, attention_bias=False,
               rms_norm_eps=1e-6, rope_theta=1000000.0, quantization_config={
                   "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate"],
                   "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [8, 12]}),
        "bf16", 7, 1, 1, LAYERS),
    "kimi_k2-int4": (
        config("kimi_k2", "40 22 1 3 3 - 43", first_k_dense_replace=0, q_lora_rank=11, kv_lora_rank=12,
               qk_nope_head_dim=8, qk_rope_head_dim=6, v_head_dim=9, attention_bias=False, moe_layer_freq=1,
               n_routed_experts=5, num_experts_per_tok=2, moe_intermediate_size=16, n_shared_experts=1, n_group=1,
               topk_group=1, routed_scaling_factor=2.827, scoring_func="sigmoid", topk_method="noaux_tc",
               norm_topk_prob=True, num_nextn_predict_layers=0, rope_theta=50000.0, rope_scaling=None,
               quantization_config={
                   "config_groups": PACKED, "format": "pack-quantized", "ignore": ["lm_head", "re:.*self_attn.*"],
                   "kv_cache_scheme": None, "quant_method": "compressed-tensors",
                   "quantization_status": "compressed"}),
        "bf16", 7, 1, 1, r"\.experts\."),
    "qwen2_moe-gptq": (
        config("qwen2_moe", "24 32 1 3 1 10 45", moe_intermediate_size=16, shared_expert_intermediate_size=24,
               num_experts=5, num_experts_per_tok=2, decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=False,
               rms_norm_eps=1e-6, rope_theta=1000000.0, quantization_config={
                   "bits": 4, "group_size": 8, "sym": False, "desc_act": True, "static_groups": False,
                   "damp_percent": 0.01, "true_sequential": True, "quant_method": "gptq",
                   "checkpoint_format": "gptq"}),
        "f16", 7, 1, 1, LAYERS),
    "mixtral-awq": (
        config("mixtral", "24 16 1 4 2 8 39", num_local_experts=4, num_experts_per_tok=2, sliding_window=None,
               rope_theta=1e6, quantization_config={
                   "quant_method": "awq", "bits": 4, "group_size": 8, "zero_point": True, "version": "gemm",
                   "modules_to_not_convert": ["gate"]}),
        "f16", 7, 3, 1, LAYERS),
    "gpt_oss-mxfp4": (
        config("gpt_oss", "32 32 1 3 1 10 37", num_local_experts=5, num_experts_per_tok=2, experts_per_token=2,
               sliding_window=5, layer_types=["sliding_attention"], attention_bias=True,
               swiglu_limit=1.25, initial_context_length=16, rope_theta=150000, rope_scaling={
                   "beta_fast": 32.0, "beta_slow": 1.0, "factor": 4.0, "rope_type": "yarn",
                   "original_max_position_embeddings": 16, "truncate": False},
               quantization_config={"modules_to_not_convert": [
                   "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
                   "quant_method": "mxfp4"}),
        "bf16", 7, 1, 1, r"\.experts\."),
    "qwen3_moe-w8a8": (
        config("qwen3_moe", "42 30 1 3 1 10 43", moe_intermediate_size=37, num_experts=5, num_experts_per_tok=2,
               decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True, attention_bias=False,
               rms_norm_eps=1e-6, rope_theta=1000000.0, quantization_config={
                   "config_groups": BYTES, "format": "int-quantized", "ignore": ["lm_head", "re:.*mlp.gate$"],
                   "quant_method": "compressed-tensors", "quantization_status": "compressed"}),
        "bf16", 7, 1, 1, LAYERS),
    "llama-w8a8": (
        config("llama", "27 30 1 3 1 10 47", rope_theta=10000.0, attention_bias=False, mlp_bias=False,
               quantization_config={
                   "config_groups": BYTES, "format": "int-quantized", "ignore": ["lm_head"],
                   "quant_method": "compressed-tensors", "quantization_status": "compressed"}),
        "bf16", 7, 2, 1, LAYERS),
}  # fmt: skip
