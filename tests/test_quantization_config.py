"""quantization_config: every field is used, ignored with a reason or refused; what the schemes are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "archs"))
from arch_configs import config

from refmoe.config.quantization import Scheme
from refmoe.errors import ConfigError
from refmoe.program import build

FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 64]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}
WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32, "dynamic": False}


def compressed(layout="pack-quantized", weights=None, **more):
    group = {"targets": ["Linear"], "weights": WEIGHTS | (weights or {}), "input_activations": None}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group},
            "ignore": ["lm_head", "re:.*(((a+)+)+)$"]} | more  # fmt: skip


def program(values, key="quantization_config"):
    return build(config("qwen3_moe", **{key: values}))


def schemes(values):
    return [(scheme.format, scheme.params) for scheme in program(values).quantization.schemes]


def refusal(values, key="quantization_config"):
    with pytest.raises(ConfigError) as caught:
        build(config("qwen3_moe", **{key: values}), "config.json")
    text = str(caught.value)
    assert text.startswith(f"config.json: {key}") and text.isprintable() and len(text) < 400
    return text.removeprefix(f"config.json: {key}").lstrip(".: ")


def test_fp8():
    blocks = {"block_rows": 128, "block_cols": 64}
    assert schemes(FP8) == [("fp8_block", blocks), ("fp8_scaled", blocks)]
    assert schemes({"quant_method": "fp8", "weight_block_size": None})[1] == (
        "fp8_scaled", {"block_rows": 0, "block_cols": 0})  # fmt: skip
    report = program(FP8 | {"modules_to_not_convert": ["lm_head"], "scale_fmt": "ue8m0"}).config_report
    assert report["quantization_config.modules_to_not_convert"][0] == "ignored"
    assert report["quantization_config.activation_scheme"] == (
        "used", "activations stay binary32: only the encoding of the weights is used")  # fmt: skip


def test_gptq():
    base = {"bits": 4, "group": 128, "symmetric": 1, "act_order": 0, "zero_offset": 1}
    assert schemes(GPTQ) == [("gptq", base)]
    assert schemes(GPTQ | {"checkpoint_format": "gptq_v2"}) == [("gptq", base | {"zero_offset": 0})]
    assert schemes(GPTQ | {"format": "gptq_v2"}) == [("gptq", base | {"zero_offset": 0})]
    assert schemes(GPTQ | {"group_size": -1, "bits": 8, "sym": False, "desc_act": True}) == [
        ("gptq", {"bits": 8, "group": 0, "symmetric": 0, "act_order": 1, "zero_offset": 1})]  # fmt: skip
    without = {key: value for key, value in GPTQ.items() if key != "sym"}
    assert schemes(without) == [("gptq", base | {"symmetric": 0})]  # the stored zero points tell
    dynamic = {"dynamic": {"-:.*router": {}, "+:.*mlp.*": {"bits": 8, "group_size": 32}}}
    assert schemes(GPTQ | dynamic) == [("gptq", base), ("gptq", base | {"bits": 8, "group": 32})]


def test_awq_mxfp4_modelopt():
    assert schemes(AWQ | {"version": "GEMM", "modules_to_not_convert": ["gate"]}) == [("awq", {"group": 64})]
    assert schemes({"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}) == [("mxfp4_blocks", {})]
    assert schemes({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"],
                    "kv_cache_quant_algo": "FP8"}) == [("nvfp4_modelopt", {})]  # fmt: skip
    assert schemes({"quant_method": "modelopt", "quant_algo": "FP8"}) == [
        ("fp8_scaled", {"block_rows": 0, "block_cols": 0})]  # fmt: skip


def test_auto_round_and_fbgemm():
    values = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "data_type": "int", "iters": 200,
              "packing_format": "auto_round:auto_gptq", "autoround_version": "0.4.6", "nsamples": 512,
              "extra_config": {"model.layers.0.mlp.gate": {"bits": 16}, "lm_head": {"bits": 8, "group_size": 32}}}
    base = {"bits": 4, "group": 128, "symmetric": 1, "act_order": 0, "zero_offset": 1}
    assert schemes(values) == [("gptq", base), ("gptq", base | {"bits": 8, "group": 32})]
    assert schemes(values | {"packing_format": "auto_round", "extra_config": None}) == [
        ("gptq", base | {"zero_offset": 0})]  # fmt: skip
    assert schemes(values | {"packing_format": "auto_round:auto_awq", "extra_config": {}}) == [("awq", {"group": 128})]
    assert refusal(values | {"packing_format": "auto_round:llm_compressor"}).startswith("packing_format: expected one")
    assert refusal(values | {"data_type": "mx_fp"}).startswith('data_type: expected "int"')
    assert refusal(values | {"super_bits": 6}).startswith("super_bits: expected a known key")
    assert schemes({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": []}) == [
        ("fp8_scaled", {"block_rows": 1, "block_cols": 0})]  # fmt: skip


@pytest.mark.parametrize(("layout", "weights", "expected"), [
    ("pack-quantized", {}, ("int_packed", {"bits": 4, "group": 32, "symmetric": 1})),
    ("pack-quantized", {"strategy": "channel", "group_size": -1, "symmetric": False, "num_bits": 8},
     ("int_packed", {"bits": 8, "group": 0, "symmetric": 0})),
    ("pack-quantized", {"strategy": None, "group_size": -1}, ("int_packed", {"bits": 4, "group": 0, "symmetric": 1})),
    ("int-quantized", {"num_bits": 8, "strategy": "channel", "group_size": None},
     ("int8_scaled", {"block_rows": 1, "block_cols": 0, "symmetric": 1})),
    ("naive-quantized", {"num_bits": 8, "strategy": "tensor", "group_size": None, "symmetric": False},
     ("int8_scaled", {"block_rows": 0, "block_cols": 0, "symmetric": 0})),
    ("float-quantized", {"num_bits": 8, "type": "FLOAT", "strategy": "channel", "group_size": None},
     ("fp8_scaled", {"block_rows": 1, "block_cols": 0})),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "group_size": None,
                         "block_structure": [128, 32]}, ("fp8_scaled", {"block_rows": 128, "block_cols": 32})),
    ("mxfp8-quantized", {"num_bits": 8, "type": "float"}, ("fp8_scaled", {"block_rows": 1, "block_cols": 32})),
    ("mxfp4-pack-quantized", {"type": "float"}, ("mxfp4_packed", {})),
    ("nvfp4-pack-quantized", {"type": "float", "strategy": "tensor_group", "group_size": 16}, ("nvfp4_packed", {})),
])  # fmt: skip
def test_compressed_tensors(layout, weights, expected):
    assert schemes(compressed(layout, weights)) == [expected]


def test_the_older_key_and_both():
    values = compressed()
    assert program(values, "compression_config").quantization.schemes[0].format == "int_packed"
    both = build(config("qwen3_moe", quantization_config=FP8, compression_config=FP8)).config_report
    assert both["compression_config"][0] == "used"
    with pytest.raises(ConfigError, match="compression_config: expected the same as quantization_config"):
        build(config("qwen3_moe", quantization_config=FP8, compression_config=values))


def test_several_groups():
    values = compressed("mixed-precision")
    first = values["config_groups"]["group_0"]
    values["config_groups"] = {
        "group_0": first | {"format": "pack-quantized"},
        "experts": {"targets": ["re:.*experts.*"], "format": "float-quantized", "weights": {
            "num_bits": 8, "type": "float", "strategy": "channel"}},
        "cache": {"targets": ["Attention"], "format": "pack-quantized", "output_activations": {"num_bits": 8}},
    }  # fmt: skip
    assert [name for name, _ in schemes(values)] == ["int_packed", "fp8_scaled"]
    assert program(values).quantization.schemes[1] == Scheme(
        "fp8_scaled", {"block_rows": 1, "block_cols": 0}, "quantization_config.config_groups.experts.weights")
    del values["config_groups"]["group_0"]["format"]
    assert refusal(values).startswith("config_groups.group_0.format: expected one of pack-quantized, ")


@pytest.mark.parametrize(("values", "message"), [
    ({}, "quant_method: expected one of fp8, "),
    ([], "expected an object, found []"),
    ("gptq", 'expected an object, found "gptq"'),
    ({"bits": 4}, "quant_method: expected one of "),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True},
     'quant_method: expected one of fp8, compressed-tensors, gptq, awq, mxfp4, modelopt, auto-round, fbgemm_fp8, '
     'found "bitsandbytes"'),
    ({"quant_method": ["fp8"]}, "quant_method: expected one of "),
    (FP8 | {"fmt": "e5m2"}, 'fmt: expected "e4m3"'),
    (FP8 | {"activation_scheme": "magic"}, "activation_scheme: expected "),
    (FP8 | {"weight_block_size": [128]}, "weight_block_size: expected a list of two positive integers, found [128]"),
    (FP8 | {"weight_block_size": [128, 0]}, "weight_block_size: expected"),
    (FP8 | {"weight_block_size": [True, 128]}, "weight_block_size: expected"),
    (FP8 | {"weight_block_size": [1 << 70, 128]}, "weight_block_size: expected"),
    (FP8 | {"expert_dtype": "fp4"}, 'expert_dtype: expected "fp8"'),
    (FP8 | {"strange": 1}, "strange: expected a known key"),
    (GPTQ | {"bits": 3}, "bits: expected 4 or 8, found 3"),
    (GPTQ | {"bits": 2}, "bits: expected 4 or 8, found 2"),
    (GPTQ | {"bits": None}, "bits: expected an integer"),
    (GPTQ | {"group_size": 0}, "group_size: expected a positive integer, or -1 for a whole row, found 0"),
    (GPTQ | {"group_size": None}, "group_size: expected an integer"),
    (GPTQ | {"sym": 1}, "sym: expected true or false"),
    (GPTQ | {"checkpoint_format": "marlin"}, 'checkpoint_format: expected one of gptq, gptq_v2, found "marlin"'),
    (GPTQ | {"checkpoint_format": "gptq_v2", "format": "gptq"}, 'format: expected "gptq_v2" as in checkpoint_format'),
    (GPTQ | {"is_marlin_format": True}, "is_marlin_format: expected false"),
    (GPTQ | {"pack_dtype": "int64"}, 'pack_dtype: expected "int32"'),
    (GPTQ | {"dynamic": {"+:x": {"bits": 3}}}, "dynamic.+:x.bits: expected 4 or 8, found 3"),
    (GPTQ | {"dynamic": {"+:x": {"rotation": 3}}}, "dynamic.+:x.rotation: expected a known key"),
    (AWQ | {"version": "gemv"}, 'version: expected one of gemm, found "gemv"'),
    (AWQ | {"version": "gemv_fast"}, "version: expected one of gemm"),
    (AWQ | {"bits": 3}, "bits: expected 4"),
    (AWQ | {"zero_point": False}, "zero_point: expected true"),
    ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "quant_algo: expected one of fp8, nvfp4"),
    (compressed(config_groups={}), "config_groups: expected an object with at least one group of weights"),
    (compressed(config_groups={"W4A16": ["Linear"]}), 'config_groups.W4A16: expected an object, found ["Linear"]'),
    (compressed("marlin-24"), "format: expected one of pack-quantized, "),
    (compressed("dense"), "format: expected one of "),
    (compressed(sparsity_config={"format": "sparse-24-bitmask"}), "sparsity_config: expected none"),
    (compressed(transform_config={"config_groups": {"R1": {}}}), "transform_config: expected none"),
    (compressed(weights={"num_bits": 9}), "config_groups.group_0.weights.num_bits: expected an integer from 1 to 8"),
    (compressed(weights={"strategy": "tensor", "group_size": None}),
     "config_groups.group_0.weights.strategy: expected group or channel for pack-quantized"),
    (compressed(weights={"strategy": "token"}), "config_groups.group_0.weights.strategy: expected one of tensor, "),
    (compressed(weights={"group_size": None}), "config_groups.group_0.weights.group_size: expected a positive integer"),
    (compressed(weights={"group_size": -2}), "config_groups.group_0.weights.group_size: expected an integer from -1"),
    (compressed(weights={"type": "float"}), 'config_groups.group_0.weights.type: expected "int" for pack-quantized'),
    (compressed(weights={"dynamic": True}), "config_groups.group_0.weights.dynamic: expected false"),
    (compressed(weights={"surprise": 1}), "config_groups.group_0.weights.surprise: expected a known key"),
    (compressed("mxfp4-pack-quantized", {"type": "float", "group_size": 16}),
     "config_groups.group_0.weights.group_size: expected 32"),
    (compressed("nvfp4-pack-quantized", {"type": "float", "group_size": 16, "symmetric": False}),
     "config_groups.group_0.weights.symmetric: expected true"),
    (compressed("float-quantized", {"type": "float"}), "config_groups.group_0.weights.num_bits: expected 8"),
])  # fmt: skip
def test_refused(values, message):
    assert refusal(values).startswith(message)


def test_encodings_are_counted_once_and_bounded():
    group = compressed()["config_groups"]["group_0"]
    many = compressed() | {"config_groups": {f"g{i}": group for i in range(500)}}
    assert [scheme.field for scheme in program(many).quantization.schemes] == [
        "quantization_config.config_groups.g0.weights"]  # fmt: skip
    for i in range(1, 66):
        many["config_groups"][f"g{i}"] = group | {"weights": WEIGHTS | {"group_size": i + 32}}
    assert refusal(many).startswith("quant_method: expected at most 64 different encodings, found 66")


def test_hostile_names_stay_on_one_line():
    assert '"quantization_config.a\\nb": expected a known key' in refusal_of(FP8 | {"a\nb": 1})
    values = compressed()
    values["config_groups"] = {"g\n\x1b[31m" * 50: values["config_groups"]["group_0"] | {"weights": 3}}
    assert len(refusal_of(values)) < 400


def refusal_of(values):
    with pytest.raises(ConfigError) as caught:
        program(values)
    assert str(caught.value).isprintable()
    return str(caught.value)
