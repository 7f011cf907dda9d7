"""Recipes of golden/tiny for families that need nothing but a file of their own; see tiny_recipes."""

from tiny_recipes import config, parameters

# name: (config, stored type, tokens in the prompt, seed, shards)
RECIPES = {
    "dots1": (
        config("dots1", "30 34 2 3 1 12 61", moe_intermediate_size=10, n_routed_experts=6, num_experts_per_tok=2,
               n_shared_experts=2, n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.5,
               first_k_dense_replace=1, scoring_func="noaux_tc", attention_bias=True, sliding_window=4,
               max_window_layers=1, rope_theta=10000000, rope_scaling=None),
        "bf16", 10, 54, 1),
    "minimax_m2": (
        config("minimax_m2", "28 14 2 5 1 12 57", num_local_experts=7, num_experts_per_tok=3, rotary_dim=6,
               attn_type_list=[1, 1], qk_norm_type="per_layer", use_qk_norm=True, scoring_func="sigmoid",
               use_routing_bias=True, shared_intermediate_size=0, use_mtp=True, num_mtp_modules=3,
               mtp_transformer_layers=1, rms_norm_eps=1e-6, rope_theta=5000000),
        "f16", 10, 254, 2),
    "flex_olmo": (
        config("flex_olmo", "26 12 2 6 2 10 53", num_experts=5, num_experts_per_tok=3, norm_topk_prob=False,
               attention_bias=False, tie_word_embeddings=True, rms_norm_eps=1e-6, pad_token_id=0,
               **parameters("default", 500000.0)),
        "f32", 10, 186, 1),
    "glm4_moe_lite": (
        config("glm4_moe_lite", "30 26 2 3 3 - 59", q_lora_rank=11, kv_lora_rank=14, qk_nope_head_dim=9,
               qk_rope_head_dim=6, v_head_dim=8, moe_intermediate_size=10, n_routed_experts=6, num_experts_per_tok=2,
               n_shared_experts=1, n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.8,
               mlp_layer_types=["sparse", "dense"], attention_bias=False, **parameters("default", 1000000.0)),
        "bf16", 10, 199, 1),
}  # fmt: skip
