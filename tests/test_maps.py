"""Maps of other programs' names: each reads a run that is written the way that program lays it out; real recordings of
transformers and llama.cpp conform (where these are installed)."""

import json
import subprocess
import sys

import numpy as np
import pytest
import test_comparison as runs
import tiny

from refmoe import comparison
from refmoe.comparison import names

MODELS = ("mixtral", "qwen3_moe", "kimi_k2", "gpt_oss", "qwen2_moe", "olmoe", "glm4_moe", "llama", "flex_olmo")


@pytest.mark.parametrize("which", names.known_maps())
def test_every_line_names_a_point_of_some_program(which):
    known = set()
    for name in tiny.NAMES:
        for point in tiny.model(name).program.points:
            known.add("layers.{l}." + point.split(".", 2)[2] if point.startswith("layers.") else point)
    for entry in names.read_map(which):
        for words in entry.ours:
            for word in words.split("|"):
                assert word.strip() in known or word.strip().endswith(("q_latent", "attn_latent")), word


def recorded(name):
    """A run of ours, by our names."""
    return runs.port(name, narrow=False)


def vllm(name, arrays):
    """As vLLM lays a run out: fused projections, gate and up together, a module's residual beside its output."""
    sparse = "block_sparse_moe" if name == "mixtral" else "mlp"
    found = {"model.embed_tokens": arrays["embed"], "model.norm.0": arrays["final_norm"], "logits": arrays["logits"]}
    for layer in range(tiny.model(name).program.dims["L"]):
        ours, theirs = f"layers.{layer}.", f"model.layers.{layer}."
        a = {point.removeprefix(ours): rows for point, rows in arrays.items() if point.startswith(ours)}
        found[theirs + "self_attn.qkv_proj"] = np.concatenate([a["q"], a["k"], a["v"]], axis=1)
        found[theirs + "self_attn.rotary_emb.0"], found[theirs + "self_attn.rotary_emb.1"] = a["q_rope"], a["k_rope"]
        found[theirs + "input_layernorm.0"], found[theirs + "self_attn.attn"] = a["attn_norm"], a["attn"]
        found[theirs + "self_attn.o_proj"], found[theirs + "post_attention_layernorm.0"] = a["o"], a["ffn_norm"]
        found[theirs + "post_attention_layernorm.1"] = a["attn_out"]
        if "q_norm" in a:
            found |= {f"{theirs}self_attn.{p}_norm": a[f"{p}_norm"] for p in "qk"}
        if "gate" in a:
            found[theirs + "mlp.gate_up_proj"] = np.concatenate([a["gate"], a["up"]], axis=1)
            found[theirs + "mlp.act_fn"], found[theirs + "mlp"] = a["act"], a["down"]
        else:
            found[theirs + sparse + ".gate"], found[theirs + sparse] = a["router_logits"], a["combine"]
            found[theirs + sparse + ".experts.topk_ids"] = a["route_ids"]
            found[theirs + sparse + ".experts.topk_weights"] = a["route_weights"]
            both = np.concatenate([a["expert_gate"], a["expert_up"]], axis=-1)
            found[theirs + sparse + ".experts.w13"] = both
    return found


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("which", ["vllm", "sglang"])
def test_fused_projections(name, which, tmp_path):
    arrays, ids = recorded(name)
    path = runs.write(tmp_path / "a.safetensors", vllm(name, arrays), ids)
    report = comparison.compare(path, model=tiny.model(name), map=which)
    assert report.code == (3 if report.absent else 0) and not report.unknown and not report.wrong
    assert report.count("EXACT") == sum(entry.verdict is not None for entry in report.entries) > 25
    assert all(point.endswith("ffn_out") for point in report.absent)


def turned(rows, heads):
    """Halves of each head as neighbours, as GGUF files of llama have them."""
    return rows.reshape(len(rows), heads, 2, -1).swapaxes(-1, -2).reshape(len(rows), -1)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_names_of_llama_cpp(name, tmp_path):
    arrays, ids = recorded(name)
    dims, found = tiny.model(name).program.dims, {}
    for point, rows in arrays.items():
        layer, word = point.split(".")[1:] if point.startswith("layers.") else ("", point)
        if name == "mixtral" and word in ("q", "k", "q_rope", "k_rope"):
            rows = turned(rows, dims["N" if word[0] == "q" else "G"])
        if word == "o":
            continue  # has no name there
        known = {"embed": "embd", "final_norm": "result_norm", "logits": "result_output", "q": "Qcur-#", "k": "Kcur-#",
                  "v": "Vcur-#", "q_norm": "Qcur_normed-#", "k_norm": "Kcur_normed-#", "q_rope": "Qcur-#.rope",
                  "k_rope": "Kcur-#.rope", "attn": "kqv_out-#", "attn_out": "ffn_inp-#", "ffn_out": "l_out-#",
                  "router_logits": "ffn_moe_logits-#", "route_ids": "ffn_moe_topk-#", "combine": "ffn_moe_out-#",
                  "route_weights": "ffn_moe_weights_norm-#", "down": "ffn_out-#", "gate": "ffn_gate-#",
                  "up": "ffn_up-#", "act": "ffn_swiglu-#"}  # fmt: skip
        plain = word.replace("expert", "ffn_moe").replace("act", "swiglu") + "-#"
        found[known.get(word, plain).replace("#", layer)] = rows
        if word == "route_weights":
            found[f"ffn_moe_weights-{layer}"] = rows * np.float32(0.5)  # before they are divided by their sum
    report = comparison.compare(runs.write(tmp_path / "a.safetensors", found, ids), model=tiny.model(name),
                                map="llama.cpp")  # fmt: skip
    assert not report.wrong and not report.unknown and report.count("EXACT") == len(report.entries)
    assert all(point.endswith(".o") for point in report.absent)


def test_a_line_may_need_a_point_of_the_program(tmp_path):
    """transformers calls different things post_attention_layernorm: the norm before the second half, or behind o."""
    for name, words in (("flex_olmo", ("o", "o_norm", "attn_out")), ("mixtral", ("attn_out", "ffn_norm", "ffn_norm"))):
        arrays, ids = recorded(name)
        norm = "model.layers.1.post_attention_layernorm"
        theirs = dict(zip((norm + ".in", norm, "model.layers.1.mlp.in"), words, strict=True))
        found = {other: arrays[f"layers.1.{word}"] for other, word in theirs.items()}
        report = comparison.compare(runs.write(tmp_path / f"{name}.safetensors", found, ids), model=tiny.model(name),
                                    map="hf")  # fmt: skip
        judged = {entry.point for entry in report.entries if entry.verdict or "not recorded" in entry.reason}
        assert judged == {f"layers.1.{word}" for word in words} and not report.unknown and not report.wrong


LLAMA = """
import sys
from refmoe.capture import llamacpp
llamacpp.record(sys.argv[1], [int(word) for word in sys.argv[3].split(",")], sys.argv[2], kv=sys.argv[4])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "kv", "profile"), [
    ("mixtral", "F32", "f32", "f32-any-order"), ("mixtral", "F32", "f16", "ggml-f32"),
    ("mixtral", "F16", "f16", "ggml-f16"), ("mixtral", "BF16", "f16", "ggml-bf16"),
    ("qwen3", "F32", "f32", "f32-any-order"), ("olmoe", "F16", "f16", "ggml-f16"),
])  # fmt: skip
def test_runs_of_llama_cpp_conform(name, kind, kv, profile, tmp_path):
    pytest.importorskip("llama_cpp")
    import refmoe
    from tests import gguf_maker

    def encode(target, array):
        plain = gguf_maker.plain(array)
        if kind == "F32" or array.ndim < 2 or "gate_inp" in target:
            return plain
        wide = np.ascontiguousarray(array, np.float32)
        raw = wide.astype(np.float16) if kind == "F16" else (wide.view(np.uint32) >> 16).astype(np.uint16)
        return kind, plain[1], raw.tobytes()

    path, out = tmp_path / "m.gguf", tmp_path / "a.safetensors"
    gguf_maker.convert(tiny.TINY / name, path, encode=encode, **{"tokenizer.ggml.model": "none"})
    ids = tiny.facts(name)["prompt"]
    done = subprocess.run([sys.executable, "-c", LLAMA, str(path), str(out), ",".join(map(str, ids)), kv],
                          capture_output=True, text=True, check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    report = comparison.compare(out, model=refmoe.load(path), map="llama.cpp", profile=profile)
    assert report.code == 0 and not report.absent and not report.unknown
    if kind != "F32":
        assert comparison.compare(out, model=refmoe.load(path), map="llama.cpp").code == 1


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_runs_of_transformers_conform(name, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    sys.path.insert(0, str(tiny.ROOT / "scripts"))
    import dump_oracle

    from refmoe.capture import hf

    for dtype, profile in ((torch.float32, "f32-any-order"), (torch.bfloat16, "bf16")):
        path = tmp_path / f"{profile}.safetensors"
        hf.record(dump_oracle.load(tiny.TINY / name, dtype), tiny.facts(name)["prompt"], path)
        report = comparison.compare(path, model=tiny.model(name), map="hf", profile=profile)
        assert report.code == 0 and not report.absent, (profile, [entry.point for entry in report.wrong])
    assert comparison.compare(path, model=tiny.model(name), map="hf").code == 1


def test_maps_are_small_and_plain():
    for which in names.known_maps():
        content = json.loads((names.MAPS / f"{which}.json").read_text("utf-8"))
        assert content["name"] == which and content["title"] and set(content) == {"name", "title", "entries"}
