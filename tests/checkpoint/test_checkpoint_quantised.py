"""Whole checkpoints in every quantised encoding: same bits as decoded; damaged ones are refused by name."""

import json

import numpy as np
import pytest

import refmoe
from refmoe import checkpoint, formats, program
from refmoe.errors import CheckpointError
from refmoe.numerics import counter
from tests import fakes, quantised

SIZES = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 50, "num_attention_heads": 4, "head_dim": 16,
         "num_key_value_heads": 2, "num_hidden_layers": 1, "num_local_experts": 3}  # fmt: skip
GROUP = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
FP8 = {"quant_method": "fp8", "weight_block_size": [4, 16]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": False, "desc_act": False}


def compressed(layout, **weights):
    groups = {"group_0": {"targets": ["Linear"], "weights": GROUP | weights}}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": groups, "ignore": ["lm_head"]}


# format -> quantization_config, number of the setting in quantised.MAKERS
STORED = {
    "fp8_block": (FP8, 7),
    "fp8_scaled": (compressed("float-quantized", num_bits=8, type="float", strategy="channel", group_size=None), 4),
    "int8_scaled": (compressed("int-quantized", num_bits=8, strategy="block", group_size=None, symmetric=False,
                               block_structure=[3, 5]), 9),
    "int_packed": (compressed("pack-quantized", symmetric=False, group_size=16), 1),
    "gptq": (GPTQ | {"desc_act": True, "group_size": 24}, 6),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"}, 3),
    "mxfp4_packed": (compressed("mxfp4-pack-quantized", type="float"), 0),
    "nvfp4_packed": (compressed("nvfp4-pack-quantized", type="float", strategy="tensor_group", group_size=16), 0),
    "nvfp4_modelopt": ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 0),
}  # fmt: skip
NUMPY = {"F32": np.float32, "BF16": np.uint16, "F16": np.uint16, "I32": np.int32, "I64": np.int64}


def stored(weight):
    """{suffix: (dtype, shape, array)} of a matrix."""
    module = formats.get(weight.format)
    numbers = {name: weight.params[name] for name in getattr(module, "params", ())}
    dtypes = dict(zip(module.suffixes, module.dtypes, strict=True)) | getattr(module, "extras", {})
    found = {}
    for suffix, shape in module.stored_shapes(weight.rows, weight.cols, **numbers).items():
        if suffix in weight.parts:
            dtype = weight.params.get(suffix, dtypes[suffix])
            shape = next(s for s in shape if s is not None) if isinstance(shape, list) else shape
            found[suffix] = dtype, shape, weight.parts[suffix].view(NUMPY.get(dtype, np.uint8))
    return found


def build(format, only=""):
    """config, tensors of a mixtral whose matrices in layers are in a format, and the same with decoded f32 matrices.

    The router stays plain, though no list of the config says so; embedding and head as well.
    """
    settings, number = STORED[format]
    config = fakes.TINY | SIZES | {"quantization_config": settings}
    make, choices = quantised.MAKERS[format]
    tensors, plain = {}, {}
    for n, expected in enumerate(program.build(config, "config.json").expected()):
        name, rng = expected.tensor.name, np.random.default_rng([n, 7])
        if expected.tensor.kind == "matrix" and "layers" in name and not name.endswith("gate") and only in name:
            weight = make(rng, *expected.shape, *choices[number])
            if format.startswith("fp8"):  # without nan
                weight.parts[".weight"][weight.parts[".weight"] & 127 == 127] = 0x30
            if format == "mxfp4_packed":
                weight.parts[".weight_scale"] = 118 + weight.parts[".weight_scale"] % 5
            if format == "int8_scaled":
                weight.params["symmetric"] = 0
                count = weight.parts[".weight_scale"].size // 4
                weight.parts.setdefault(".weight_zero_point", np.zeros(count, np.uint8))
            tensors |= {name + suffix: entry for suffix, entry in stored(weight).items()}
            plain[name + ".weight"] = "F32", expected.shape, formats.decode(weight)
        else:
            name += ".weight" if expected.tensor.kind == "matrix" else ""
            values = counter.fill_normal(n, 0, int(np.prod(expected.shape)), 0.3)
            tensors[name] = plain[name] = "F32", expected.shape, values
    return config, tensors, plain


def write(folder, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write(folder / "model.safetensors", tensors, {})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def refusal(folder, config, tensors):
    with pytest.raises(CheckpointError) as caught:
        refmoe.load(write(folder, config, tensors))
    text = str(caught.value)
    assert text.isprintable() and str(folder) in text
    return text


@pytest.mark.parametrize("format", STORED)
def test_the_same_bits_as_decoded(format, tmp_path):
    config, tensors, plain = build(format)
    model = refmoe.load(write(tmp_path / "a", config, tensors))
    found = model.forward([1, 2, 3, 4, 40, 7, 0, 9, 9])
    del config["quantization_config"]
    expected = refmoe.load(write(tmp_path / "b", config, plain)).forward([1, 2, 3, 4, 40, 7, 0, 9, 9])
    assert np.array_equal(found, expected) and np.ptp(found) > 0.1
    assert {m.format for m in checkpoint.claim(model.checkpoint, model.program).matrices.values()} == {format, "f32"}


@pytest.mark.parametrize("format", STORED)
def test_a_missing_part_is_named(format, tmp_path):
    config, tensors, _ = build(format)
    for suffix in formats.get(format).suffixes[1:]:
        name = "model.layers.0.self_attn.q_proj" + suffix
        text = refusal(tmp_path, config, {key: entry for key, entry in tensors.items() if key != name})
        assert f"1 missing tensors: {name}" in text or "1 unfit tensors: model.layers.0.self_attn.q_proj.weight" in text


@pytest.mark.parametrize("format", STORED)
def test_a_wrong_shape_or_dtype_is_named(format, tmp_path):
    config, tensors, _ = build(format)
    for suffix in formats.get(format).suffixes:
        name = "model.layers.0.block_sparse_moe.experts.1.w2" + suffix
        dtype, shape, array = tensors[name]
        if shape not in ((), (1,)):
            wider = dtype, (*shape[:-1], shape[-1] + 1), np.zeros((*shape[:-1], shape[-1] + 1), array.dtype)
            text = refusal(tmp_path, config, tensors | {name: wider})
            assert f"1 unfit tensors: {name} in model.safetensors has shape {list(wider[1])}, the config asks" in text
        text = refusal(tmp_path, config, tensors | {name: ("I16", shape, np.zeros(shape, np.int16))})
        assert "1 unfit tensors: model.layers.0.block_sparse_moe.experts.1.w2" in text and "I16" in text


@pytest.mark.parametrize("format", STORED)
def test_a_scale_that_is_no_number_is_refused(format, tmp_path):
    config, tensors, _ = build(format)
    suffix = next(s for s in (".weight_scale_inv", ".weight_scale", ".scales") if s in formats.get(format).suffixes)
    name = "model.layers.0.self_attn.v_proj" + suffix
    dtype, shape, array = tensors[name]
    bad = array.reshape(-1).copy()
    bad[-1:] = np.nan if dtype == "F32" else {"BF16": 0x7FC0, "F16": 0x7E00, "U8": 255, "F8_E4M3": 0x7F}[dtype]
    text = refusal(tmp_path, config, tensors | {name: (dtype, shape, bad)})
    assert f"tensor {name}: scale number {bad.size - 1}: expected a finite number, found nan" in text


def test_numbers_that_kernels_would_use_as_places(tmp_path):
    config, tensors, _ = build("gptq")
    name = "model.layers.0.self_attn.q_proj.g_idx"
    for value in (-1, 3, 1 << 30):
        index = tensors[name][2].copy()
        index[5] = value
        text = refusal(tmp_path, config, tensors | {name: ("I32", (64,), index)})
        assert f"tensor {name}: expected groups 0 to 2, found" in text
    config, tensors, _ = build("int_packed")
    name = "model.layers.0.self_attn.q_proj.weight_shape"
    text = refusal(tmp_path, config, tensors | {name: ("I64", (2,), np.array([64, 65]))})
    assert f"tensor {name}: expected [64, 64], found [64, 65]" in text


def test_an_order_of_columns_must_be_stored(tmp_path):
    config, tensors, _ = build("int_packed")
    config["quantization_config"] = compressed("pack-quantized", symmetric=False, group_size=16, actorder="group")
    assert "missing tensors: model.layers.0.self_attn.q_proj.weight_g_idx, " in refusal(tmp_path, config, tensors)
    config, tensors, _ = build("gptq")
    del tensors["model.layers.0.self_attn.q_proj.g_idx"]
    assert "1 missing tensors: model.layers.0.self_attn.q_proj.g_idx" in refusal(tmp_path, config, tensors)


def test_a_group_that_does_not_divide(tmp_path):
    config, tensors, _ = build("int_packed")
    config["quantization_config"] = compressed("pack-quantized", symmetric=False, group_size=48)
    assert "weight_packed in model.safetensors has 64 columns, expected a multiple of the group size 48" in refusal(
        tmp_path, config, tensors)  # fmt: skip


def test_config_and_tensors_must_agree(tmp_path):
    config, tensors, plain = build("fp8_block")
    without = {key: value for key, value in config.items() if key != "quantization_config"}
    text = refusal(tmp_path, without, tensors)
    assert "model.safetensors has the encoding fp8_block, but the config has no quantization_config" in text
    text = refusal(tmp_path, config | {"quantization_config": GPTQ}, tensors)
    assert "has the encoding fp8_block, quantization_config names gptq" in text
    text = refusal(tmp_path, config | {"quantization_config": FP8 | {"weight_block_size": [4, 8]}}, tensors)
    assert "weight_scale_inv in model.safetensors has shape [16, 4], the config asks for [16, 8]" in text
    found = refmoe.load(write(tmp_path, config, plain))  # all plain: then they are plain
    assert {m.format for m in checkpoint.claim(found.checkpoint, found.program).matrices.values()} == {"f32"}


def test_gptq_or_awq_is_what_the_config_says(tmp_path):
    config, tensors, _ = build("awq")
    text = refusal(tmp_path, config | {"quantization_config": GPTQ}, tensors)
    assert "q_proj.qweight in model.safetensors has shape [64, 8], the config asks for [8, 64]" in text


def test_scales_of_activations_and_caches_are_ignored_with_a_reason(tmp_path):
    config, tensors, _ = build("fp8_scaled")
    for name in ("q_proj.input_scale", "k_proj.k_scale", "v_proj.v_scale"):
        tensors[f"model.layers.0.self_attn.{name}"] = "F32", (1,), np.ones(1, np.float32)
    model = refmoe.load(write(tmp_path, config, tensors))
    ignored = checkpoint.claim(model.checkpoint, model.program).ignored
    assert ignored["model.layers.0.self_attn.q_proj.input_scale"].startswith("activations stay binary32")
    assert ignored["model.layers.0.self_attn.k_proj.k_scale"].startswith("scale of a quantised cache")
    del config["quantization_config"]
    assert "unknown tensors" in refusal(tmp_path, config, tensors)


def test_biases_of_zeros_beside_gptq(tmp_path):
    config, tensors, _ = build("gptq")
    name = "model.layers.0.block_sparse_moe.experts.2.w1.bias"
    tensors[name] = "F16", (96,), np.zeros(96, np.uint16)
    model = refmoe.load(write(tmp_path, config, tensors))
    assert checkpoint.claim(model.checkpoint, model.program).ignored[name].startswith("a bias the model does not have")
    tensors[name][2][95] = 1
    assert f"tensor {name}: expected zeros" in refusal(tmp_path, config, tensors)
    tensors[name.replace("w1", "gate")] = "F16", (3,), np.zeros(3, np.uint16)
    assert "unknown tensors: model.layers.0.block_sparse_moe.experts.2.gate.bias" in refusal(tmp_path, config, tensors)


def test_two_encodings_side_by_side(tmp_path):
    config, tensors, plain = build("int_packed", only="experts")
    _, others, decoded = build("fp8_scaled", only="self_attn")
    mixed = compressed("mixed-precision")
    mixed["config_groups"] = {
        "a": STORED["int_packed"][0]["config_groups"]["group_0"] | {"format": "pack-quantized"},
        "b": STORED["fp8_scaled"][0]["config_groups"]["group_0"] | {"format": "float-quantized"}}  # fmt: skip
    config["quantization_config"] = mixed
    whole = {key: entry for key, entry in tensors.items() if "self_attn" not in key}
    whole |= {key: entry for key, entry in others.items() if "self_attn" in key}
    plain |= {key: entry for key, entry in decoded.items() if "self_attn" in key}
    found = refmoe.load(write(tmp_path / "a", config, whole)).forward([1, 2, 3])
    del config["quantization_config"]
    assert np.array_equal(found, refmoe.load(write(tmp_path / "b", config, plain)).forward([1, 2, 3]))


def test_settings_that_both_fit_are_refused(tmp_path):
    config, tensors, _ = build("gptq")
    config["quantization_config"] = GPTQ | {"group_size": 24, "dynamic": {"+:.*w1.*": {"group_size": 23}}}
    assert "several encodings of quantization_config that fit it" in refusal(tmp_path, config, tensors)
