"""GGUF files for the tests: a small writer, and tiny checkpoints of the golden folder put into that form."""

import json
import struct

import numpy as np

from refmoe import checkpoint
from refmoe.numerics.codecs import bf16_to_f32, f16_to_f32

CODES = {"u8": (0, "<B"), "i8": (1, "<b"), "u16": (2, "<H"), "i16": (3, "<h"), "u32": (4, "<I"), "i32": (5, "<i"),
         "f32": (6, "<f"), "bool": (7, "<?"), "str": (8, ""), "u64": (10, "<Q"), "i64": (11, "<q"),
         "f64": (12, "<d")}  # fmt: skip
TYPES = {"F32": 0, "F16": 1, "BF16": 30, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11,
         "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "IQ4_XS": 23, "MXFP4": 39}  # fmt: skip


def text(value):
    """u64 length and UTF-8."""
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, content):
    """A value of one of CODES, or of [code] for an array."""
    if isinstance(kind, list):
        (inner,) = kind
        number, code = CODES[inner]
        body = b"".join(map(text, content)) if inner == "str" else b"".join(struct.pack(code, x) for x in content)
        return struct.pack("<IIQ", 9, number, len(content)) + body
    number, code = CODES[kind]
    return struct.pack("<I", number) + (text(content) if kind == "str" else struct.pack(code, content))


def guess(content):
    """The kind that the usual converter writes a Python value as."""
    if isinstance(content, list):
        return [guess(content[0])]
    return {bool: "bool", int: "u32", float: "f32", str: "str"}[type(content)]


def pack(metadata, tensors, version=3, alignment=32, counts=None):
    """The bytes of a file. metadata: key -> value or (kind, value); tensors: name -> (type, dims, bytes), dims fastest
    first; a type may be a number."""
    keys = b""
    for key, content in metadata.items():
        kind, content = content if isinstance(content, tuple) else (guess(content), content)
        keys += text(key) + value(kind, content)
    infos, data = b"", b""
    for name, (kind, dims, raw) in tensors.items():
        data += b"\0" * (-len(data) % alignment)
        infos += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPES.get(kind, kind), len(data))
        data += raw
    counts = counts or (len(tensors), len(metadata))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + keys + infos
    head += b"\0" * (-len(head) % alignment)
    return head + data + b"\0" * (-len(data) % alignment)


def plain(array):
    """(type, dims, bytes) of an array as F32."""
    array = np.ascontiguousarray(array, np.float32)
    return "F32", tuple(reversed(array.shape)), array.tobytes()


def arrays(folder):
    """name -> f32 array of a folder of safetensors."""
    opened = checkpoint.open(folder)
    infos = list(opened.tensors.values())
    found = {}
    for info, raw in zip(infos, checkpoint.read(infos), strict=True):
        wide = {"F32": lambda raw: raw.view("<f4"), "BF16": lambda raw: bf16_to_f32(raw.view("<u2")),
                "F16": lambda raw: f16_to_f32(raw.view("<u2"))}[info.dtype](raw)  # fmt: skip
        found[info.name] = wide.reshape(info.shape)
    return found


ARCH = {"llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
        "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "olmoe": "olmoe", "deepseek_v2": "deepseek2",
        "deepseek_v3": "deepseek2", "kimi_k2": "deepseek2", "gpt_oss": "gpt-oss", "glm4_moe": "glm4moe"}  # fmt: skip
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps",
    "gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
} | {f"mlp.shared_experts.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")}  # fmt: skip
OUTSIDE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
           "lm_head.weight": "output.weight"}  # fmt: skip


def paired(array, heads):
    """Rows of each head as neighbours: stored row 2i + j is row j * half + i."""
    half = len(array) // heads // 2
    order = [h * 2 * half + j * half + i for h in range(heads) for i in range(half) for j in range(2)]
    return array[order]


def settings(config):
    """The metadata of a config as converters write it."""
    arch, heads = ARCH[config["model_type"]], config["num_attention_heads"]
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    size = config.get("head_dim") or config["hidden_size"] // heads
    found = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads, "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]), "attention.key_length": size,
        "attention.value_length": size, "rope.dimension_count": size, "vocab_size": config["vocab_size"],
        "rope.freq_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        "expert_count": config.get("num_experts") or config.get("num_local_experts"),
        "expert_used_count": config.get("num_experts_per_tok"),
        "expert_feed_forward_length": config.get("moe_intermediate_size"),
        "expert_shared_feed_forward_length": config.get("shared_expert_intermediate_size"),
    }  # fmt: skip
    if arch == "deepseek2":
        found |= latent_settings(config)
    if arch == "glm4moe":
        share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 0.5
        found |= deepseek_settings(config) | {"rope.dimension_count": int(size * share), "expert_gating_func": 2}
    if arch == "gpt-oss":
        found |= {"expert_feed_forward_length": config["intermediate_size"],
                  "attention.sliding_window": config["sliding_window"]}  # fmt: skip
    kind = rope.get("rope_type") or rope.get("type")
    if kind in ("linear", "yarn"):
        found |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        found |= {"rope.scaling.original_context_length": rope["original_max_position_embeddings"]}
        found |= {f"rope.scaling.yarn_{key}": float(rope[key]) for key in ("beta_fast", "beta_slow") if key in rope}
        if rope.get("mscale_all_dim"):
            found["rope.scaling.yarn_log_multiplier"] = 0.1 * rope["mscale_all_dim"]
    named = {f"{arch}.{key}": content for key, content in found.items() if content is not None}
    return {"general.architecture": arch, "general.name": "tiny"} | named


def latent_settings(config):
    """Keys of deepseek2 as converters write them today."""
    rank, turned = config["kv_lora_rank"], config["qk_rope_head_dim"]
    sigmoid = config["model_type"] != "deepseek_v2"
    return {
        "attention.head_count_kv": 1, "attention.q_lora_rank": config["q_lora_rank"], "attention.kv_lora_rank": rank,
        "attention.key_length": rank + turned, "attention.value_length": rank, "rope.dimension_count": turned,
        "attention.key_length_mla": config["qk_nope_head_dim"] + turned,
        "attention.value_length_mla": config["v_head_dim"], "expert_gating_func": 2 if sigmoid else None,
    } | deepseek_settings(config)  # fmt: skip


def deepseek_settings(config):
    """Keys of the experts of deepseek2 and glm4moe."""
    return {
        "expert_count": config["n_routed_experts"],
        "expert_shared_count": config["n_shared_experts"] or 0, "expert_weights_norm": config["norm_topk_prob"] or None,
        "expert_weights_scale": float(config["routed_scaling_factor"]),
        "leading_dense_block_count": config["first_k_dense_replace"], "expert_group_count": config.get("n_group"),
        "expert_group_used_count": config.get("topk_group"),
    }  # fmt: skip


def halves(config, array):
    """kv_b_proj as (k_b turned round, v_b), both by heads."""
    keys = config["qk_nope_head_dim"]
    heads = array.reshape(config["num_attention_heads"], keys + config["v_head_dim"], -1)
    return heads[:, :keys].swapaxes(1, 2), heads[:, keys:]


def gpt_oss(layer, rest, array):
    """Parts of a layer of gpt-oss that other families do not have: rows in turn taken apart, matrices turned round."""
    if "router" in rest or "sinks" in rest:
        kind = "attn_sinks.weight" if "sinks" in rest else "ffn_gate_inp." + rest.rpartition(".")[2]
        return {layer + kind: array}
    kind = "bias" if rest.endswith("_bias") else "weight"
    if kind == "weight":
        array = array.swapaxes(1, 2)
    if "down_proj" in rest:
        return {f"{layer}ffn_down_exps.{kind}": array}
    return {f"{layer}ffn_gate_exps.{kind}": array[:, 0::2], f"{layer}ffn_up_exps.{kind}": array[:, 1::2]}


def tensors(config, found, encode, split=True):
    """GGUF tensors of the arrays of a checkpoint; `encode` makes (type, dims, bytes) of a name and an array; `split`:
    kv_b_proj in two halves, as converters do it since 2025."""
    made, stacks = {}, {}
    for name, array in found.items():
        if name in OUTSIDE:
            made[OUTSIDE[name]] = encode(OUTSIDE[name], array)
            continue
        _, _, layer, rest = name.split(".", 3)
        stem, _, kind = rest.rpartition(".")
        if rest == "mlp.gate.e_score_correction_bias":
            made[f"blk.{layer}.exp_probs_b.bias"] = encode(name, array)
            continue
        if stem == "self_attn.kv_b_proj" and split:
            for part, half in zip("kv", halves(config, array), strict=True):
                made[f"blk.{layer}.attn_{part}_b.weight"] = encode(f"blk.{layer}.attn_{part}_b.weight", half)
            continue
        if int(layer) >= config["num_hidden_layers"]:
            continue
        if config["model_type"] in ("gpt_oss", "glm4_moe") and stem == "post_attention_layernorm":
            made[f"blk.{layer}.post_attention_norm.weight"] = encode(f"blk.{layer}.post_attention_norm.weight", array)
            continue
        if config["model_type"] == "gpt_oss" and ("experts" in rest or "router" in rest or "sinks" in rest):
            made |= {name: encode(name, part) for name, part in gpt_oss(f"blk.{layer}.", rest, array).items()}
            continue
        if ARCH[config["model_type"]] == "llama" and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            array = paired(array, config["num_attention_heads" if "q_proj" in stem else "num_key_value_heads"])
        if ".experts." in rest:
            _, expert, part = stem.rsplit(".", 2)
            stacks.setdefault(f"blk.{layer}.{NAMES[part]}.{kind}", {})[int(expert)] = array
        else:
            target = f"blk.{layer}.{NAMES[stem]}.{kind}"
            made[target] = encode(target, array[0] if stem == "mlp.shared_expert_gate" else array)
    for name, stack in stacks.items():
        made[name] = encode(name, np.stack([stack[e] for e in range(len(stack))]))
    return made


def convert(folder, path, encode=lambda name, array: plain(array), split=True, **metadata):
    """Write a folder of safetensors as a GGUF file; returns its config."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    found = arrays(folder)
    if config.get("tie_word_embeddings"):
        found.pop("lm_head.weight", None)
    keys = {key: value for key, value in (settings(config) | metadata).items() if value is not None}
    path.write_bytes(pack(keys, tensors(config, found, encode, split)))
    return config
