"""Write golden/tiny/*/outside.safetensors: what another implementation computes (developer-only: torch, transformers).

    python scripts/dump_oracle.py               every model of golden/tiny that has no outside.safetensors
    python scripts/dump_oracle.py --check       recompute all of them, compare, write nothing
    python scripts/dump_oracle.py DIR ...       show the results for other model directories (ids.json or --ids 1,2,3)

The implementation is transformers' own modelling code, eager attention, eager experts, with float64 weights. It casts
to float32 inside norms, softmax and rotary angles whatever the model's dtype is; here the names `torch.float32`,
`torch.float` and `Tensor.float` mean float64 while it runs, and a dispatch mode refuses every operation that still
returns a narrower float. Rotary frequencies stay the float32 values that transformers computes. The same model is also
run as it stands, in float32, and both must agree to 1e-3. Nothing of refmoe is imported.

outside.safetensors: `logits` F64 [T + 8, V], positions of the prompt and of the greedy ids; `greedy` I64 [8];
`layers.{l}.route_ids` I64 [T + 8, K], best first; `layers.{l}.router_logits` F64 [T + 8, E].
"""

import argparse
import contextlib
import json
import re
import struct
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from dequantise import dequantised
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[1] / "golden" / "tiny"
GREEDY = 8
SAME_CODE = {"kimi_k2": "deepseek_v3"}  # no class of that name; the checkpoints' own code is DeepSeek-V3's


class Wide:
    """The torch module, with float32 spelled float64."""

    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


class OnlyFloat64(TorchDispatchMode):
    """Refuses results in a narrower float."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, torch.Tensor) and item.is_floating_point() and item.dtype != torch.float64:
                raise TypeError(f"{function}: expected float64, found {item.dtype}")
        return result


@contextlib.contextmanager
def widened(model):
    """Every float32 cast in the modelling code of `model` becomes float64."""
    module = sys.modules[type(model).__module__]
    saved = module.torch, torch.Tensor.float
    module.torch, torch.Tensor.float = Wide(), torch.Tensor.double
    try:
        with OnlyFloat64():
            yield
    finally:
        module.torch, torch.Tensor.float = saved


def load(folder: Path, dtype):
    """The model; every tensor of the files used, none missing."""
    transformers.logging.set_verbosity_error()
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    settings["model_type"] = SAME_CODE.get(settings["model_type"], settings["model_type"])
    config = transformers.AutoConfig.for_model(**settings)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, attn_implementation="eager", experts_implementation="eager",
        local_files_only=True, output_loading_info=True)  # fmt: skip
    problems = {key: value for key, value in report.items() if value}
    if problems:
        raise SystemExit(f"{folder.name}: {problems}")
    return model.eval()


def ranking(router, logits, bias=None):
    """Expert ids, best first: by logit; of routers with a bias by sigmoid + bias; closed groups come last.

    `bias`: one that the router is called with, if it has none of its own.
    """
    bias, groups = getattr(router, "e_score_correction_bias", bias), getattr(router, "num_group", None) or 1
    scores = logits if bias is None else torch.sigmoid(logits) + bias.double()
    if groups > 1 and getattr(router, "topk_method", "") != "greedy":
        members = scores.reshape(len(scores), groups, -1)
        best = members.max(-1).values if bias is None else members.topk(2, -1).values.sum(-1)
        closed = best < best.topk(router.topk_group, -1).values[:, -1:]
        scores = members.masked_fill(closed[:, :, None], -torch.inf).reshape(scores.shape)
    return torch.argsort(scores, dim=-1, descending=True, stable=True)


def forward(model, ids):
    """(logits [T, V], {layer: router logits [T, E]}, {layer: ids [T, K]}) of one pass without a cache."""
    found = {}

    def hook(layer):
        def keep(module, inputs, output):
            found[layer] = module, inputs[1:], output

        return keep

    hooks = []
    for name, module in model.named_modules():
        if match := re.search(r"layers\.(\d+)\.(?:mlp\.(?:gate|router)|block_sparse_moe\.gate)$", name):
            hooks.append(module.register_forward_hook(hook(int(match[1]))))
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for handle in hooks:
        handle.remove()
    scores, chosen = {}, {}
    for layer, (router, biases, (raw, _, indices)) in found.items():
        ranked = ranking(router, raw.double(), *biases)[:, : indices.shape[1]]
        if not torch.equal(ranked.sort(-1).values, indices.sort(-1).values):
            raise SystemExit(f"layer {layer}: the router's choice is not what its logits, bias and groups say")
        scores[layer], chosen[layer] = raw, ranked
    return logits, scores, chosen


def run(folder: Path, prompt: list[int]):
    """Greedy continuation in float64, then everything for prompt + continuation; the float32 run for comparison.

    A quantised model is first decoded by dequantise.py; both runs then see the same plain weights.
    """
    if "quantization_config" in json.loads((folder / "config.json").read_text("utf-8")):
        with tempfile.TemporaryDirectory() as scratch:
            return run(dequantised(folder, Path(scratch) / folder.name), prompt)
    model = load(folder, torch.float64)
    ids = list(prompt)
    with widened(model):
        for _ in range(GREEDY):
            ids.append(int(forward(model, ids)[0][-1].argmax()))
        logits, scores, chosen = forward(model, ids)
    if logits.dtype != torch.float64:
        raise SystemExit(f"{folder.name}: logits are {logits.dtype}")
    narrow = forward(load(folder, torch.float32), ids)
    difference = float((narrow[0].double() - logits).abs().max())
    same = all(torch.equal(narrow[2][layer], chosen[layer]) for layer in chosen)
    tensors = {"logits": logits, "greedy": torch.tensor(ids[len(prompt) :])}
    for layer in chosen:
        tensors[f"layers.{layer}.route_ids"] = chosen[layer]
        tensors[f"layers.{layer}.router_logits"] = scores[layer]
    return tensors, difference, same


def encode(tensors: dict, metadata: dict[str, str]) -> bytes:
    """A safetensors file; all dtypes are 8 bytes wide, so no padding is needed."""
    header, parts, at = {"__metadata__": metadata}, [], 0
    for name in sorted(tensors):
        array = tensors[name].contiguous().numpy()
        raw = array.tobytes()
        header[name] = {"dtype": {"float64": "F64", "int64": "I64"}[str(array.dtype)], "shape": list(array.shape),
                        "data_offsets": [at, at + len(raw)]}  # fmt: skip
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def decode(raw: bytes) -> dict:
    """The tensors of such a file."""
    (size,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    dtypes = {"F64": torch.float64, "I64": torch.int64}
    return {name: torch.frombuffer(bytearray(data[slice(*entry["data_offsets"])]), dtype=dtypes[entry["dtype"]])
            .reshape(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}  # fmt: skip


def metadata(prompt: list[int]) -> dict[str, str]:
    """Metadata, every value a JSON text."""
    facts = {
        "kind": "outside",
        "implementation": "transformers, eager attention and experts, float64; its casts to float32 made float64",
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        "ids": prompt,
    }
    return {key: json.dumps(value) for key, value in facts.items()}


def main() -> int:
    """Write, check or show; 1 if something differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directories", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--ids")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    for folder in options.directories or sorted(path for path in ROOT.iterdir() if path.is_dir()):
        target = folder / "outside.safetensors"
        if not options.directories and target.exists() and not options.check:
            continue
        prompt = [int(word) for word in options.ids.split(",")] if options.ids else json.loads(
            (folder / "ids.json").read_text("utf-8"))["prompt"]  # fmt: skip
        tensors, difference, same = run(folder, prompt)
        print(f"{folder.name}: greedy {tensors['greedy'].tolist()}, largest logit {tensors['logits'].abs().max():.3f}, "
              f"float32 run differs by {difference:.2e}, routing {'equal' if same else 'DIFFERENT'}")  # fmt: skip
        failed = failed or difference > 1e-3
        if options.check:
            stored = decode(target.read_bytes())
            worst = max(float((stored[name].double() - value.double()).abs().max()) for name, value in tensors.items())
            print(f"{folder.name}: stored file differs by at most {worst:.2e}")
            failed = failed or stored.keys() != tensors.keys() or worst > 1e-9
        elif not options.directories:
            target.write_bytes(encode(tensors, metadata(prompt)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
