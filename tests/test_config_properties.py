"""Configs from strangers: a published config with anything changed gives a program or one ConfigError line, quickly."""

import copy
import json
import time

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refmoe.errors import ConfigError
from refmoe.numerics import rope_tables
from refmoe.program import Program, build, supported

PUBLISHED = tiny.ROOT / "golden" / "published"
CONFIGS = [model["config"] for model in json.loads((PUBLISHED / "parameter_counts.json").read_text("utf-8"))["models"]]
CONFIGS += [json.loads((tiny.TINY / name / "config.json").read_text("utf-8")) for name in tiny.NAMES]
CONFIGS += [entry["config"] for path in sorted(PUBLISHED.glob("*.json"))
            if isinstance(entry := json.loads(path.read_text("utf-8")), dict) and entry.get("config")]  # fmt: skip
CONFIGS = [config for config in CONFIGS if config["model_type"] in supported()]
KEYS = sorted({key for config in CONFIGS for key in config} | {
    "rope_scaling", "rope_parameters", "layer_types", "quantization_config", "compression_config", "head_dim",
    "original_max_position_embeddings", "partial_rotary_factor", "n_group", "topk_group", "q_lora_rank", "kv_lora_rank",
    "first_k_dense_replace", "moe_layer_freq", "routed_scaling_factor", "scoring_func", "topk_method",
    "n_shared_experts", "num_nextn_predict_layers", "swiglu_limit", "clip_qkv", "attention_bias", "tie_word_embeddings",
    "hidden_act",
})  # fmt: skip

NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**63, 10**30, 10**400, -1, 40960, 131072]),
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, -0.0, 1e-46, 1e39, 5e-324, 1e308, 0.5, 4.0]))
WORDS = st.one_of(st.sampled_from([
    "yarn", "default", "linear", "llama3", "dynamic", "silu", "gelu", "softmax", "sigmoid", "noaux_tc", "greedy", "",
    "full_attention", "sliding_attention", "fp8", "gptq", "awq", "bf16", "bfloat16", "model", "true", "\n",
    "\x1b[31m"]), st.text(max_size=6))  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
INNER = st.sampled_from(["type", "rope_type", "rope_theta", "factor", "original_max_position_embeddings", "beta_fast",
                         "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate", "low_freq_factor",
                         "high_freq_factor", "partial_rotary_factor", "full_attention", "sliding_attention",
                         "quant_method", "bits", "group_size", "weight_block_size", "config_groups",
                         "sym"])  # fmt: skip
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(
    st.one_of(INNER, WORDS), inner, max_size=5)), max_leaves=12)  # fmt: skip
ROPE = st.dictionaries(INNER, st.one_of(LEAVES, st.sampled_from(["yarn", "llama3", 4.0, 8, 32768])), max_size=8)


@st.composite
def changed(draw):
    """A published config after up to six changes."""
    config = copy.deepcopy(draw(st.sampled_from(CONFIGS)))
    for _ in range(draw(st.integers(0, 6))):
        key = draw(st.one_of(st.sampled_from(sorted(config) or ["x"]), st.sampled_from(KEYS), st.text(max_size=8)))
        how = draw(st.integers(0, 5))
        if how == 0:
            config.pop(key, None)
        elif how == 1:
            config[key] = draw(VALUES)
        elif how == 2:
            config[draw(st.sampled_from(["rope_scaling", "rope_parameters"]))] = draw(ROPE)
        elif how == 3 and isinstance(config.get(key), int | float) and abs(config[key]) < 1e99:
            config[key] = draw(st.sampled_from([config[key] * 2, config[key] + 1, -config[key], float(config[key]),
                                                str(config[key]), [config[key]]]))  # fmt: skip
        elif how == 4 and isinstance(config.get(key), dict):
            config[key] = {**config[key], draw(INNER): draw(LEAVES)}
        else:
            config[key] = config.get(draw(st.sampled_from(KEYS)))
    return config


def outcome(values):
    """A program, or the line of the ConfigError; anything else is an error of ours."""
    began = time.process_time()
    try:
        program = build(values, "dir/config.json")
    except ConfigError as problem:
        program = str(problem)
        assert program.startswith("dir/config.json: ") and program.isprintable() and len(program) < 400, program
    assert time.process_time() - began < 1.0
    return program


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(changed())
def test_any_change_gives_a_program_or_one_line(values):
    before = copy.deepcopy(values)
    program = outcome(values)
    assert repr(values) == repr(before)  # the caller's object stays as it was
    if isinstance(program, Program):
        assert set(values) <= set(program.config_report)
        assert program.parameters()["total"] > 0 and len(program.digest()) == 64 and program.context >= 1
        assert json.loads(program.to_json()) and program.text() and program.describe()
        for spec in program.tables.values():
            if spec["head_dim"] <= 256:
                table, amplitude = rope_tables.from_spec(spec)
                assert np.isfinite(table).all() and (table >= 0).all() and (table <= 1).all() and amplitude > 0


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_anything_at_the_top_level(values):
    assert isinstance(outcome(values), str)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config['model_type']}-{config['hidden_size']}")
def test_every_key_dropped_doubled_or_of_another_type(config):
    for key in config:
        for value in (None, [], {}, "x", True, -1, 0, 1.5, 10**12, config[key], [config[key]], {"a": config[key]}):
            outcome(config | {key: value})
        outcome({name: item for name, item in config.items() if name != key})
