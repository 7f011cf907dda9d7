"""Build golden/tiny: small awkward models with random weights, their tokens and their full traces.

    python scripts/make_tiny.py            build what is missing; refuse to change a bit of what is there
    python scripts/make_tiny.py check      compare with what is there, write nothing
    python scripts/make_tiny.py NAME ...   the same for some of them

Every value comes from the counter-based generator (refmoe.numerics.counter): tensor NAME of a model is
fill_normal(seed, stream_of(NAME), count, scale), then shaped by the rules of `values` and rounded to the stored type.
A changed bit of a trace needs a new refmoe.NUMERICS_VERSION; a changed recipe needs its directory removed first.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import tiny_quant
from tiny_recipes import recipes

import refmoe
from refmoe import checkpoint, program, trace
from refmoe.numerics import codecs, counter

ROOT = Path(__file__).resolve().parents[1] / "golden" / "tiny"
GREEDY = 8  # ids of the greedy continuation
STEPS = 2  # of them in the trace
RECIPES = recipes()
INT8 = ("gpt_oss-mxfp4", "llama-w8a8", "qwen3_moe-w8a8")  # with trace-int8.safetensors: 8-bit activations
DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def values(role: str, name: str, shape: tuple[int, ...], seed: int, tied: bool) -> np.ndarray:
    """f32 values of one tensor, before they are rounded to the stored type."""
    count = int(np.prod(shape))

    def normal(scale: float) -> np.ndarray:
        return counter.fill_normal(seed, counter.stream_of(name), count, scale).reshape(shape)

    if role == "sinks":
        return normal(1.5)
    if len(shape) == 2 and not role.startswith("b_"):
        gain = {"embed": 0.6 if tied else 1.0, "lm_head": 3.5 / shape[1] ** 0.5, "router": 2.5 / shape[1] ** 0.5}
        return normal(gain.get(role, 1.6 / shape[1] ** 0.5))
    if not role.endswith("norm"):
        return normal(0.4)  # a bias
    weights = np.float32(1.0) + normal(0.3)
    index = np.arange(count)
    weights[index % 7 == 3] *= np.float32(0.015625)  # some near zero
    weights[index % 5 == 2] *= np.float32(-1.0)  # some negative
    return weights


def stored(array: np.ndarray, kind: str) -> np.ndarray:
    """The stored bytes' array."""
    return {"f32": lambda a: a, "f16": codecs.f32_to_f16, "bf16": codecs.f32_to_bf16}[kind](array)


def prompt(size: int, vocabulary: int, seed: int) -> list[int]:
    """Ids that contain the first, the last and a repeated one."""
    draws = counter.fill_uniform(seed, counter.stream_of("prompt"), size)
    ids = [int((float(draw) + 1.0) / 2.0 * vocabulary) for draw in draws]
    ids[1], ids[3], ids[4] = vocabulary - 1, 0, ids[2]
    return ids


def weights(name: str, seed: int) -> dict[str, np.ndarray]:
    """Published tensor name -> stored array."""
    return {full: array for full, (_, array) in typed(name, seed).items()}


def typed(name: str, seed: int) -> dict[str, tuple[str, np.ndarray]]:
    """Published tensor name -> (dtype, stored array)."""
    settings, kind, _, _, _, *encoded = RECIPES[name]
    built = program.build(settings, name)
    tied = settings["tie_word_embeddings"]
    found: dict[str, np.ndarray] = {}
    dtypes: dict[str, str] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for role, _, expert, tensor, shape in built.expected():
        stem = tensor.name.removesuffix(f"[{expert}]")
        full = tensor.name + (".weight" if tensor.kind == "matrix" and stem == tensor.name else "")
        wide = values(role, full, shape, seed, tied)
        if encoded and tensor.kind == "matrix" and re.search(encoded[0], tensor.name):
            parts = tiny_quant.encode(built.quantization.schemes[0], full, wide)
            for suffix, (dtype, array) in parts.items():
                stacks.setdefault(stem + suffix, []).append(array)
                found[stem + suffix] = array if stem == tensor.name else np.stack(stacks[stem + suffix])
                dtypes[stem + suffix] = dtype
            continue
        array = stored(wide, "f32" if role == "router_bias" else kind)
        if stem == tensor.name:
            found[full] = array
        else:
            stacks.setdefault(stem, []).append(array.T)
            found[stem] = np.stack(stacks[stem])
    return {full: (dtypes.get(full, "F32" if array.dtype == np.float32 else DTYPES[kind]), array)
            for full, array in found.items()}  # fmt: skip


def write_model(name: str, folder: Path, seed: int) -> None:
    """config.json and the safetensors files."""
    settings, kind, _, _, shards, *_ = RECIPES[name]
    folder.mkdir(parents=True, exist_ok=True)
    dialect = "dtype" if "rope_parameters" in settings else "torch_dtype"
    names = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(settings | {dialect: names[kind]}, indent=1) + "\n", "utf-8")
    tensors = {n: (dtype, array.shape, array) for n, (dtype, array) in typed(name, seed).items()}
    if shards == 1:
        checkpoint.write(folder / "model.safetensors", tensors, {"format": "pt"})
        return
    where = {n: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, n in enumerate(tensors)}
    for file in sorted(set(where.values())):
        checkpoint.write(folder / file, {n: t for n, t in tensors.items() if where[n] == file}, {"format": "pt"})
    index = {"metadata": {"total_size": sum(array.nbytes for _, _, array in tensors.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", "utf-8")


def gap(row: np.ndarray) -> float:
    """Difference of the two largest values."""
    top = np.sort(row)[-2:]
    return float(top[1]) - float(top[0])


def margin(logits: np.ndarray, bias: np.ndarray | None, dims: dict) -> float:
    """The smallest gap between the values that decide the choice of experts, their order, or the open groups."""
    scores, k, groups, found = logits.astype(np.float64), dims["K"], dims.get("groups", 1), []
    if bias is not None:
        scores = 1 / (1 + np.exp(-scores)) + bias
    if groups > 1:
        members = np.sort(scores.reshape(len(scores), groups, -1), axis=2)
        best = members[:, :, -1] if bias is None else members[:, :, -2:].sum(axis=2)
        order, opened = -np.sort(-best, axis=1), dims["open_groups"]
        found.append(order[:, opened - 1] - order[:, opened])
        closed = np.repeat(best < order[:, opened - 1 : opened], members.shape[2], axis=1)
        scores = np.where(closed, -1e9, scores)
    ranked = -np.sort(-scores, axis=1)
    found.append((ranked[:, :k] - ranked[:, 1 : k + 1]).min(axis=1))
    return float(np.min(found))


def facts(name: str, folder: Path, seed: int) -> tuple[dict, trace.Trace, refmoe.Model]:
    """ids.json as an object, the trace of prompt and STEPS, and the model."""
    settings, _, size, *_ = RECIPES[name]
    model = refmoe.load(folder)
    ids = prompt(size, settings["vocab_size"], seed)
    whole = trace.record(model, ids, ("logits", "layers.*.router_logits") if model.program.dims.get("E") else
                         ("logits",), GREEDY)  # fmt: skip
    gaps = [gap(whole["logits"][-1])] + [gap(whole[f"steps.{n}.logits"][0]) for n in range(GREEDY - 1)]
    biases, cuts = weights(name, seed), []
    for key, array in whole.items():
        if key.endswith("router_logits"):
            layer = re.search(r"layers\.\d+", key)[0]
            names = (f"model.{layer}.{part}.e_score_correction_bias" for part in ("mlp.gate", "block_sparse_moe"))
            bias = next((biases[name] for name in names if name in biases), None)
            cuts.append(margin(array, bias, model.program.dims))
    cut = min(cuts, default=None)
    found = {
        "prompt": ids,
        "greedy": whole.step_ids,
        "greedy_gaps": [round(g, 5) for g in gaps],
        "router_gap": None if cut is None else round(cut, 5),
        "largest_logit": round(float(max(np.abs(a).max() for n, a in whole.items() if n.endswith("logits")
                                         and "router" not in n)), 3),
    }  # fmt: skip
    return found, trace.record(model, ids, ("*",), STEPS), model


def compare(name: str, folder: Path, fresh: Path) -> list[str]:
    """What differs between a stored model and a fresh one: lines for people."""
    problems = []
    for path in sorted(fresh.iterdir()):
        other = folder / path.name
        if not other.is_file():
            problems.append(f"{name}/{path.name}: missing")
        elif path.name.startswith("trace"):
            problems += _compare_traces(f"{name}/{path.name}", trace.read(other), trace.read(path))
        elif path.read_bytes() != other.read_bytes():
            problems.append(f"{name}/{path.name}: other bytes")
    return problems


def _compare_traces(where: str, old: trace.Trace, new: trace.Trace) -> list[str]:
    if old.metadata["numerics_version"] != new.metadata["numerics_version"]:
        return []
    problems = [f"{where}: {key} differs" for key in new.metadata if key not in ("versions", "sha256")
                and old.metadata[key] != new.metadata[key]]  # fmt: skip
    problems += [f"{where}: tensor {key} is new or gone" for key in old.keys() ^ new.keys()]
    problems += [f"{where}: tensor {key} has other bits" for key in new if key in old
                 and old[key].tobytes() != new[key].tobytes()]  # fmt: skip
    return problems


def build(name: str, folder: Path) -> dict:
    """Write everything but outside.safetensors; returns the facts of ids.json."""
    seed = RECIPES[name][3]
    write_model(name, folder, seed)
    found, recorded, model = facts(name, folder, seed)
    text = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    (folder / "ids.json").write_text("{\n" + text + "\n}\n", "utf-8")
    trace.write(folder / "trace.safetensors", model, recorded)
    if name in INT8:
        model = refmoe.load(folder, activations="int8")
        trace.write(folder / "trace-int8.safetensors", model, trace.record(model, found["prompt"], ("*",), STEPS))
    return found


def main(arguments: list[str]) -> int:
    """Build or check; 1 if a bit would change."""
    import tempfile

    check = "check" in arguments
    chosen = [name for name in arguments if name != "check"] or list(RECIPES)
    failed = False
    for name in chosen:
        folder = ROOT / name
        with tempfile.TemporaryDirectory() as scratch:
            fresh = Path(scratch) / name
            found = build(name, fresh)
            problems = compare(name, folder, fresh) if check or folder.is_dir() else []
            complete = folder.is_dir() and not any(line.endswith(": missing") for line in problems)
            changed = [line for line in problems if check or not line.endswith(": missing")]
            if not check and not changed and (not complete or _old_version(folder)):
                folder.mkdir(parents=True, exist_ok=True)
                for path in fresh.iterdir():
                    (folder / path.name).write_bytes(path.read_bytes())
        for line in changed:
            print(f"{line} (numerics {refmoe.NUMERICS_VERSION}: a changed bit needs a new NUMERICS_VERSION)")
        failed = failed or bool(changed)
        print(f"{name}: gaps greedy {min(found['greedy_gaps'])} router {found['router_gap']}, "
              f"largest logit {found['largest_logit']}")
    return 1 if failed else 0


def _old_version(folder: Path) -> bool:
    return trace.read(folder / "trace.safetensors").metadata["numerics_version"] != refmoe.NUMERICS_VERSION


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
