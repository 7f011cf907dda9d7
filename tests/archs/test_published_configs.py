"""Published configs: parameter counts equal the published ones, every key accounted for. Configs only, no weights."""

import json
from pathlib import Path

import pytest

from refmoe.errors import ConfigError
from refmoe.program import build, supported

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "published" / "configs"
MODELS = json.loads((ROOT / "golden" / "published" / "parameter_counts.json").read_text("utf-8"))["models"]
COUNTS = {model["name"]: model["total"] for model in MODELS}
SAME_SHAPES = {
    "Mixtral-8x7B-Instruct-v0.1": "Mixtral-8x7B-v0.1",
    "OLMoE-1B-7B-0125-Instruct": "OLMoE-1B-7B-0924",
    "Qwen1.5-MoE-A2.7B-Chat": "Qwen1.5-MoE-A2.7B",
    "Qwen3-235B-A22B-Instruct-2507": "Qwen3-235B-A22B",
    "Qwen3-30B-A3B-Instruct-2507": "Qwen3-30B-A3B",
    "Qwen3-30B-A3B-Thinking-2507": "Qwen3-30B-A3B",
    "Qwen3-Coder-30B-A3B-Instruct": "Qwen3-30B-A3B",
}


def printed(count: int, like: str) -> str:
    """A count in billions, cut or rounded to as many digits as the published text shows."""
    digits = len(like.rstrip("B").partition(".")[2])
    return {f"{count / 1e9:.{digits}f}B", f"{count // 10 ** (9 - digits) / 10**digits:.{digits}f}B"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_counts(model):
    program = build(model["config"], model["name"])
    counts = program.parameters()
    assert counts["total"] == model["total"]
    counts["active_without_embedding"] = counts["active"] - program.dims["V"] * program.dims["H"]
    for key, text in model.get("published", {}).items():
        assert text in printed(counts[key], text)
    if "tensors" in model:
        assert sum(1 for _ in program.expected()) == model["tensors"]


def test_every_family_is_covered():
    assert {model["config"]["model_type"] for model in MODELS} == set(supported())


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder ../shared with raw published configs")
def test_raw_configs():
    seen = set()
    for path in sorted(SHARED.glob("*.json")):
        config = json.loads(path.read_text("utf-8"))
        if config["model_type"] not in supported():
            with pytest.raises(ConfigError, match="model_type: expected one of "):
                build(config, path.name)
        elif "quantization_config" in config:
            fields = {f"quantization_config.{key}" for key in config["quantization_config"]}
            assert fields < set(build(config, path.name).config_report)
        else:
            program = build(config, path.name)
            assert program.parameters()["total"] == COUNTS[SAME_SHAPES.get(path.stem, path.stem)]
            assert set(config) <= set(program.config_report)
            assert program.context == config["max_position_embeddings"]
            seen.add(path.stem)
    assert seen >= set(SAME_SHAPES)
