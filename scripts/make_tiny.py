"""Build golden/tiny: small awkward models with random weights, their tokens and their full traces.

    python scripts/make_tiny.py            build what is missing; refuse to change a bit of what is there
    python scripts/make_tiny.py check      compare with what is there, write nothing
    python scripts/make_tiny.py NAME ...   the same for some of them

Every value comes from the counter-based generator (refmoe.numerics.counter): tensor NAME of a model is
fill_normal(seed, stream_of(NAME), count, scale), then shaped by the rules of `values` and rounded to the stored type.
A changed bit of a trace needs a new refmoe.NUMERICS_VERSION; a changed recipe needs its directory removed first.
"""

import json
import sys
from pathlib import Path

import numpy as np

import refmoe
from refmoe import checkpoint, program, trace
from refmoe.numerics import codecs, counter

ROOT = Path(__file__).resolve().parents[1] / "golden" / "tiny"
GREEDY = 8  # ids of the greedy continuation
STEPS = 2  # of them in the trace
LAYOUT = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "head_dim", "vocab_size")  # fmt: skip


def config(model_type: str, shape: str, **more) -> dict:
    """A config.json: `shape` gives the numbers of LAYOUT, `-` leaves a key out."""
    names = {"qwen3_moe": "Qwen3Moe"}
    head = {"architectures": [f"{names.get(model_type, model_type.capitalize())}ForCausalLM"], "model_type": model_type}
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
DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def values(role: str, name: str, shape: tuple[int, ...], seed: int, tied: bool) -> np.ndarray:
    """f32 values of one tensor, before they are rounded to the stored type."""
    count = int(np.prod(shape))

    def normal(scale: float) -> np.ndarray:
        return counter.fill_normal(seed, counter.stream_of(name), count, scale).reshape(shape)

    if len(shape) == 2:
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
    settings, kind, *_ = RECIPES[name]
    built = program.build(settings, name)
    tied = settings["tie_word_embeddings"]
    found: dict[str, np.ndarray] = {}
    for role, _, _, tensor, shape in built.expected():
        full = tensor.name + (".weight" if tensor.kind == "matrix" else "")
        found[full] = stored(values(role, full, shape, seed, tied), kind)
    return found


def write_model(name: str, folder: Path, seed: int) -> None:
    """config.json and the safetensors files."""
    settings, kind, _, _, shards = RECIPES[name]
    folder.mkdir(parents=True, exist_ok=True)
    dialect = "dtype" if "rope_parameters" in settings else "torch_dtype"
    names = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(settings | {dialect: names[kind]}, indent=1) + "\n", "utf-8")
    tensors = {n: (DTYPES[kind], array.shape, array) for n, array in weights(name, seed).items()}
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


def facts(name: str, folder: Path, seed: int) -> tuple[dict, trace.Trace, refmoe.Model]:
    """ids.json as an object, the trace of prompt and STEPS, and the model."""
    settings, _, size, *_ = RECIPES[name]
    model = refmoe.load(folder)
    ids = prompt(size, settings["vocab_size"], seed)
    whole = trace.record(model, ids, ("logits", "layers.*.router_logits") if model.program.dims.get("E") else
                         ("logits",), GREEDY)  # fmt: skip
    gaps = [gap(whole["logits"][-1])] + [gap(whole[f"steps.{n}.logits"][0]) for n in range(GREEDY - 1)]
    cut = None
    if "E" in model.program.dims:
        k = model.program.dims["K"]
        rows = np.concatenate([array for key, array in whole.items() if key.endswith("router_logits")])
        ranked = -np.sort(-rows.astype(np.float64), axis=1)
        cut = float((ranked[:, :k] - ranked[:, 1 : k + 1]).min())  # order among the chosen ones matters as well
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
        elif path.name == "trace.safetensors":
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
