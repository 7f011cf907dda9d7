"""Models in GGUF form: the same bits as the safetensors they were made from, and metadata that cannot be used."""

import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import refmoe
from refmoe import checkpoint, formats, program
from refmoe.checkpoint.gguf import decimal
from refmoe.cli import main
from refmoe.detokenize import byte_alphabet
from refmoe.errors import CheckpointError, ConfigError, RefmoeError
from refmoe.numerics import codecs
from tests import fakes, gguf_maker, quantised, tiny

ALPHABET = list(byte_alphabet())
IDS = [1, 5, 9, 2, 7, 3, 11, 38]
# tiny models that GGUF can hold: no window outside gpt-oss, no dense layers in qwen moe, mscale = mscale_all_dim
GLM = [path.name for path in tiny.TINY.iterdir() if path.name.partition("-")[0] == "glm4_moe"]
WHOLE = [*GLM, "deepseek_v2", "deepseek_v2-groups", "deepseek_v3-bias-raw", "kimi_k2", "llama", "mixtral", "olmoe",
         "qwen2-yarn", "qwen3"]  # fmt: skip


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Qwen MoE checkpoints with experts in every layer, and heads that are not hidden_size / heads for qwen3_moe."""
    folder = tmp_path_factory.mktemp("sparse")
    more = {"num_experts": 5, "num_local_experts": 5, "moe_intermediate_size": 12, "decoder_sparse_step": 1}
    fakes.write_checkpoint(folder / "qwen3_moe", model_type="qwen3_moe", norm_topk_prob=True, head_dim=8, **more)
    fakes.write_checkpoint(folder / "qwen2_moe", model_type="qwen2_moe", norm_topk_prob=False,
                           shared_expert_intermediate_size=16, **more)  # fmt: skip
    return folder


def same(folder, path):
    """The GGUF model, after its logits were found to have the bits of the original's."""
    made, original = refmoe.load(path), refmoe.load(folder)
    for several in (IDS, IDS[:1]):
        assert np.array_equal(made.forward(several).view(np.uint32), original.forward(several).view(np.uint32))
    return made, original


@pytest.mark.parametrize("name", WHOLE)
def test_same_bits_as_the_original(tmp_path, name):
    path = tmp_path / "model.gguf"
    gguf_maker.convert(tiny.TINY / name, path)
    made, original = same(tiny.TINY / name, path)
    assert name == "kimi_k2" or made.program.digest() == original.program.digest()


@pytest.mark.parametrize("name", ["qwen2_moe", "qwen3_moe"])
def test_same_bits_with_experts_in_every_layer(tmp_path, sparse, name):
    path = tmp_path / "model.gguf"
    gguf_maker.convert(sparse / name, path)
    made, original = same(sparse / name, path)
    assert made.program.digest() == original.program.digest()


@pytest.mark.parametrize("name", ["gpt_oss", "gpt_oss-square-raw"])
def test_gpt_oss(tmp_path, name):
    """With the settings that are fixed in such files: limit 7, alpha 1.702, windows in turn, yarn not truncated."""
    folder, path = tmp_path / name, tmp_path / "model.gguf"
    shutil.copytree(tiny.TINY / name, folder)
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in
              ("swiglu_limit", "swiglu_alpha", "layer_types", "initial_context_length", "rope_scaling", "rope_theta")}
    config["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 4.0,
                                 "original_max_position_embeddings": 8, "truncate": False}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    gguf_maker.convert(folder, path)
    made, original = same(folder, path)
    assert made.program.digest() == original.program.digest()


@pytest.mark.parametrize("name", ["deepseek_v2", "kimi_k2"])
def test_latent_attention_in_one_matrix_as_in_older_files(tmp_path, name):
    path = tmp_path / "model.gguf"
    gguf_maker.convert(tiny.TINY / name, path, split=False)
    same(tiny.TINY / name, path)


def test_halves_of_latent_attention_must_fit(tmp_path):
    path = tmp_path / "model.gguf"

    def encode(name, array):
        return gguf_maker.plain(array[:, :, :-1] if name == "blk.1.attn_v_b.weight" else array)

    gguf_maker.convert(tiny.TINY / "kimi_k2", path, encode)
    with pytest.raises(CheckpointError, match=r"k_b_proj\.weight and .*v_b_proj\.weight: expected \[heads"):
        checkpoint.open(path)


def test_split_into_parts_and_a_directory(tmp_path):
    folder = tiny.TINY / "mixtral"
    config, found = json.loads((folder / "config.json").read_text()), gguf_maker.arrays(folder)
    tensors = list(gguf_maker.tensors(config, found, lambda _, array: gguf_maker.plain(array)).items())
    for n, part in enumerate((tensors[:5], tensors[5:])):
        keys = {"split.no": ("u16", n), "split.count": ("u16", 2), "split.tensors.count": ("i32", len(tensors))}
        more = gguf_maker.settings(config) if n == 0 else {}
        (tmp_path / f"m-0000{n + 1}-of-00002.gguf").write_bytes(gguf_maker.pack(keys | more, dict(part)))
    same(folder, tmp_path)
    same(folder, tmp_path / "m-00002-of-00002.gguf")
    assert list(checkpoint.open(tmp_path).files) == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_fused_stacks_and_projections(tmp_path):
    """Gate and up in one stack, q, k and v in one matrix, experts as single tensors: other ways to store the same."""
    folder, path = tiny.TINY / "mixtral", tmp_path / "model.gguf"
    config, found = json.loads((folder / "config.json").read_text()), gguf_maker.arrays(folder)
    tensors = gguf_maker.tensors(config, found, lambda _, array: array)
    for layer in range(config["num_hidden_layers"]):
        gate, up, down = (tensors.pop(f"blk.{layer}.ffn_{part}_exps.weight") for part in ("gate", "up", "down"))
        if layer == 0:
            tensors[f"blk.{layer}.ffn_gate_up_exps.weight"] = np.concatenate([gate, up], axis=1)
            tensors[f"blk.{layer}.ffn_down_exps.weight"] = down
        else:
            tensors |= {f"blk.{layer}.ffn_{name}.{e}.weight": stack[e] for e in range(len(gate))
                        for name, stack in (("gate", gate), ("up", up), ("down", down))}  # fmt: skip
        parts = [tensors.pop(f"blk.{layer}.attn_{part}.weight") for part in "qkv"]
        tensors[f"blk.{layer}.attn_qkv.weight"] = np.concatenate(parts)
    written = {name: gguf_maker.plain(array) for name, array in tensors.items()}
    path.write_bytes(gguf_maker.pack(gguf_maker.settings(config), written))
    same(folder, path)


KINDS = {"attn_output": "q3_k", "token_embd.weight": "q8_0", "output.weight": "q6_k", "attn_q": "q4_0",
         "attn_k": "iq4_nl", "attn_v": "q5_1", "blk.0.ffn_gate_exps": "q4_k", "blk.0.ffn_up_exps": "q6_k",
         "blk.0.ffn_down_exps": "q5_0", "blk.1.ffn_gate_exps": "mxfp4_halves", "blk.1.ffn_up_exps": "iq4_xs",
         "blk.1.ffn_down_exps": "q2_k", "blk.2.ffn_gate_exps": "q5_k", "blk.2.ffn_up_exps": "q4_1",
         "blk.2.ffn_down_exps": "f16"}  # fmt: skip


def test_many_types_in_one_layer(tmp_path):
    """Catalogue E09: the types of a layer's tensors differ, also of gate and up. Bits as with what the blocks mean in
    binary32, rows of q and k in order again."""
    folder, path = tmp_path / "plain", tmp_path / "model.gguf"
    config = fakes.TINY | {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 3, "vocab_size": 40,
                           "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
    fakes.write_checkpoint(folder, **config)
    meant = {}

    def encode(name, array):
        kind = next((kind for stem, kind in KINDS.items() if stem in name), None)
        if kind is None:
            return gguf_maker.plain(array)
        rows, cols = array.reshape(-1, array.shape[-1]).shape
        if kind == "f16":
            raw, meant[name] = codecs.f32_to_f16(array).tobytes(), array.astype(np.float16).astype(np.float32)
            return "F16", tuple(reversed(array.shape)), raw
        (weight,) = quantised.weights(kind, rows, cols)
        meant[name] = formats.decode(weight).reshape(array.shape)
        dtype = formats.get(kind).dtypes[0]
        return dtype, tuple(reversed(array.shape)), weight.parts[".weight"].tobytes()

    gguf_maker.convert(folder, path, encode)
    values = gguf_maker.arrays(folder)
    kept = gguf_maker.tensors(config, values, lambda name, array: meant.get(name, array))
    plain = tmp_path / "plain.gguf"
    written = {name: gguf_maker.plain(array) for name, array in kept.items()}
    plain.write_bytes(gguf_maker.pack(gguf_maker.settings(config), written))
    same(plain, path)
    found = {matrix.format for matrix in checkpoint.claim(*claimed(path)).matrices.values()}
    assert found == {*KINDS.values(), "f32"}
    told = CliRunner().invoke(main, ["info", "-m", str(path)]).stdout
    assert "q4_k+mxfp4_halves+q5_k" in told


def claimed(path):
    opened = checkpoint.open(path)
    return opened, program.build(opened.config, opened.source)


def test_types_that_are_not_supported_are_named(tmp_path):
    path = tmp_path / "model.gguf"
    config = fakes.TINY | {"hidden_size": 256, "vocab_size": 40}
    fakes.write_checkpoint(tmp_path / "plain", **config)
    number = {"IQ2_XS": (17, 74), "TQ1_0": (34, 54), "NVFP4": (40, 144)}
    for kind, (code, size) in number.items():
        def encode(name, array, code=code, size=size):
            if name != "blk.1.attn_v.weight":
                return gguf_maker.plain(array)
            return code, (256, len(array)), bytes(size * len(array))

        gguf_maker.convert(tmp_path / "plain", path, encode)
        with pytest.raises(CheckpointError) as caught:
            checkpoint.claim(*claimed(path))
        assert f"1 unfit tensors: model.layers.1.self_attn.v_proj.weight in model.gguf has dtype {kind}" in \
            str(caught.value)  # fmt: skip


def llama3(config, length=8192, factor=8.0):
    """rope_freqs.weight as the usual converter computes it."""
    size = config["head_dim"]
    theta = config.get("rope_theta") or config["rope_scaling"]["rope_theta"]
    found = []
    for i in range(size // 2):
        wave = 2 * math.pi * theta ** (2 * i / size)
        smooth = (length / wave - 1) / 3
        found.append(1.0 if wave < length / 4 else factor if wave > length else 1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


@pytest.mark.parametrize("length", [8192, 24])
def test_llama3_from_the_divisors_of_frequencies(tmp_path, length):
    folder, path = tmp_path / "llama", tmp_path / "model.gguf"
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": length}  # fmt: skip
    theta = 10000.0 if length == 24 else 500000.0
    more = {"model_type": "llama", "rope_scaling": scaling, "head_dim": 32, "rope_theta": theta}
    config = fakes.TINY | more | {"num_local_experts": None, "num_experts_per_tok": None}
    fakes.write_checkpoint(folder, **config)
    tensors = gguf_maker.tensors(config, gguf_maker.arrays(folder), lambda _, array: gguf_maker.plain(array))
    tensors["rope_freqs.weight"] = gguf_maker.plain(llama3(config, length))
    path.write_bytes(gguf_maker.pack(gguf_maker.settings(config), tensors))
    made, original = same(folder, path)
    assert made.program.digest() == original.program.digest()
    tensors["rope_freqs.weight"] = gguf_maker.plain(llama3(config, length) * np.float32(1.01))
    path.write_bytes(gguf_maker.pack(gguf_maker.settings(config), tensors))
    with pytest.raises(ConfigError, match=r"rope_freqs\.weight: expected the divisors of llama3"):
        checkpoint.open(path)


@pytest.fixture
def mixtral(tmp_path):
    """(path, the metadata, the tensors) of a model to spoil."""
    folder = tiny.TINY / "mixtral"
    config = json.loads((folder / "config.json").read_text())
    tensors = gguf_maker.tensors(config, gguf_maker.arrays(folder), lambda _, array: gguf_maker.plain(array))
    return tmp_path / "model.gguf", gguf_maker.settings(config), tensors


def report(path):
    opened = checkpoint.open(path)
    return opened.config, opened.metadata_report


def test_what_absent_keys_mean(mixtral):
    path, keys, tensors = mixtral
    gone = ("attention.head_count_kv", "rope.freq_base", "vocab_size", "rope.dimension_count")
    kept = {key: value for key, value in keys.items() if not key.endswith(gone)} | {"llama.attention.head_count": 2}
    path.write_bytes(gguf_maker.pack(kept, tensors))
    config, found = report(path)
    assert (config["num_key_value_heads"], config["rope_theta"], config["vocab_size"]) == (2, 10000.0, 97)
    assert found["llama.attention.head_count_kv"] == ("assumed", "not set: 2")
    assert found["llama.rope.freq_base"] == ("assumed", "not set: 10000.0")
    assert found["general.name"][0] == "ignored" and found["llama.block_count"] == ("used", "config")
    assert "norm_topk_prob" not in config  # mixtral has no choice


@pytest.mark.parametrize(("name", "renormalised"), [("qwen2_moe", False), ("qwen3_moe", True)])
def test_renormalising_has_no_key_and_follows_the_architecture(tmp_path, sparse, name, renormalised):
    """Catalogue R08: neither class default of transformers is taken."""
    path = tmp_path / "model.gguf"
    gguf_maker.convert(sparse / name, path)
    assert report(path)[0]["norm_topk_prob"] is renormalised
    arch = gguf_maker.ARCH[name]
    gguf_maker.convert(sparse / name, path, **{f"{arch}.expert_weights_norm": renormalised})
    assert report(path)[0]["norm_topk_prob"] is renormalised
    gguf_maker.convert(sparse / name, path, **{f"{arch}.expert_weights_norm": not renormalised})
    with pytest.raises(ConfigError, match=f"expert_weights_norm: expected {renormalised}, found {not renormalised}"):
        checkpoint.open(path)


@pytest.mark.parametrize("name", ["mistral-window", "mixtral-window-linear"])
def test_a_window_that_the_file_states(tmp_path, name):
    path = tmp_path / "model.gguf"
    window = json.loads((tiny.TINY / name / "config.json").read_text())["sliding_window"]
    gguf_maker.convert(tiny.TINY / name, path, **{"llama.attention.sliding_window": window})
    made, original = same(tiny.TINY / name, path)
    assert made.program.digest() == original.program.digest()


def test_keys_that_may_only_repeat_what_the_architecture_is(tmp_path, sparse):
    path = tmp_path / "model.gguf"
    gguf_maker.convert(sparse / "qwen3_moe", path, **{"qwen3moe.expert_shared_feed_forward_length": 0,
                                                      "qwen3moe.expert_gating_func": 1})  # fmt: skip
    same(sparse / "qwen3_moe", path)
    gguf_maker.convert(tiny.TINY / "mixtral", path, **{"llama.expert_weights_norm": True})
    same(tiny.TINY / "mixtral", path)
    gguf_maker.convert(sparse / "qwen3_moe", path, **{"qwen3moe.expert_shared_feed_forward_length": 16})
    with pytest.raises(ConfigError, match="expert_shared_feed_forward_length: expected 0, found 16"):
        checkpoint.open(path)


def test_deepseek_without_the_newer_keys(tmp_path):
    path = tmp_path / "model.gguf"
    gguf_maker.convert(tiny.TINY / "deepseek_v2", path)
    config, found = report(path)
    assert (config["scoring_func"], config["model_type"], config["topk_method"]) == ("softmax", "deepseek_v2", "greedy")
    assert found["deepseek2.expert_gating_func"] == ("assumed", "not set: 1")
    assert config["norm_topk_prob"] is False
    gguf_maker.convert(tiny.TINY / "kimi_k2", path, **{"deepseek2.expert_gating_func": None})
    assert report(path)[0]["scoring_func"] == "sigmoid"
    gguf_maker.convert(tiny.TINY / "kimi_k2", path, **{"deepseek2.expert_gating_func": 1})
    with pytest.raises(ConfigError, match=r"expert_gating_func: expected 2 \(sigmoid\) with exp_probs_b"):
        checkpoint.open(path)


SPOILED = {
    "architecture": ({"general.architecture": "falcon"}, "general.architecture: expected one of deepseek2, glm4moe"),
    "no_architecture": ({"general.architecture": None}, "general.architecture: expected one of"),
    "architecture_array": ({"general.architecture": (["u32"], [1, 2])}, "expected one of deepseek2"),
    "type_array": ({"general.type": (["str"], ["model"])}, "general.type: expected model, found an array of 1"),
    "eos_text": ({"tokenizer.ggml.eos_token_id": "2"}, "eos_token_id: expected a token id, found 2"),
    "adapter": ({"general.type": "adapter"}, "general.type: expected model, found adapter"),
    "old_quants": ({"general.quantization_version": 1}, "general.quantization_version: expected 2, found 1"),
    "unknown_key": ({"llama.attention.softcap": 3.0}, "llama.attention.softcap: expected a known key"),
    "other_arch_key": ({"qwen2.block_count": 3}, "qwen2.block_count: expected a known key"),
    "missing": ({"llama.embedding_length": None}, "llama.embedding_length: expected an integer, found nothing"),
    "string": ({"llama.block_count": "2"}, "llama.block_count: expected an integer, found 2"),
    "float": ({"llama.block_count": 2.0}, "llama.block_count: expected an integer, found 2.0"),
    "array": ({"llama.feed_forward_length": (["u32"], [28, 30])}, "feed_forward_length: expected an integer, found an"),
    "zero_heads": ({"llama.attention.head_count": 0}, "head_count: expected a number above 0, found 0"),
    "negative_heads": ({"llama.attention.head_count": ("i32", -6)}, "head_count: expected a number above 0"),
    "vocab": ({"llama.vocab_size": 96}, "llama.vocab_size: expected 97, the rows of token_embd.weight, found 96"),
    "value_width": ({"llama.attention.value_length": 4}, "value_length: expected 8, found 4"),
    "rope_width": ({"llama.rope.dimension_count": 4}, "rope.dimension_count: expected 8, found 4"),
    "no_width": ({"llama.attention.key_length": None, "llama.attention.head_count": 7},
                 "key_length: expected a number, because 40 is no multiple of 7 heads"),
    "scaling": ({"llama.rope.scaling.type": "longrope"}, "rope.scaling.type: expected none, linear or yarn"),
    "no_factor": ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.factor: expected a number, found nothing"),
    "factor_alone": ({"llama.rope.scaling.factor": 4.0}, "rope.scaling.factor: expected 0.0 or 1.0, found 4.0"),
    "scale": ({"llama.expert_weights_scale": 2.5}, "expert_weights_scale: expected 0.0 or 1.0, found 2.5"),
    "gating": ({"llama.expert_gating_func": 2}, "expert_gating_func: expected 1, found 2"),
    "causal": ({"llama.attention.causal": False}, "attention.causal: expected True, found False"),
    "heads_do_not_divide": ({"llama.attention.head_count_kv": 4}, "num_key_value_heads"),
    "k_above_experts": ({"llama.expert_used_count": 6}, "num_experts_per_tok"),
    "pairs": ({"llama.attention.head_count": 10, "llama.attention.head_count_kv": 5},
              "48 rows are no pairs of 10 heads"),
    "eps": ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "rms_norm_eps"),
    "rope_base": ({"llama.rope.freq_base": 0.0}, "rope_theta"),
    "layers": ({"llama.block_count": 3}, "missing tensors: model.layers.2."),
    "no_layers": ({"llama.block_count": 0}, "block_count: expected 1 to 10000 layers, found 0"),
    "four_billion_layers": ({"llama.block_count": (1 << 32) - 1}, "expected 1 to 10000 layers, found 4294967295"),
    "negative_layers": ({"llama.block_count": ("i32", -1)}, "expected 1 to 10000 layers, found -1"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_metadata_that_cannot_be_used(mixtral, name):
    path, keys, tensors = mixtral
    changes, message = SPOILED[name]
    path.write_bytes(gguf_maker.pack({k: v for k, v in (keys | changes).items() if v is not None}, tensors))
    with pytest.raises(RefmoeError) as caught:
        opened = checkpoint.open(path)
        checkpoint.claim(opened, program.build(opened.config, opened.source))
    assert message in str(caught.value) and str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


def test_tensors_that_do_not_fit(mixtral):
    path, keys, tensors = mixtral
    for changes, message in (
        ({"blk.0.attn_q.weight": None}, "missing tensors: model.layers.0.self_attn.q_proj.weight"),
        ({"blk.0.surprise.weight": tensors["output_norm.weight"]}, "unknown tensors: blk.0.surprise.weight"),
        ({"token_embd.weight": None}, "token_embd.weight: expected a matrix of this name, found none"),
        ({"blk.0.attn_q_b.weight": tensors["blk.0.attn_q.weight"]}, "unknown tensors: model.layers.0.self_attn.q_b"),
        ({"blk.0.ffn_gate_exps.weight": tensors["blk.0.attn_q.weight"]}, "no stack of experts: [48, 40]"),
        ({"blk.0.ffn_gate.0.weight": tensors["blk.0.attn_q.weight"]}, "two tensors stand for model.layers.0.block"),
        ({"blk.1.ffn_norm.weight": tensors["blk.0.attn_q.weight"]}, "post_attention_layernorm.weight in model.gguf"),
    ):
        found = {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}
        path.write_bytes(gguf_maker.pack(keys, found))
        with pytest.raises(RefmoeError) as caught:
            opened = checkpoint.open(path)
            checkpoint.claim(opened, program.build(opened.config, opened.source))
        assert message in str(caught.value)


def test_chat_and_suggested_sampling(tmp_path):
    path, tokens = tmp_path / "model.gguf", [*ALPHABET, "<|im_start|>", "<|im_end|>"]
    template = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    keys = {"model": "gpt2", "pre": "gpt-2", "tokens": tokens, "merges": (["str"], []), "bos_token_id": 256,
            "eos_token_id": 257, "token_type": (["i32"], [1] * 256 + [3, 3])}  # fmt: skip
    metadata = {f"tokenizer.ggml.{key}": value for key, value in keys.items()} | {
        "tokenizer.chat_template": template, "tokenizer.chat_template.tool_use": "{{ tools }}",
        "general.sampling.temp": 0.7, "general.sampling.top_k": ("i32", 20)}  # fmt: skip
    fakes.write_checkpoint(tmp_path / "plain")
    gguf_maker.convert(tmp_path / "plain", path, **metadata)
    model = refmoe.load(path)
    assert (model.start_id, model.end_ids) == (256, {257}) and model.encode("a") == [ALPHABET.index("a")]
    assert model.suggested == {"temperature": 0.7, "top_k": 20}
    answer = model.chat([{"role": "user", "content": "hi<|im_end|>"}], max_tokens=2)
    letters = [ALPHABET.index(letter) for letter in "hi<|im_end|>"]
    assert list(answer.prompt_ids) == [256, 256, *letters, 257]
    assert sorted(model.template.texts) == ["default", "tool_use"]


def test_shortest_decimals():
    for value in (1e-6, 1e-5, 0.707, 2.827, 10000.0, 1e7, 0.1, 150000.0, 1.0 / 3):
        assert decimal(float(np.float32(value))) == float(str(np.float32(value)))
    assert decimal(float(np.float32(1e-6))) == 1e-6 and decimal(0.1) == 0.1 and decimal(1e300) == 1e300


def test_command_line(tmp_path):
    path = tmp_path / "model.gguf"
    gguf_maker.convert(tiny.TINY / "mixtral", path)
    told = CliRunner().invoke(main, ["info", "-m", str(path)])
    assert told.exit_code == 0 and "softmax over all experts, top-2" in told.stdout and "general.name" in told.stdout
    facts = json.loads(CliRunner().invoke(main, ["info", "-m", str(path), "--json"]).stdout)
    assert facts["metadata"]["general.name"][0] == "ignored" and facts["path"] == str(path)
    made = CliRunner().invoke(main, ["generate", "-m", str(path), "--ids", "1,2,3", "--max-tokens", "3", "--json"])
    assert made.exit_code == 0 and len(json.loads(made.stdout)["ids"]) == 3
    assert CliRunner().invoke(main, ["program", "-m", str(path)]).exit_code == 0
    path.write_bytes(path.read_bytes()[:5000])
    failed = CliRunner().invoke(main, ["info", "-m", str(path)])
    assert failed.exit_code == 1 and failed.stderr.count("\n") == 1 and "truncated" in failed.stderr
