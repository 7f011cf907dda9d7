"""Recipes of golden/tiny for the families with latent attention; see tiny_recipes."""

from tiny_recipes import config, parameters

YARN = {"beta_fast": 32, "beta_slow": 1, "factor": 8.0, "original_max_position_embeddings": 16, "type": "yarn"}


def _sizes(rank, latent, plain, rotated, value):
    return {"q_lora_rank": rank, "kv_lora_rank": latent, "qk_nope_head_dim": plain, "qk_rope_head_dim": rotated,
            "v_head_dim": value, "attention_bias": False, "moe_layer_freq": 1}  # fmt: skip


def _experts(count, chosen, width, shared, groups=1, opened=1, **more):
    return {"n_routed_experts": count, "num_experts_per_tok": chosen, "moe_intermediate_size": width,
            "n_shared_experts": shared, "n_group": groups, "topk_group": opened, **more}  # fmt: skip


SIGMOID = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True, "num_nextn_predict_layers": 0}
SOFTMAX = {"scoring_func": "softmax", "norm_topk_prob": False, "aux_loss_alpha": 0.001, "seq_aux": True}

# name: (config, stored type, tokens in the prompt, seed, shards)
RECIPES = {
    "kimi_k2": (
        config("kimi_k2", "42 52 3 5 5 - 97", first_k_dense_replace=1, **_sizes(23, 20, 11, 6, 9),
               **_experts(13, 3, 14, 1, routed_scaling_factor=2.827, **SIGMOID), rope_theta=50000.0,
               rope_scaling=YARN | {"beta_fast": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}, ep_size=1,
               aux_loss_alpha=0.001, seq_aux=True),
        "bf16", 19, 52, 2),
    "deepseek_v3-groups": (
        config("deepseek_v3", "36 44 2 3 3 - 89", first_k_dense_replace=1, rms_norm_eps=1e-6,
               **_sizes(None, 18, 10, 4, 13),
               **_experts(15, 4, 11, 2, 5, 3, routed_scaling_factor=2.5, norm_topk_prob=True), rope_interleave=True,
               pretraining_tp=1, num_nextn_predict_layers=1,
               **parameters("yarn", 10000.0, mscale=0.7, mscale_all_dim=1.2, beta_fast=32, beta_slow=1, factor=8.0,
                            original_max_position_embeddings=16)),
        "bf16", 15, 17, 1),
    "deepseek_v3-bias-raw": (
        config("deepseek_v3", "34 40 2 4 4 - 83", first_k_dense_replace=0, **_sizes(17, 21, 7, 10, 12),
               **_experts(9, 4, 13, 1, 3, 2, routed_scaling_factor=1.5, **SIGMOID), rope_theta=10000.0)
        | {"attention_bias": True, "norm_topk_prob": False, "tie_word_embeddings": True},
        "f16", 17, 109, 1),
    "deepseek_v2": (
        config("deepseek_v2", "36 46 3 4 4 - 91", first_k_dense_replace=1, rms_norm_eps=1e-6,
               **_sizes(None, 26, 12, 8, 10), **_experts(11, 4, 12, 2, routed_scaling_factor=1.0, **SOFTMAX),
               topk_method="greedy", rope_theta=10000, rope_scaling=YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}),
        "bf16", 20, 3, 1),
    "deepseek_v2-groups": (
        config("deepseek_v2", "30 42 2 5 5 - 87", first_k_dense_replace=0, **_sizes(19, 14, 10, 4, 8),
               **_experts(21, 4, 10, 1, 7, 3, routed_scaling_factor=16.0, **SOFTMAX),
               topk_method="group_limited_greedy", **parameters("default", 10000.0)),
        "f16", 16, 7, 2),
}  # fmt: skip
