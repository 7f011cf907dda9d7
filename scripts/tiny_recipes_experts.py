"""Recipes of golden/tiny for qwen2_moe, olmoe, gpt_oss, glm4_moe and families like them; see tiny_recipes."""

from tiny_recipes import config, parameters

# name: (config, stored type, tokens in the prompt, seed, shards)
RECIPES = {
    "qwen2_moe": (
        config("qwen2_moe", "36 44 3 6 2 10 97", moe_intermediate_size=20, shared_expert_intermediate_size=26,
               num_experts=9, num_experts_per_tok=3, decoder_sparse_step=1, mlp_only_layers=[1], norm_topk_prob=False,
               use_sliding_window=False, sliding_window=7, max_window_layers=2, rms_norm_eps=1e-6,
               rope_theta=1000000.0, router_aux_loss_coef=0.001, output_router_logits=False),
        "bf16", 9, 102, 2),
    "qwen2_moe-window-renorm": (
        config("qwen2_moe", "28 34 4 5 1 8 67", moe_intermediate_size=18, shared_expert_intermediate_size=21,
               num_experts=18, num_experts_per_tok=5, decoder_sparse_step=2, mlp_only_layers=[], norm_topk_prob=True,
               qkv_bias=False, use_sliding_window=True, sliding_window=6, max_window_layers=3,
               tie_word_embeddings=True, rms_norm_eps=1e-6,
               layer_types=["sliding_attention", "full_attention"] * 2,
               **parameters("yarn", 10000.0, factor=4.0, original_max_position_embeddings=16)),
        "f16", 10, 124, 1),
    "olmoe": (
        config("olmoe", "42 18 2 7 7 - 73", num_experts=11, num_experts_per_tok=4, norm_topk_prob=False,
               attention_bias=False, clip_qkv=None, rope_theta=10000.0, rope_scaling=None, router_aux_loss_coef=0.01,
               output_router_logits=False),
        "bf16", 10, 221, 3),
    "olmoe-clip-bias-renorm": (
        config("olmoe", "36 18 2 6 2 - 69", num_experts=6, num_experts_per_tok=2, norm_topk_prob=True,
               attention_bias=True, clip_qkv=0.75, **parameters("default", 500000.0)),
        "f32", 10, 117, 1),
    "gpt_oss": (
        config("gpt_oss", "34 22 3 6 2 10 97", num_local_experts=7, num_experts_per_tok=3, experts_per_token=3,
               sliding_window=5, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
               attention_bias=True, swiglu_limit=1.25, initial_context_length=16, router_aux_loss_coef=0.9,
               output_router_logits=False, rope_theta=150000,
               rope_scaling={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 4.0, "rope_type": "yarn",
                             "original_max_position_embeddings": 16, "truncate": False}),
        "bf16", 10, 11, 2),
    "gpt_oss-square-raw": (
        config("gpt_oss", "34 34 2 5 1 12 67", num_local_experts=11, num_experts_per_tok=2, sliding_window=6,
               attention_bias=False, swiglu_limit=0.75, swiglu_alpha=1.25,
               **parameters("yarn", 10000.0, factor=8.0, original_max_position_embeddings=8, beta_fast=4.0,
                            truncate=True)),
        "f16", 10, 243, 1),
    "glm4_moe": (
        config("glm4_moe", "38 44 2 6 2 12 77", moe_intermediate_size=16, n_routed_experts=10, num_experts_per_tok=3,
               n_shared_experts=1, n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.5,
               first_k_dense_replace=1, attention_bias=True, use_qk_norm=True, partial_rotary_factor=0.5,
               rope_theta=1000000, rope_scaling=None, num_nextn_predict_layers=1),
        "bf16", 10, 299, 2),
    "glm4_moe-groups-raw": (
        config("glm4_moe", "34 40 2 5 1 18 85", moe_intermediate_size=13, n_routed_experts=15, num_experts_per_tok=4,
               n_shared_experts=2, n_group=5, topk_group=3, norm_topk_prob=False, routed_scaling_factor=1.5,
               first_k_dense_replace=0, attention_bias=False, use_qk_norm=False, tie_word_embeddings=True,
               **parameters("yarn", 10000.0, partial_rotary_factor=0.35, factor=4.0,
                            original_max_position_embeddings=16)),
        "f16", 10, 14, 1),
}  # fmt: skip
