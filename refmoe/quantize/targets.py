"""targets - the encodings that `refmoe quantize` writes: which format of ours, its encoder, and what the config says.

int4-g32, int4-g128  compressed-tensors pack-quantized, symmetric, one bf16 scale for 32 or 128 weights of a row
int4-g128-asym       the same with zero points
int8                 compressed-tensors pack-quantized, symmetric, one bf16 scale for each row
fp8                  e4m3, one f32 scale for 128 x 128 weights, as DeepSeek-V3 and Qwen3 FP8 files
mxfp4                compressed-tensors mxfp4-pack-quantized, a power of two for 32 weights of a row
q8_0, q4_0, q4_k     one GGUF file with blocks of 32 or (q4_k) 256 weights of a row; in a q4_k file rows that are no
                     multiple of 256 are q4_0
bf16                 one GGUF file, nothing encoded
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from refmoe import formats
from refmoe.quantize.blocks import q4_0, q4_k, q8_0
from refmoe.quantize.encoders import Parts, fp8_block, int_packed, mxfp4, plain

KEPT = ("router", "s_weight")  # roles that engines keep plain
SPLIT = ("wkv_b",)  # also plain in GGUF: it lies there in two halves, one of them turned round


@dataclass(frozen=True)
class Target:
    """One encoding. `multiple`: what the number of columns must be a multiple of; other matrices are encoded as the
    target `narrow`, or left as they are. `config`: patterns of modules that are left plain -> quantization_config; None
    for GGUF."""

    name: str
    format: str
    params: dict[str, Any]
    multiple: int
    encode: Callable[[np.ndarray], Parts]
    config: Callable[[list[str]], dict[str, Any]] | None = None
    narrow: str = ""

    def wants(self, role: str, layer: int | None, expert: int | None, experts_only: bool) -> bool:
        """True for matrices that are encoded, if their columns fit."""
        kept = KEPT if self.config else KEPT + SPLIT
        return layer is not None and role not in kept and (expert is not None or not experts_only)

    def fitting(self, cols: int) -> "Target | None":
        """This one or the narrow one, whichever a matrix of so many columns fits."""
        if cols % self.multiple == 0:
            return self
        return TARGETS[self.narrow].fitting(cols) if self.narrow else None


def _compressed(layout: str, weights: dict[str, Any]) -> Callable[[list[str]], dict[str, Any]]:
    def config(plain: list[str]) -> dict[str, Any]:
        common: dict[str, Any] = {"actorder": None, "block_structure": None, "dynamic": False, "observer": "minmax",
                  "observer_kwargs": {}}  # fmt: skip
        group = {"input_activations": None, "output_activations": None, "targets": ["Linear"],
                 "weights": common | weights}  # fmt: skip
        return {"config_groups": {"group_0": group}, "format": layout, "ignore": plain, "kv_cache_scheme": None,
                "quant_method": "compressed-tensors", "quantization_status": "compressed"}  # fmt: skip

    return config


def _packed(name: str, bits: int, group: int, symmetric: bool) -> Target:
    """Integers; group 0 is one scale for each row."""
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group" if group else "channel",
               "group_size": group or None}  # fmt: skip
    return Target(name, "int_packed", {"bits": bits, "group": group, "symmetric": int(symmetric)}, group or 1,
                  partial(int_packed, bits=bits, group=group, symmetric=symmetric),
                  _compressed("pack-quantized", weights))  # fmt: skip


def _fp8(plain: list[str]) -> dict[str, Any]:
    return {"activation_scheme": "dynamic", "fmt": "e4m3", "modules_to_not_convert": plain, "quant_method": "fp8",
            "weight_block_size": [128, 128]}  # fmt: skip


TARGETS = {target.name: target for target in (
    _packed("int4-g32", 4, 32, True),
    _packed("int4-g128", 4, 128, True),
    _packed("int4-g128-asym", 4, 128, False),
    _packed("int8", 8, 0, True),
    Target("fp8", "fp8_block", {"block_rows": 128, "block_cols": 128}, 1, partial(fp8_block, block=128), _fp8),
    Target("mxfp4", "mxfp4_packed", {}, 32, mxfp4,
           _compressed("mxfp4-pack-quantized", {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "group",
                                                "group_size": 32, "scale_dtype": "torch.uint8"})),
    Target("q8_0", "q8_0", {}, 32, q8_0),
    Target("q4_0", "q4_0", {}, 32, q4_0),
    Target("q4_k", "q4_k", {}, 256, q4_k, narrow="q4_0"),
    Target("bf16", "bf16", {}, 1, plain),
)}  # fmt: skip
GGUF = [name for name, target in TARGETS.items() if target.config is None]


@cache
def stored(name: str, rows: int, cols: int) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """suffix -> (dtype, shape, bytes of an element) of what a target's `encode` makes of a matrix."""
    target = TARGETS[name]
    module = formats.get(target.format)
    settings = {key: target.params[key] for key in getattr(module, "params", ())}
    shapes: dict[str, Any] = module.stored_shapes(rows, cols, **settings)
    found = {}
    for suffix, (dtype, array) in target.encode(np.zeros((1, target.multiple), np.float32)).items():
        choices = shapes[suffix] if isinstance(shapes[suffix], list) else [shapes[suffix]]
        found[suffix] = dtype, next(shape for shape in choices if shape is not None), array.itemsize
    return found
