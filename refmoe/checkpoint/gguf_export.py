"""What a GGUF file of a program has: the inverse of gguf_config, gguf_rope and gguf_names.

The metadata is made of the program (dims, rotary table, ops), not of the config's spelling; names come from the tables
of gguf_names. `read_back` then asks the readers: what they would make of the file must be the same program with the
same tensors, or the model has no such form and is refused with the first difference.
llama.cpp reads these files, with what it does differently: it has no window in llama, rounds activations for quantised
weights, truncates the yarn of gpt-oss, and takes rms_norm_eps for the latent norms.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refmoe import program
from refmoe.checkpoint.claims import claim
from refmoe.checkpoint.directory import Checkpoint
from refmoe.checkpoint.gguf import BLOCKS, stored_bytes
from refmoe.checkpoint.gguf_config import as_config
from refmoe.checkpoint.gguf_files import GgufModel
from refmoe.checkpoint.gguf_names import ALONE, BOTH, OUTSIDE, PAIRED, PROJECTIONS, experts, renamed, stems
from refmoe.checkpoint.gguf_rope import FREQUENCIES, divisors
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.config import round32
from refmoe.errors import RefmoeError, UsageError

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "olmoe": "olmoe",
    "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2",
    "kimi_k2": "deepseek2", "gpt_oss": "gpt-oss", "glm4_moe": "glm4moe",
}  # fmt: skip
DIMS = {
    "L": "block_count", "H": "embedding_length", "V": "vocab_size", "N": "attention.head_count", "E": "expert_count",
    "G": "attention.head_count_kv", "K": "expert_used_count", "M": "expert_feed_forward_length",
    "window": "attention.sliding_window", "eps": "attention.layer_norm_rms_epsilon",
}  # fmt: skip
GROUPS = {"groups": "expert_group_count", "open_groups": "expert_group_used_count"}  # none is one group
YARN = {"factor": "factor", "original_max_position_embeddings": "original_context_length",
        "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}  # fmt: skip
POST_NORM = ("gpt_oss", "glm4_moe")  # call the norm before the experts post_attention_norm
INSIDE = "model.layers.{l}."
Take = Callable[[np.ndarray], np.ndarray]


class Part(NamedTuple):
    """A stored tensor of a role, for one layer: its name with {l}, the shape for one expert, and how it is made of the
    matrix [rows, columns] or the vector that the program has."""

    name: str
    shape: tuple[int, ...]
    take: Take


def settings(built: program.Program, width: int) -> dict[str, Any]:
    """The metadata that decides the program; `width` is intermediate_size, where no layer is dense. UsageError."""
    arch, dims = _arch(built), built.dims
    found: dict[str, Any] = {key: dims[name] for name, key in DIMS.items() if name in dims}
    found |= {"context_length": built.context, "feed_forward_length": dims.get("F") or width}
    routes = {step.op for steps in built.blocks.values() for step in steps if step.op.startswith("route_")}
    if arch in ("deepseek2", "glm4moe"):
        found |= {key: dims[name] for name, key in GROUPS.items() if dims.get("groups", 1) > 1}
        found |= {"expert_weights_scale": dims.get("factor", 1.0), "expert_shared_count": 0,
                  "expert_gating_func": 2 if any("sigmoid" in op for op in routes) else 1,
                  "expert_weights_norm": any(op.endswith("renorm") for op in routes),
                  "leading_dense_block_count": sum(kind.endswith("dense") for kind in built.kinds)}  # fmt: skip
    if "S" in dims and arch == "qwen2moe":
        found["expert_shared_feed_forward_length"] = dims["S"]
    elif "S" in dims:
        found["expert_shared_count"] = dims["S"] // dims["M"]
    if arch == "deepseek2":
        found |= {"attention.head_count_kv": 1, "attention.kv_lora_rank": dims["R"],
                  "attention.key_length": dims["R"] + dims["Q"], "attention.value_length": dims["R"],
                  "attention.key_length_mla": dims["D"], "attention.value_length_mla": dims["U"]}  # fmt: skip
        found |= {"attention.q_lora_rank": dims["A"]} if "A" in dims else {}
    else:
        found |= {"attention.key_length": dims["D"], "attention.value_length": dims["D"]}
    found |= _rope(built.tables["rope"])
    numbers = {f"{arch}.{key}": value for key, value in found.items()}
    return {"general.architecture": arch, "general.quantization_version": 2} | numbers


def _arch(built: program.Program) -> str:
    if built.arch not in ARCHITECTURES:
        raise UsageError(f"{built.arch}: expected one of {', '.join(ARCHITECTURES)}: no other is written as GGUF")
    return ARCHITECTURES[built.arch]


def _rope(spec: Mapping[str, Any]) -> dict[str, Any]:
    found = {"rope.dimension_count": spec["head_dim"], "rope.freq_base": float(spec["base"])}
    if spec["kind"] in ("linear", "yarn"):
        found |= {"rope.scaling.type": spec["kind"]}
        found |= {f"rope.scaling.{key}": spec[name] for name, key in YARN.items() if name in spec}
    if "mscale_all_dim" in spec:
        found["rope.scaling.yarn_log_multiplier"] = 0.1 * spec["mscale_all_dim"]
    return found


def extra(built: program.Program) -> dict[str, np.ndarray]:
    """Tensors that the program has as numbers of its config."""
    spec = built.tables["rope"]
    return {FREQUENCIES: np.array(divisors(dict(spec)), np.float32)} if spec["kind"] == "llama3" else {}


def parts(built: program.Program, role: str) -> list[Part]:
    """The stored tensors of a role."""
    tensor, dims, arch = built.tensors[role], built.dims, built.arch
    name, shape = tensor.name + ".weight" * (tensor.kind == "matrix"), built.sizes(tensor.shape)
    where = _names(arch)
    if "gate_up_proj" in name:
        axis = 1 if name.endswith("_bias") else 0
        half, both = _halves(shape, axis), (name.replace("gate_up_proj", f"{part}_proj") for part in ("gate", "up"))
        return [Part(where[stem], half, _every_second(axis, first)) for first, stem in enumerate(both)]
    if name.endswith(BOTH):
        heads, keys = dims["N"], dims["P"]
        key, value = (where[name.replace("kv_b_proj", f"{part}_b_proj")] for part in "kv")
        by_head = (heads, shape[0] // heads, shape[1])
        return [Part(key, (heads, shape[1], keys), lambda w: w.reshape(by_head)[:, :keys].swapaxes(1, 2)),
                Part(value, (heads, dims["U"], shape[1]), lambda w: w.reshape(by_head)[:, keys:])]  # fmt: skip
    if arch in PAIRED and role in ("wq", "wk", "bq", "bk"):
        heads = dims["N" if role.endswith("q") else "G"]
        pairs = (heads, 2, shape[0] // heads // 2, -1)
        return [Part(where[name], shape, lambda w: w.reshape(pairs).swapaxes(1, 2).reshape(shape))]
    if role == "s_weight":
        return [Part(where[name], shape[1:], lambda w: w[0])]
    return [Part(where[name], shape, lambda w: w)]


def _halves(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])


def _every_second(axis: int, first: int) -> Take:
    return lambda w: w[first::2] if axis == 0 else w[:, first::2]


def _names(arch: str) -> dict[str, str]:
    """Our names, with {l} and {e}, -> GGUF's."""
    inside = {f"{ours}.{kind}": f"{stem}.{kind}" for stem, ours in stems(arch).items() for kind in ("weight", "bias")}
    where, words = experts(arch)
    for part, projection in PROJECTIONS.items():
        inside |= {f"{where}{words[part]}.weight": f"ffn_{part}_exps.weight",
                   f"{where}{projection}_bias": f"ffn_{part}_exps.bias"}  # fmt: skip
    inside |= {ours: theirs for theirs, ours in ALONE.items()}
    inside["post_attention_layernorm.weight"] = f"{'post_attention' if arch in POST_NORM else 'ffn'}_norm.weight"
    found = {INSIDE + ours: f"blk.{{l}}.{theirs}" for ours, theirs in inside.items()}
    return found | {ours: theirs for theirs, ours in OUTSIDE.items()}


@dataclass(frozen=True)
class _Planned(GgufModel):
    """A model whose file is not written yet."""

    made: Mapping[str, np.ndarray]

    def numbers(self, name: str) -> np.ndarray:
        return self.made[name]


def read_back(path: Path, built: program.Program, metadata: Mapping[str, Any],
              tensors: Mapping[str, tuple[str, tuple[int, ...]]], made: Mapping[str, np.ndarray]) -> None:
    """UsageError unless a file of this metadata and these tensors (type, shape) is the program, to our readers."""
    infos = {name: _info(path, name, *stored) for name, stored in tensors.items()}
    seen = {key: round32(value) if type(value) is float else value for key, value in metadata.items()}
    try:
        model = _Planned(path, seen, infos, {}, made)
        config, _ = as_config(model)
        other = program.build(config, str(path))
        claim(Checkpoint(path, config, renamed(model, config), {}, ()), other)
        first = next(differences(built.defined(), other.defined() | {"arch": built.arch}), None)
    except RefmoeError as problem:
        first = str(problem).removeprefix(f"{path}: ")
    if first:
        raise UsageError(f"{built.arch}: this model has no form in GGUF: read back, it would differ: {first}")


def _info(path: Path, name: str, kind: str, shape: tuple[int, ...]) -> TensorInfo:
    elements, size = BLOCKS[kind]
    stored = (*shape[:-1], shape[-1] // elements * size) if elements > 1 else shape
    return TensorInfo(name, kind, stored, path, 0, stored_bytes(kind, shape), (0, 0))


def differences(mine: Any, other: Any, where: str = "") -> Iterator[str]:
    """The places where two JSON values differ."""
    if isinstance(mine, dict) and isinstance(other, dict):
        for key in [*mine, *(key for key in other if key not in mine)]:
            yield from differences(mine.get(key), other.get(key), f"{where}.{key}".removeprefix("."))
    elif isinstance(mine, list | tuple) and isinstance(other, list | tuple) and len(mine) == len(other):
        for n, pair in enumerate(zip(mine, other, strict=True)):
            yield from differences(*pair, f"{where}.{n}")
    elif mine != other:
        yield f"{where}: {mine} in the config, {other} in the file"
