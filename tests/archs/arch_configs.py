"""Small configs of each family for the tests, in the words of published files; sizes are deliberately all different."""

from copy import deepcopy

BASE = {
    "vocab_size": 50,
    "hidden_size": 36,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 44,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
}
EXTRA = {
    "llama": {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1},
    "mistral": {"sliding_window": 5},
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 3, "sliding_window": None},
    "qwen2": {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 4},
    "qwen3": {"attention_bias": False, "use_sliding_window": False, "sliding_window": None, "max_window_layers": 4},
    "qwen2_moe": {
        "decoder_sparse_step": 1,
        "max_window_layers": 4,
        "mlp_only_layers": [],
        "moe_intermediate_size": 28,
        "norm_topk_prob": False,
        "num_experts": 5,
        "num_experts_per_tok": 3,
        "shared_expert_intermediate_size": 60,
        "sliding_window": 32768,
        "use_sliding_window": False,
    },
    "qwen3_moe": {
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "max_window_layers": 4,
        "mlp_only_layers": [],
        "moe_intermediate_size": 28,
        "norm_topk_prob": True,
        "num_experts": 5,
        "num_experts_per_tok": 3,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "olmoe": {
        "attention_bias": False,
        "clip_qkv": None,
        "head_dim": None,
        "norm_topk_prob": False,
        "num_experts": 5,
        "num_experts_per_tok": 3,
    },
    "gpt_oss": {
        "attention_bias": True,
        "experts_per_token": 3,
        "initial_context_length": 32,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_experts_per_tok": 3,
        "num_local_experts": 5,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "rope_type": "yarn",
            "truncate": False,
        },
        "sliding_window": 5,
        "swiglu_limit": 7.0,
    },
}
LATENT = {
    "attention_bias": False,
    "first_k_dense_replace": 1,
    "head_dim": 4,
    "kv_lora_rank": 18,
    "moe_intermediate_size": 28,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 10,
    "n_shared_experts": 2,
    "norm_topk_prob": True,
    "num_experts_per_tok": 3,
    "num_key_value_heads": 6,
    "q_lora_rank": 22,
    "qk_nope_head_dim": 7,
    "qk_rope_head_dim": 4,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "v_head_dim": 9,
}
EXTRA |= {
    "deepseek_v3": LATENT | {"n_group": 5, "topk_group": 2, "num_nextn_predict_layers": 1},
    "kimi_k2": LATENT,
    "deepseek_v2": LATENT | {"norm_topk_prob": False, "scoring_func": "softmax", "topk_method": "greedy"},
    "glm4_moe": {
        "attention_bias": True,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 28,
        "n_group": 1,
        "n_routed_experts": 5,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_experts_per_tok": 3,
        "num_nextn_predict_layers": 1,
        "partial_rotary_factor": 0.5,
        "routed_scaling_factor": 2.5,
        "topk_group": 1,
        "use_qk_norm": False,
    },
    "dots1": {
        "attention_bias": False,
        "first_k_dense_replace": 1,
        "max_window_layers": 4,
        "moe_intermediate_size": 28,
        "n_routed_experts": 5,
        "n_shared_experts": 2,
        "norm_topk_prob": True,
        "num_experts_per_tok": 3,
        "routed_scaling_factor": 2.5,
        "scoring_func": "noaux_tc",
        "sliding_window": None,
    },
    "minimax_m2": {
        "attn_type_list": [1, 1, 1, 1],
        "num_experts_per_tok": 3,
        "num_local_experts": 5,
        "qk_norm_type": "per_layer",
        "rotary_dim": 8,
        "scoring_func": "sigmoid",
        "shared_intermediate_size": 0,
        "use_mtp": True,
        "use_qk_norm": True,
        "use_routing_bias": True,
    },
    "flex_olmo": {
        "attention_bias": False,
        "norm_topk_prob": False,
        "num_experts": 5,
        "num_experts_per_tok": 3,
    },
    "glm4_moe_lite": LATENT | {"n_group": 5, "topk_group": 2, "num_nextn_predict_layers": 1},
}
FAMILIES = tuple(EXTRA)


def config(family: str, drop: tuple[str, ...] = (), **changes: object) -> dict:
    """A fresh config with some keys changed, then some dropped."""
    values = {"model_type": family, **BASE, **deepcopy(EXTRA[family]), **changes}
    return {key: value for key, value in values.items() if key not in drop}


def ops(program, kind: str) -> dict[str, str]:
    """out name -> op of one block."""
    return {name: step.op for step in program.blocks[kind] for name in step.out}


def windows(program) -> list[int]:
    """The attention window of each layer."""
    return [next(s.attrs["window"] for s in program.blocks[kind] if "cache" in s.inputs) for kind in program.kinds]


def names(program) -> set[str]:
    """Stored names of all expected tensors in the plain formats."""
    return {e.tensor.name + (".weight" if e.tensor.kind == "matrix" else "") for e in program.expected()}
