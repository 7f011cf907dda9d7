"""Random checkpoints of a given shape in the published layout, for benchmarks: real files, meaningless weights.

Weights are bf16 from the counter-based generator (numerics.counter, seed 0, stream = tensor name), normal with standard
deviation 0.02; norm weights are 1. A model is written once per directory and used again when its config is the same.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from refmoe import checkpoint, program
from refmoe.errors import UsageError
from refmoe.numerics import counter

SCALE = 0.02
SHARD = 1 << 29  # bytes of one safetensors file
_COMMON = {"hidden_size": 1024, "vocab_size": 32000, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
           "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16", "num_attention_heads": 16}
CONFIGS = {
    "qwen3_moe-2b": _COMMON | {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_hidden_layers": 24, "head_dim": 128,
        "num_key_value_heads": 4, "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 384,
        "intermediate_size": 3072, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "attention_bias": False, "rope_theta": 1000000.0, "use_sliding_window": False},
    "mixtral-1b5": _COMMON | {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_hidden_layers": 16,
        "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 3584,
        "sliding_window": None, "rope_theta": 1000000.0},
    "kimi-1b": _COMMON | {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "kimi_k2", "num_hidden_layers": 16,
        "num_key_value_heads": 16, "intermediate_size": 3072, "first_k_dense_replace": 1, "moe_layer_freq": 1,
        "n_routed_experts": 64, "num_experts_per_tok": 8, "n_shared_experts": 1, "moe_intermediate_size": 384,
        "n_group": 1, "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True,
        "routed_scaling_factor": 2.827, "q_lora_rank": 384, "kv_lora_rank": 256, "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32, "v_head_dim": 64, "attention_bias": False, "rope_theta": 50000.0,
        "rope_scaling": {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "beta_fast": 1.0,
                         "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}},
    "qwen3-tiny": _COMMON | {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 2, "head_dim": 64,
        "num_key_value_heads": 4, "hidden_size": 256, "intermediate_size": 512, "vocab_size": 1000,
        "attention_bias": False, "rope_theta": 1000000.0, "use_sliding_window": False},
}  # fmt: skip
CONFIGS["qwen3_moe-48"] = CONFIGS["qwen3_moe-2b"] | {"num_hidden_layers": 48, "num_experts": 32}


def _tensors(built: program.Program) -> list[tuple[str, tuple[int, ...]]]:
    return [(entry.tensor.name + (".weight" if entry.tensor.kind == "matrix" else ""), entry.shape)
            for entry in built.expected()]


def _bytes(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        return np.full(shape, 0x3F80, np.uint16)  # bf16 of 1
    return counter.fill_bf16(0, counter.stream_of(name), prod(shape), SCALE)


def make(name: str, directory: Path, progress: Callable[[int, int], object] | None = None) -> Path:
    """Write the named model into `directory` (unless it is there already) and return the directory."""
    if name not in CONFIGS:
        raise UsageError(f"--synthetic: expected one of {', '.join(CONFIGS)}, found {name!r}")
    config = json.dumps(CONFIGS[name], indent=2)
    finished = directory / "config.json"
    if finished.exists() and finished.read_text() == config:
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for tensor, shape in _tensors(program.build(CONFIGS[name])):
        if size + 2 * prod(shape) > SHARD and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append((tensor, shape))
        size += 2 * prod(shape)
    total = sum(2 * prod(shape) for shard in shards for _, shape in shard)
    files = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]

    def write(file: str, shard: list[tuple[str, tuple[int, ...]]]) -> int:
        data = {name: ("BF16", shape, partial(_bytes, name, shape)) for name, shape in shard}
        checkpoint.write(directory / file, data)
        return sum(2 * prod(shape) for _, shape in shard)

    with ThreadPoolExecutor(2) as pool:
        done = 0
        for size in pool.map(write, files, shards):
            done += size
            if progress is not None:
                progress(done, total)
    weight_map = {tensor: file for file, shard in zip(files, shards, strict=True) for tensor, _ in shard}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    finished.write_text(config)
    return directory
