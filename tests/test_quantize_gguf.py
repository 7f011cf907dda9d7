"""quantize to GGUF: names, order of rows, metadata and tokenizer against the tests' own converter, which llama.cpp and
the gguf package check (tests/test_outside_gguf.py); models that have no form; the whole file or none."""

import json
import shutil

import numpy as np
import pytest

import refmoe
from refmoe import quantize
from refmoe.chat.template import prompt
from refmoe.checkpoint import gguf
from refmoe.checkpoint.reading import read
from refmoe.errors import UsageError
from refmoe.numerics import codecs
from tests import fakes, gguf_maker, tiny

GPT_OSS = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 4.0, "truncate": False,
           "original_max_position_embeddings": 8}  # fmt: skip
MORE = {"num_experts": 5, "num_local_experts": 5, "moe_intermediate_size": 12, "decoder_sparse_step": 1}
NAMES = ["deepseek_v2", "deepseek_v2-groups", "deepseek_v3-bias-raw", "glm4_moe", "glm4_moe-groups-raw", "gpt_oss",
         "kimi_k2", "llama", "mixtral", "olmoe", "qwen2-yarn", "qwen2_moe", "qwen3", "qwen3_moe"]  # fmt: skip


def model(folder, name):
    """A tiny model with what GGUF can say: experts in every layer of Qwen, the fixed settings of gpt-oss."""
    if name in ("qwen2_moe", "qwen3_moe"):
        extra = {"head_dim": 8} if name == "qwen3_moe" else {"shared_expert_intermediate_size": 16}
        fakes.write_checkpoint(folder, model_type=name, norm_topk_prob=name == "qwen3_moe", **extra, **MORE)
        return folder
    if not name.startswith("gpt_oss"):
        return tiny.TINY / name
    shutil.copytree(tiny.TINY / name, folder)
    config = json.loads((folder / "config.json").read_text())
    gone = ("swiglu_limit", "swiglu_alpha", "layer_types", "initial_context_length", "rope_scaling", "rope_theta")
    config = {key: value for key, value in config.items() if key not in gone} | {"rope_parameters": GPT_OSS}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def numbers(path):
    """name -> (type, f32 array) of a file with plain types."""
    infos = list(gguf.read_header(path).tensors.values())
    wide = {"F32": lambda raw: raw.view("<f4"), "F16": lambda raw: codecs.f16_to_f32(raw.view("<u2")),
            "BF16": lambda raw: codecs.bf16_to_f32(raw.view("<u2"))}  # fmt: skip
    return {info.name: (info.dtype, wide[info.dtype](raw).reshape(info.shape))
            for info, raw in zip(infos, read(infos), strict=True)}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_tests_own_converter_writes_the_same(tmp_path, name):
    folder, path = model(tmp_path / "model", name), tmp_path / "m.gguf"
    quantize.run(folder, path, "bf16")
    config, found = json.loads((folder / "config.json").read_text()), numbers(path)
    arrays = gguf_maker.arrays(folder)
    if config.get("tie_word_embeddings"):
        arrays.pop("lm_head.weight", None)
    expected = gguf_maker.tensors(config, arrays, lambda name, array: array)
    assert found.keys() == expected.keys()
    for key, (kind, array) in found.items():
        rounded = codecs.bf16_to_f32(codecs.f32_to_bf16(np.ascontiguousarray(expected[key], np.float32)))
        assert np.array_equal(array, rounded if kind == "BF16" else expected[key]), key
        plain = key.startswith(("token_embd", "output.")) or key.endswith(("_b.weight",))
        norm = array.ndim == 1 or "gate_inp" in key or key.endswith("bias")
        assert kind == "F32" if norm else plain or kind == "BF16"
    metadata = gguf.read_header(path).metadata
    for key, value in gguf_maker.settings(config).items():
        if value is not None and key not in ("general.name", f"{gguf_maker.ARCH[config['model_type']]}.vocab_size"):
            value = float(np.float32(value)) if isinstance(value, float) else value
            assert metadata.get(key, value) == value, key
    original, made = refmoe.load(folder).program.defined(), refmoe.load(path).program.defined()
    assert original | {"arch": ""} == made | {"arch": ""}


def test_experts_in_mxfp4(tmp_path):
    """Of gpt-oss, all in one tensor: bfloat16 holds every value, so the bits stay."""
    folder = model(tmp_path / "model", "gpt_oss-mxfp4")
    report = quantize.run(folder, tmp_path / "m.gguf", "bf16")
    assert {entry.role for entry in report.entries} >= {"e_gate_up", "e_down"}
    ours, theirs = (refmoe.load(path).forward([1, 5, 9]) for path in (tmp_path / "m.gguf", folder))
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    report = quantize.run(folder, tmp_path / "q.gguf", "q8_0", experts_only=True)
    assert {entry.role for entry in report.entries} == {"e_gate_up", "e_down"}
    assert 0 < abs(refmoe.load(tmp_path / "q.gguf").forward([1, 5, 9]) - theirs).max() < 0.1


def test_llama3_frequencies(tmp_path):
    path = tmp_path / "m.gguf"
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    more = {"model_type": "llama", "rope_scaling": scaling, "head_dim": 32, "rope_theta": 500000.0}
    fakes.write_checkpoint(tmp_path / "llama", **more, num_local_experts=None, num_experts_per_tok=None)
    quantize.run(tmp_path / "llama", path, "bf16")
    assert refmoe.load(path).program.digest() == refmoe.load(tmp_path / "llama").program.digest()
    scaling["low_freq_factor"] = 2.0
    fakes.write_checkpoint(tmp_path / "other", **more, num_local_experts=None, num_experts_per_tok=None)
    with pytest.raises(UsageError, match=r"no form in GGUF: read back, it would differ: tables\.rope\.low_freq_factor"):
        quantize.run(tmp_path / "other", tmp_path / "n.gguf", "bf16")


@pytest.mark.parametrize(("name", "message"), [
    ("qwen3_moe", "32 missing tensors|missing tensors: model.layers.1.mlp.gate"),
    ("gpt_oss", r"dims\.limit: 1\.25 in the config, 7\.0 in the file"),
    ("deepseek_v3-groups", r"tables\.rope\.mscale: 0\.7 in the config, 1\.2 in the file"),
    ("qwen2-window-tied", r"qwen2\.attention\.sliding_window"),
    ("minimax_m2", "minimax_m2: expected one of llama, .*: no other is written as GGUF"),
])  # fmt: skip
def test_models_without_a_form(tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        quantize.run(tiny.TINY / name, tmp_path / "m.gguf", "bf16")
    assert list(tmp_path.iterdir()) == []


def test_text_comes_back_from_a_file(tmp_path):
    """Folder -> GGUF -> folder: the same ids, template and suggested sampling."""
    source, path, back = tmp_path / "model", tmp_path / "m.gguf", tmp_path / "back"
    shutil.copytree(refmoe.load().checkpoint.path, source)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    (source / "generation_config.json").write_text(json.dumps({"temperature": 0.7, "top_p": 0.8, "eos_token_id": 0}))
    quantize.run(source, path, "bf16")
    quantize.run(path, back, "int4-g32")
    one, two = refmoe.load(source), refmoe.load(back)
    for text in ("Once upon a time", "  naïve\n\n1234 🙂", "<|endoftext|>x"):
        assert two.encode(text, parse_special=True) == one.encode(text, parse_special=True)
    assert (two.start_id, two.end_ids) == (one.start_id, one.end_ids)
    assert two.template.texts == one.template.texts
    assert two.suggested == one.suggested == {"temperature": 0.7, "top_p": 0.8}
    chat = [{"role": "user", "content": "Hi"}]
    assert prompt(two.template, two.tokenizer, chat) == prompt(one.template, one.tokenizer, chat)
