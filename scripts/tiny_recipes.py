"""The recipes of golden/tiny: configs, stored types, prompt lengths, seeds. tiny_recipes_*.py hold further ones."""

import importlib
from pathlib import Path

LAYOUT = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "head_dim", "vocab_size")  # fmt: skip


def config(model_type: str, shape: str, **more) -> dict:
    """A config.json: `shape` gives the numbers of LAYOUT, `-` leaves a key out."""
    name = "".join(word.capitalize() for word in model_type.split("_"))
    head = {"architectures": [f"{name}ForCausalLM"], "model_type": model_type}
    sizes = {key: int(word) for key, word in zip(LAYOUT, shape.split(), strict=True) if word != "-"}
    rest = {"hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
            "bos_token_id": 1, "eos_token_id": 2, "use_cache": True}  # fmt: skip
    return head | sizes | rest | more


def scaled(kind: str, **more) -> dict:
    """rope_scaling of the published dialect."""
    return {"rope_theta": 10000.0, "rope_scaling": {"rope_type": kind, **more}}


def parameters(kind: str, theta: float, **more) -> dict:
    """rope_parameters of the transformers 5 dialect."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


# name: (config, stored type, tokens in the prompt, seed, shards)
# Seeds were chosen by their margins: no routing cut, no greedy choice and no eos is near a decision.
RECIPES = {
    "llama": (
        config("llama", "42 52 2 6 2 10 97", rope_theta=10000.0, rope_scaling=None, pretraining_tp=1,
               attention_bias=False, mlp_bias=False),
        "bf16", 19, 12, 1),
    "llama-llama3-bias-tied": (
        config("llama", "35 46 2 7 1 6 101", tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
               **scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                        original_max_position_embeddings=24)),
        "f32", 21, 21, 1),
    "mistral-window": (
        config("mistral", "36 58 2 5 1 14 89", sliding_window=5, rope_theta=1000000.0),
        "f16", 23, 29, 2),
    "mixtral": (
        config("mixtral", "40 28 2 6 2 8 97", num_local_experts=5, num_experts_per_tok=2, sliding_window=None,
               rope_theta=1e6, router_aux_loss_coef=0.02, output_router_logits=False),
        "bf16", 17, 52, 2),
    "mixtral-window-linear": (
        config("mixtral", "34 22 2 3 3 10 83", num_local_experts=7, num_experts_per_tok=3, sliding_window=6,
               tie_word_embeddings=True, **parameters("linear", 10000.0, factor=2.5)),
        "f16", 18, 49, 1),
    "qwen2-window-tied": (
        config("qwen2", "42 54 3 7 1 8 103", tie_word_embeddings=True, use_sliding_window=True, sliding_window=7,
               max_window_layers=1, rope_theta=1000000.0, rms_norm_eps=1e-6),
        "bf16", 20, 12, 1),
    "qwen2-yarn": (
        config("qwen2", "30 50 2 6 2 12 91", use_sliding_window=False, sliding_window=4, max_window_layers=2,
               rms_norm_eps=1e-6, **scaled("yarn", factor=4.0, original_max_position_embeddings=16)),
        "f32", 22, 37, 1),
    "qwen3": (
        config("qwen3", "42 50 2 3 3 12 95", attention_bias=False, use_sliding_window=False, sliding_window=None,
               layer_types=["full_attention"] * 2, rms_norm_eps=1e-6, **parameters("default", 1000000.0)),
        "bf16", 18, 5, 1),
    "qwen3-bias-window-tied": (
        config("qwen3", "26 44 3 4 2 10 79", attention_bias=True, use_sliding_window=True, sliding_window=6,
               layer_types=["full_attention", "sliding_attention", "full_attention"], tie_word_embeddings=True,
               rms_norm_eps=1e-6, rope_theta=10000.0, rope_scaling=None, max_window_layers=1),
        "f32", 19, 26, 1),
    "qwen3_moe": (
        config("qwen3_moe", "36 44 3 6 2 10 97", moe_intermediate_size=20, num_experts=9, num_experts_per_tok=3,
               decoder_sparse_step=1, mlp_only_layers=[1], norm_topk_prob=True, attention_bias=False,
               use_sliding_window=False, sliding_window=None, max_window_layers=3, rms_norm_eps=1e-6,
               rope_theta=1000000.0, rope_scaling=None, router_aux_loss_coef=0.001, output_router_logits=False),
        "bf16", 17, 38, 1),
    "qwen3_moe-step-raw": (
        config("qwen3_moe", "28 40 4 5 1 8 87", moe_intermediate_size=18, num_experts=19, num_experts_per_tok=4,
               decoder_sparse_step=2, mlp_only_layers=[], norm_topk_prob=False, attention_bias=True,
               tie_word_embeddings=True, rms_norm_eps=1e-6,
               **parameters("yarn", 10000.0, factor=2.0, original_max_position_embeddings=16, beta_fast=8.0,
                            attention_factor=1.25)),
        "f16", 18, 57, 2),
}  # fmt: skip


def recipes() -> dict:
    """All recipes by name, this file's first."""
    found = dict(RECIPES)
    for path in sorted(Path(__file__).parent.glob("tiny_recipes_*.py")):
        found |= importlib.import_module(path.stem).RECIPES
    return found
