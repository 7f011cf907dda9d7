"""Tensors of a GGUF model under the names that the checkpoints of transformers have, and that the programs ask for.

Stacks of experts are cut into one tensor for each, fused gate and up (or q, k and v) into their rows. llama models
store the rows of q and k of each head pair by pair, because they are turned as neighbours there; they are put in order
again when they are read (TensorInfo.pairs; k has its own number of heads), so that the program and its bits are those
of the original checkpoint. gate and up of gpt-oss become one matrix with rows in turn, as published. A tensor without
an entry here keeps its name, and the claims refuse it.
"""

import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from refmoe.checkpoint.gguf_files import GgufModel
from refmoe.checkpoint.gguf_rope import FREQUENCIES
from refmoe.checkpoint.made import alternate, latent
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.strict_json import show
from refmoe.config import MAX_EXPERTS
from refmoe.errors import CheckpointError

LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.(.*)", re.DOTALL)
OUTSIDE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}  # fmt: skip
BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj", "attn_k_b": "self_attn.k_b_proj", "attn_v_b": "self_attn.v_b_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "nextn.eh_proj": "eh_proj", "nextn.enorm": "enorm", "nextn.hnorm": "hnorm",
    "nextn.embed_tokens": "embed_tokens", "nextn.shared_head_head": "shared_head.head",
    "nextn.shared_head_norm": "shared_head.norm",
}  # fmt: skip
ROUTERS = {"mixtral": "block_sparse_moe.gate", "gpt_oss": "mlp.router"}
PROJECTIONS = {part: f"{part}_proj" for part in ("gate", "up", "down")}
EXPERTS = {"mixtral": ("block_sparse_moe.experts.{e}.", {"gate": "w1", "up": "w3", "down": "w2"}),
           "gpt_oss": ("mlp.experts.", {part: f"{name}[{{e}}]" for part, name in PROJECTIONS.items()})}  # fmt: skip
SHARED = {"qwen2_moe": "mlp.shared_expert"}
ALONE = {"exp_probs_b.bias": "mlp.gate.e_score_correction_bias", "attn_sinks.weight": "self_attn.sinks"}
PAIRED = ("llama", "mistral", "mixtral")  # model types whose q and k rows are stored pair by pair
SINGLE_ROW = "ffn_gate_inp_shexp"  # a matrix of one row that is stored as a vector
KEYS, VALUES, BOTH = (f".self_attn.{part}_b_proj.weight" for part in ("k", "v", "kv"))
_STACK = re.compile(r"ffn_(gate_up|gate|up|down)_exps")
_ONE = re.compile(r"ffn_(gate|up|down)\.(0|[1-9][0-9]{0,5})")  # experts as single tensors: the oldest Mixtral files


def experts(arch: str) -> tuple[str, dict[str, str]]:
    """Where the experts of a layer lie, and what gate, up and down are called there."""
    return EXPERTS.get(arch, ("mlp.experts.{e}.", PROJECTIONS))


@cache
def stems(arch: str) -> dict[str, str]:
    """GGUF's stem -> ours inside a layer, of what is one tensor in both."""
    shared = SHARED.get(arch, "mlp.shared_experts")
    gates = {"ffn_gate_inp": ROUTERS.get(arch, "mlp.gate"), SINGLE_ROW: "mlp.shared_expert_gate"}
    return BLOCK | gates | {f"ffn_{part}_shexp": f"{shared}.{name}" for part, name in PROJECTIONS.items()}


def renamed(model: GgufModel, config: dict[str, Any]) -> dict[str, TensorInfo]:
    """All tensors by the names of the architecture that `config` names."""
    found: dict[str, TensorInfo] = {}
    for info in model.tensors.values():
        if info.name == FREQUENCIES:
            continue  # read with the config
        for named in _named(info, config):
            if named.name in found:
                raise CheckpointError(f"{show(info.file)}: two tensors stand for {show(named.name)}")
            found[named.name] = named
    for name in [name for name in found if name.endswith(KEYS)]:  # latent attention in two halves
        stem = name.removesuffix(KEYS)
        if (values := found.pop(stem + VALUES, None)) is not None:
            found[stem + BOTH] = latent(stem + BOTH, found.pop(name), values)
    for name in [name for name in found if ".gate_proj" in name] if config["model_type"] == "gpt_oss" else ():
        if (up := found.pop(name.replace(".gate_proj", ".up_proj"), None)) is not None:
            both = name.replace(".gate_proj", ".gate_up_proj")
            found[both] = alternate(both, found.pop(name), up)
    return found


def _named(info: TensorInfo, config: dict[str, Any]) -> Iterator[TensorInfo]:
    inside = LAYER.fullmatch(info.name)
    if not inside:
        yield dataclasses.replace(info, name=OUTSIDE.get(info.name, info.name))
        return
    layer, (stem, _, kind) = f"model.layers.{inside[1]}.", inside[2].rpartition(".")
    arch = config["model_type"]
    where, words = experts(arch)
    if kind not in ("weight", "bias"):
        yield info
    elif (stack := _STACK.fullmatch(stem)) and (arch, kind) == ("gpt_oss", "bias"):
        yield dataclasses.replace(info, name=f"{layer}mlp.experts.{PROJECTIONS.get(stack[1], stack[1])}_bias")
    elif stack:
        yield from _stack(info, layer + where, words, stack[1].split("_"), kind)
    elif one := _ONE.fullmatch(stem):
        yield dataclasses.replace(info, name=f"{layer}{where}{words[one[1]]}.{kind}".format(e=one[2]))
    elif inside[2] in ALONE:
        yield dataclasses.replace(info, name=f"{layer}{ALONE[inside[2]]}")
    elif stem == "attn_qkv":
        yield from _qkv(info, layer, kind, config)
    elif name := stems(arch).get(stem):
        shape = (1, *info.shape) if stem == SINGLE_ROW and len(info.shape) == 1 else info.shape
        yield _paired(dataclasses.replace(info, name=f"{layer}{name}.{kind}", shape=shape), stem, config)
    else:
        yield info


def _rows(info: TensorInfo, name: str, first: int, count: int) -> TensorInfo:
    """`count` rows of the first axis, from row `first` on; a single row of three axes loses the first."""
    size = info.nbytes // info.shape[0]
    return dataclasses.replace(info, name=name, shape=(count, *info.shape[1:]), offset=info.offset + first * size,
                               nbytes=count * size)  # fmt: skip


def _stack(info: TensorInfo, where: str, words: dict[str, str], parts: list[str], kind: str) -> Iterator[TensorInfo]:
    """One tensor for each expert; a fused stack has the rows of gate, then those of up."""
    good = len(info.shape) == (3 if kind == "weight" else 2) and info.shape[0] <= MAX_EXPERTS
    if not good or info.shape[1] % len(parts):
        raise CheckpointError(f"{show(info.file)}: tensor {show(info.name)}: no stack of experts: {list(info.shape)}")
    for expert in range(info.shape[0]):
        one = _rows(info, info.name, expert, 1)
        one = dataclasses.replace(one, shape=info.shape[1:])
        rows = one.shape[0] // len(parts)
        for n, part in enumerate(parts):
            yield _rows(one, f"{where}{words[part]}.{kind}".format(e=expert), n * rows, rows)


def _qkv(info: TensorInfo, layer: str, kind: str, config: dict[str, Any]) -> Iterator[TensorInfo]:
    """The rows of q, k and v."""
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    first = 0
    for part, heads in (("q", "num_attention_heads"), ("k", "num_key_value_heads"), ("v", "num_key_value_heads")):
        rows = config[heads] * size
        if first + rows > info.shape[0]:
            raise CheckpointError(f"{show(info.file)}: tensor {show(info.name)} has {info.shape[0]} rows, too few")
        named = _rows(info, f"{layer}self_attn.{part}_proj.{kind}", first, rows)
        yield _paired(named, f"attn_{part}", config)
        first += rows
    if first != info.shape[0]:
        raise CheckpointError(f"{show(info.file)}: tensor {show(info.name)} has {info.shape[0]} rows, expected {first}")


def _paired(info: TensorInfo, stem: str, config: dict[str, Any]) -> TensorInfo:
    """With the number of heads whose rows are stored pair by pair."""
    if config["model_type"] not in PAIRED or stem not in ("attn_q", "attn_k"):
        return info
    heads = config["num_attention_heads" if stem == "attn_q" else "num_key_value_heads"]
    if heads < 1 or info.shape[0] % (2 * heads):
        problem = f"{info.shape[0]} rows are no pairs of {heads} heads"
        raise CheckpointError(f"{show(info.file)}: tensor {show(info.name)}: {problem}")
    return dataclasses.replace(info, pairs=heads)
