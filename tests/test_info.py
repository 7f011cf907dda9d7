"""refmoe info: sizes and memory from a config alone, whatever its name, and from headers."""

import json

import pytest
import tiny
from click.testing import CliRunner

from refmoe import checkpoint, info
from refmoe.cli import main
from refmoe.cli.info import _size
from refmoe.errors import ConfigError

MODELS = json.loads((tiny.ROOT / "golden" / "published" / "parameter_counts.json").read_text("utf-8"))["models"]
RAW = tiny.ROOT.parent / "shared" / "published" / "configs"


def text(location):
    """stdout of refmoe info, its rows as a mapping too."""
    result = CliRunner().invoke(main, ["info", "-m", str(location)])
    assert result.exit_code == 0, result.output
    return result.stdout, dict(line.split(None, 1) if line[:1] == " " else (line[:20].strip(), line[21:])
                               for line in result.stdout.splitlines() if len(line) > 21)  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_a_config_alone(tmp_path, model):
    path = tmp_path / f"{model['name']}.json"
    path.write_text(json.dumps(model["config"]), "utf-8")
    facts = info.describe(path)
    assert facts["parameters"]["total"] == model["total"] and facts["weights"] is None
    assert facts["memory"]["weights"] == 2 * model["total"] and facts["memory"]["weights_as"] == "bf16"
    assert facts["memory"]["cache_bf16"] == 2 * facts["context"] * facts["kv_values_per_token"]
    shown, rows = text(path)
    assert rows["parameters"].startswith(f"{model['total']:,} total, ") and "none here: only the config" in shown
    assert rows["memory"].endswith(f"for a sequence of {facts['context']:,} tokens")


def test_memory_of_a_known_model(tmp_path):
    """Qwen3-30B-A3B: 30.5 billion parameters of two bytes; 48 layers, 2 x 4 heads of 128 for each of 40,960 tokens."""
    model = next(model for model in MODELS if model["name"] == "Qwen3-30B-A3B")
    (tmp_path / "config.json").write_text(json.dumps(model["config"]), "utf-8")
    for location in (tmp_path, tmp_path / "config.json"):
        memory = info.describe(location)["memory"]
        assert memory == {"weights": 61064245248, "weights_as": "bf16", "cache_f32": 8053063680,
                          "cache_bf16": 4026531840}  # fmt: skip
        assert text(location)[1]["memory"] == "61.1 GB of weights if they were bf16; " \
            "8.05 GB of cache in f32, 4.03 GB in bf16, for a sequence of 40,960 tokens"
    stretched = model["config"] | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                                                    "original_max_position_embeddings": 32768}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(stretched), "utf-8")
    assert "for a sequence of 131,072 tokens" in text(tmp_path)[0]


@pytest.mark.parametrize("name", tiny.NAMES)
def test_memory_of_stored_weights(name):
    folder = tiny.TINY / name
    memory = info.describe(folder)["memory"]
    stored = sum(entry.nbytes for entry in checkpoint.open(folder).tensors.values())
    assert memory["weights_as"] == "stored" and memory["weights"] == stored
    assert "if they were" not in text(folder)[1]["memory"]


def test_memory_of_quantised_experts(tmp_path):
    """DeepSeek-R1's shapes: 58 layers of 256 experts, 3 matrices of 2048 x 7168, one scale for 128 x 128 codes."""
    model = next(model for model in MODELS if model["name"] in ("DeepSeek-R1", "DeepSeek-V3"))
    stated = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    (tmp_path / "config.json").write_text(json.dumps(model["config"] | {"quantization_config": stated}), "utf-8")
    facts, experts = info.describe(tmp_path), 58 * 256 * 3 * 2048 * 7168
    assert facts["memory"]["weights"] == 2 * facts["parameters"]["total"] - experts + experts // 128 // 128 * 2
    assert facts["memory"]["weights_as"] == "fp8_block in the experts and bf16 elsewhere"
    assert facts["quantised"]["method"] == "fp8"
    assert facts["quantised"]["schemes"][0] == {"format": "fp8_block", "block_rows": 128, "block_cols": 128}
    shown = text(tmp_path)[1]
    assert shown["quantised"].startswith("fp8: fp8_block block_rows 128 block_cols 128 or fp8_scaled")
    assert "of weights if they were fp8_block in the experts" in shown["memory"]
    dense = next(model for model in MODELS if model["name"] == "Qwen3-8B")
    (tmp_path / "config.json").write_text(json.dumps(dense["config"] | {"quantization_config": stated}), "utf-8")
    memory = info.describe(tmp_path)["memory"]
    assert memory["weights_as"] == "fp8_block in the layers and bf16 elsewhere" and 9.4e9 < memory["weights"] < 9.5e9


@pytest.mark.parametrize(("name", "stated", "published"), [
    ("Kimi-K2-Instruct", {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {
        "group_0": {"weights": {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 32, "strategy": "group"},
                    "targets": ["Linear"]}}}, 594e9),
    ("gpt-oss-20b", {"quant_method": "mxfp4"}, 13.76e9),
    ("gpt-oss-120b", {"quant_method": "mxfp4"}, 65.2e9),
])  # fmt: skip
def test_sizes_that_publishers_state(tmp_path, name, stated, published):
    """Files of Kimi-K2-Thinking (the shapes of K2) and gpt-oss, as their pages give them."""
    model = next(model for model in MODELS if model["name"] == name)
    (tmp_path / "config.json").write_text(json.dumps(model["config"] | {"quantization_config": stated}), "utf-8")
    assert info.describe(tmp_path)["memory"]["weights"] == pytest.approx(published, rel=0.01)


def test_sizes_in_words():
    cases = {0: "0.00 bytes", 12: "12.0 bytes", 999: "999 bytes", 1000: "1.00 kB", 9996: "10.0 kB", 12345: "12.3 kB",
             999499: "999 kB", 999501: "1.00 MB", 61064245248: "61.1 GB", 1026408232448: "1.03 TB"}  # fmt: skip
    assert {count: _size(count) for count in cases} == cases


def test_not_a_config(tmp_path):
    (tmp_path / "a.json").write_text("[]", "utf-8")
    for location, message in ((tmp_path / "a.json", "must be a JSON object, found list"),
                              (tmp_path / "none.json", "no such directory"), (tmp_path, "no such file")):  # fmt: skip
        result = CliRunner().invoke(main, ["info", "-m", str(location)])
        assert result.exit_code == 1 and message in result.stderr and result.stdout == ""


def test_an_encoding_that_does_not_fit(tmp_path):
    config = json.loads((tiny.TINY / "mixtral" / "config.json").read_text("utf-8"))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}), "utf-8")
    with pytest.raises(ConfigError, match=r"a\.json: quantization_config: 40 columns, expected a multiple of 32"):
        info.describe(path)


@pytest.mark.shared
@pytest.mark.skipif(not RAW.is_dir(), reason="needs the folder ../shared with raw published configs")
@pytest.mark.parametrize("path", sorted(RAW.glob("*.json")), ids=lambda path: path.stem)
def test_every_published_config(path):
    rows = text(path)[1]
    assert " total, " in rows["parameters"] and " active" in rows["parameters"]
    assert rows["rope"].startswith("kind ") and rows["router"] and rows["memory"]
