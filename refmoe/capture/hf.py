"""hf - record a forward pass of a transformers model by hooks on its modules; needs torch, which is only touched here.

    from refmoe.capture import hf
    hf.record(model, [1, 2, 3], "theirs.safetensors")       # model: a transformers ...ForCausalLM

    refmoe compare theirs.safetensors -m DIR --map hf --profile bf16

Outputs are named by the module's path, inputs of some modules by the path and .in; a router's results are .logits,
.weights and .ids. Everything is stored in the type it had. Only the first sequence of the batch is kept.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import checkpoint
from refmoe.errors import UsageError

INPUTS = ("o_proj", "down_proj", "post_attention_layernorm", "mlp")
ROUTERS = ("gate", "router")


def record(model: Any, ids: Sequence[int], path: str | Path, points: Iterable[str] = ("",)) -> list[str]:
    """Run `model` on one prompt and write what its modules put out; returns the names.

    points: keep only names that contain one of these. UsageError for a model without modules.
    """
    import torch

    if not hasattr(model, "named_modules"):
        raise UsageError(f"model: expected a torch module, found {type(model).__name__}")
    wanted, found, handles = tuple(points), dict[str, Any](), []

    def keep(name: str, value: Any) -> None:
        plain = isinstance(value, torch.Tensor) and not value.is_complex()  # a rotary table may be complex
        if plain and any(point in name for point in wanted):
            found.setdefault(name, value.detach().cpu().clone())  # what comes after may change it in place

    def hook(name: str):
        def after(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            last = name.rpartition(".")[2]
            value = args[0] if args else kwargs.get("hidden_states")
            if last in INPUTS:
                keep(name + ".in", value)
            if last in ROUTERS and isinstance(output, tuple):
                parts = iter(("logits", "weights") if len(output) == 3 else ("weights",))
                for item in output:
                    keep(f"{name}.{next(parts, 'more') if item.is_floating_point() else 'ids'}", item)
            else:
                keep(name, output[0] if isinstance(output, tuple) else output)

        return after

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(hook(name), with_kwargs=True))
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            result = model(torch.tensor([list(ids)], device=device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    keep("logits", getattr(result, "logits", None))
    tensors = {name: _stored(torch, value) for name, value in found.items()}
    metadata = {"ids": json.dumps([int(token) for token in ids]), "captured": "transformers"}
    checkpoint.write(Path(path), tensors, metadata)
    return list(tensors)


def _stored(torch: Any, value: Any) -> tuple[str, tuple[int, ...], np.ndarray]:
    """dtype, shape and bytes of a tensor as safetensors keep it; a batch of one is dropped."""
    value = value[0] if value.ndim == 3 and value.shape[0] == 1 else value
    value = value.contiguous()
    if value.dtype == torch.bfloat16:
        return "BF16", tuple(value.shape), value.view(torch.int16).numpy().view(np.uint16)
    names = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.int64: "I64", torch.int32: "I32",
             torch.bool: "BOOL", torch.uint8: "U8"}  # fmt: skip
    if value.dtype not in names:
        raise UsageError(f"tensor: expected a plain number type, found {value.dtype}")
    return names[value.dtype], tuple(value.shape), value.numpy()
