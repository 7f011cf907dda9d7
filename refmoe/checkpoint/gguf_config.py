"""The config of a GGUF model in the words of config.json: each metadata key is used, ignored with a reason, or refused.

Which model the file is: its general.architecture, and for llama and deepseek2 what else it has. Where a key is absent
we do what llama.cpp does, and say so in `report` ("assumed"): one kv head for each query head; heads of
embedding_length / head_count; rope base 10000; scale of expert weights 1. llama.cpp has no key for norm_topk_prob
except in deepseek2 and glm4moe, where absent means false; it renormalises in llama (Mixtral) and qwen3moe, not in
qwen2moe and olmoe, and takes the softmax of the chosen logits in gpt-oss. expert_gating_func absent means sigmoid in
glm4moe, and in deepseek2 where the layers have exp_probs_b.bias, else softmax. No expert_group_count means no groups:
files of DeepSeek-V3 older than that key are read as llama.cpp reads them. gpt-oss: every second layer from the first on
has the window; its yarn is not truncated (the published model; llama.cpp truncates). The window of Mistral-7B-v0.1 is
in no such file; where a llama file states one, it holds in every layer.
A number stored as binary32 becomes the shortest decimal that rounds to it, which is what config.json had.
"""

from typing import Any

from refmoe.checkpoint.gguf_files import GgufModel
from refmoe.checkpoint.gguf_metadata import Metadata, Report
from refmoe.checkpoint.gguf_rope import rope
from refmoe.config import MAX_LAYERS

TOKENS = "tokenizer.ggml."


def as_config(model: GgufModel) -> tuple[dict[str, Any], Report]:
    """(config as in config.json, what became of each metadata key). ConfigError names file, key, expected, found."""
    m = Metadata(model)
    config = _common(m)
    config |= {
        "llama": _llama, "qwen2": _dense_qwen, "qwen3": _dense_qwen, "qwen2moe": _qwen2_moe, "qwen3moe": _qwen3_moe,
        "olmoe": _olmoe, "gpt-oss": _gpt_oss, "deepseek2": _deepseek, "glm4moe": _glm4_moe,
    }[m.arch](m, config)  # fmt: skip
    config |= rope(m, config)
    m.only("attention.causal", True)
    m.only("tensor_data_layout", "Meta AI original pth")
    m.finish()
    return config, m.report


def _common(m: Metadata) -> dict[str, Any]:
    """What every architecture has."""
    heads, width = m.need("attention.head_count", "an integer"), m.need("embedding_length", "an integer")
    if heads < 1 or width < 1:
        raise m.error(f"{m.arch}.attention.head_count", "a number above 0")
    layers, later = m.need("block_count", "an integer"), m.take("nextn_predict_layers", "an integer") or 0
    if not 0 <= later < layers <= MAX_LAYERS:
        raise m.error(f"{m.arch}.block_count", f"{later + 1} to {MAX_LAYERS} layers")
    config = {
        "hidden_size": width,
        "num_hidden_layers": layers - later,
        "num_attention_heads": heads,
        "num_key_value_heads": m.take("attention.head_count_kv", "an integer", heads),
        "max_position_embeddings": m.need("context_length", "an integer"),
        "rms_norm_eps": m.need("attention.layer_norm_rms_epsilon", "a number"),
        "vocab_size": _vocabulary(m),
        "hidden_act": "silu",
        "tie_word_embeddings": not m.has("output.weight"),
    }
    ends = [_token(m, name) for name in ("eos", "eot", "eom")]
    config["eos_token_id"] = list(dict.fromkeys(end for end in ends if end is not None)) or None
    config["bos_token_id"] = _token(m, "bos")
    return config


def _token(m: Metadata, role: str) -> int | None:
    """The id of a token with a role."""
    value = m.values.get(f"{TOKENS}{role}_token_id")
    if value is not None and (type(value) is not int or value < 0):
        raise m.error(f"{TOKENS}{role}_token_id", "a token id")
    return value


def _vocabulary(m: Metadata) -> int:
    """The rows of the embedding; the metadata may only repeat that."""
    embedding = m.model.tensors.get("token_embd.weight")
    size = embedding.shape[0] if embedding is not None and len(embedding.shape) == 2 else None
    stated = m.take("vocab_size", "an integer")
    if size is None:
        raise m.error("token_embd.weight", "a matrix of this name", "none")
    if stated is not None and stated != size:
        raise m.error(f"{m.arch}.vocab_size", f"{size}, the rows of token_embd.weight")
    return size


def head_dim(m: Metadata, config: dict[str, Any]) -> int:
    """Width of a head, the same for keys and values."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    size: int = m.take("attention.key_length", "an integer", None if width % heads else width // heads)
    if size is None:
        raise m.error(f"{m.arch}.attention.key_length", f"a number, because {width} is no multiple of {heads} heads")
    m.only("attention.value_length", size)
    return size


def _plain(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    """Keys of heads without latent attention, of layers without choice."""
    return {"head_dim": head_dim(m, config), "intermediate_size": m.need("feed_forward_length", "an integer")}


def _experts(m: Metadata) -> tuple[int, int]:
    m.only("expert_weights_scale", 0.0, 1.0)
    return m.need("expert_count", "an integer"), m.need("expert_used_count", "an integer")


def _llama(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    found = _plain(m, config)
    window = m.take("attention.sliding_window", "an integer") or None
    if not m.take("expert_count", "an integer"):
        m.only("expert_used_count", 0)
        if window:
            return found | {"model_type": "mistral", "sliding_window": window}
        bias = {"attention_bias": m.has("blk.0.attn_q.bias"), "mlp_bias": m.has("blk.0.ffn_gate.bias")}
        return found | {"model_type": "llama"} | bias
    found["sliding_window"] = window
    experts, chosen = _experts(m)
    m.only("expert_gating_func", 1)
    m.only("expert_weights_norm", True)
    m.only("expert_feed_forward_length", found["intermediate_size"])
    return found | {"model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": chosen}


def _dense_qwen(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    found = _plain(m, config) | {"model_type": m.arch, "use_sliding_window": False}
    return found | ({"attention_bias": m.has("blk.0.attn_q.bias")} if m.arch == "qwen3" else {})


def _qwen_experts(m: Metadata, config: dict[str, Any], **rest: Any) -> dict[str, Any]:
    found = _plain(m, config)
    experts, chosen = _experts(m)
    m.only("expert_gating_func", 1)
    width = m.take("expert_feed_forward_length", "an integer", found["intermediate_size"] // max(chosen, 1))
    rest |= {"num_experts": experts, "num_experts_per_tok": chosen, "moe_intermediate_size": width}
    return found | rest | {"decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": False}


def _qwen2_moe(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    m.only("expert_weights_norm", False)
    shared = m.take("expert_shared_feed_forward_length", "an integer", m.need("feed_forward_length", "an integer"))
    more = {"qkv_bias": m.has("blk.0.attn_q.bias"), "shared_expert_intermediate_size": shared}
    return _qwen_experts(m, config, model_type="qwen2_moe", norm_topk_prob=False, **more)


def _qwen3_moe(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    m.only("expert_weights_norm", True)
    m.only("expert_shared_feed_forward_length", 0)
    bias = m.has("blk.0.attn_q.bias")
    return _qwen_experts(m, config, model_type="qwen3_moe", norm_topk_prob=True, attention_bias=bias)


def _olmoe(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    experts, chosen = _experts(m)
    m.only("expert_gating_func", 1)
    m.only("expert_weights_norm", False)
    found = _plain(m, config)
    if found.pop("head_dim") * config["num_attention_heads"] != config["hidden_size"]:
        raise m.error("olmoe.attention.key_length", "embedding_length / head_count")
    m.only("expert_feed_forward_length", found["intermediate_size"])
    return found | {"model_type": "olmoe", "num_experts": experts, "num_experts_per_tok": chosen,
                    "norm_topk_prob": False, "attention_bias": False}  # fmt: skip


def _gpt_oss(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    experts, chosen = _experts(m)
    m.only("expert_gating_func", 3)
    m.only("attention.sliding_window_pattern", 2)
    m.take("feed_forward_length", "an integer")
    kinds = ["full_attention" if layer % 2 else "sliding_attention" for layer in range(config["num_hidden_layers"])]
    return {
        "model_type": "gpt_oss", "head_dim": head_dim(m, config), "attention_bias": m.has("blk.0.attn_q.bias"),
        "layer_types": kinds,
        "intermediate_size": m.need("expert_feed_forward_length", "an integer"), "num_local_experts": experts,
        "num_experts_per_tok": chosen, "sliding_window": m.need("attention.sliding_window", "an integer"),
        "swiglu_limit": 7.0,
    }  # fmt: skip


def _shared_experts(m: Metadata, config: dict[str, Any], gating: int) -> dict[str, Any]:
    """Keys that deepseek2 and glm4moe have in common; `gating` is the function of a file that states none."""
    function = m.take("expert_gating_func", "an integer", gating)
    if function not in (1, 2):
        raise m.error(f"{m.arch}.expert_gating_func", "1 (softmax) or 2 (sigmoid)")
    groups, chosen = m.take("expert_group_count", "an integer", 1), m.take("expert_group_used_count", "an integer", 1)
    return {
        "intermediate_size": m.need("feed_forward_length", "an integer"),
        "moe_intermediate_size": m.need("expert_feed_forward_length", "an integer"),
        "first_k_dense_replace": m.take("leading_dense_block_count", "an integer", 0),
        "n_routed_experts": m.need("expert_count", "an integer"),
        "num_experts_per_tok": m.need("expert_used_count", "an integer"),
        "n_shared_experts": m.need("expert_shared_count", "an integer"),
        "routed_scaling_factor": m.take("expert_weights_scale", "a number", 1.0) or 1.0,
        "norm_topk_prob": m.take("expert_weights_norm", "true or false", False),
        "scoring_func": "softmax" if function == 1 else "sigmoid", "n_group": groups or 1, "topk_group": chosen or 1,
        "attention_bias": m.has("blk.0.attn_q.bias") or m.has("blk.0.attn_kv_a_mqa.bias"),
    }  # fmt: skip


def _deepseek(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    biased = m.has(f"blk.{config['num_hidden_layers'] - 1}.exp_probs_b.bias")  # the last layer has experts
    found = _shared_experts(m, config, gating=2 if biased else 1) | {"moe_layer_freq": 1}
    found["num_key_value_heads"] = config["num_attention_heads"]
    m.take("attention.head_count_kv", "an integer", word="repeats what latent attention is")
    latent, turned = m.need("attention.kv_lora_rank", "an integer"), m.need("rope.dimension_count", "an integer")
    keys, values = m.need("attention.key_length", "an integer"), m.need("attention.value_length", "an integer")
    keys = m.take("attention.key_length_mla", "an integer") or keys
    values = m.take("attention.value_length_mla", "an integer") or values
    found |= {
        "q_lora_rank": m.take("attention.q_lora_rank", "an integer"), "kv_lora_rank": latent, "v_head_dim": values,
        "qk_nope_head_dim": keys - turned, "qk_rope_head_dim": turned,
    }  # fmt: skip
    sigmoid = found["scoring_func"] == "sigmoid"
    if sigmoid != biased:
        raise m.error("deepseek2.expert_gating_func", "2 (sigmoid) with exp_probs_b.bias in the layers, 1 without")
    greedy = "greedy" if found["n_group"] == 1 else "group_limited_greedy"
    return found | {"model_type": "deepseek_v3" if sigmoid else "deepseek_v2", "topk_method":
                    "noaux_tc" if sigmoid else greedy}  # fmt: skip


def _glm4_moe(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    found = _shared_experts(m, config, gating=2)
    if found.pop("scoring_func") != "sigmoid":
        raise m.error("glm4moe.expert_gating_func", "2 (sigmoid)")
    size = head_dim(m, config)
    turned = m.take("rope.dimension_count", "an integer", size)
    if not 0 < turned <= size:
        raise m.error("glm4moe.rope.dimension_count", f"a number from 1 to {size}")
    share = turned / size if int(size * (turned / size)) == turned else (turned + 0.5) / size
    return found | {"model_type": "glm4_moe", "head_dim": size, "use_qk_norm": m.has("blk.0.attn_q_norm.weight"),
                    "partial_rotary_factor": share,
                    "num_nextn_predict_layers": m.take("nextn_predict_layers", "an integer") or 0}  # fmt: skip
