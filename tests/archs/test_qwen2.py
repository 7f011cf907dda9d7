"""qwen2: biases on q, k, v only; the window needs a switch and begins late."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_biases():
    program = build(config("qwen2"))
    assert {out for out, op in ops(program, "full_dense").items() if op == "linear_bias"} == set("qkv")
    assert "model.layers.0.self_attn.o_proj.bias" not in names(program)


@pytest.mark.parametrize("key", ["attention_bias", "qkv_bias"])
def test_bias_keys_cannot_switch_them_off(key):
    assert build(config("qwen2", **{key: True})).kinds
    with pytest.raises(ConfigError, match=f"{key}: expected true"):
        build(config("qwen2", **{key: False}))


def test_window_is_off_without_the_switch():
    program = build(config("qwen2", sliding_window=5, max_window_layers=0))
    assert windows(program) == [UNLIMITED] * 4
    assert program.config_report["sliding_window"] == ("ignored", "use_sliding_window is not true")


@pytest.mark.parametrize("first", [0, 1, 4, 28])
def test_max_window_layers(first):
    program = build(config("qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=first))
    assert windows(program) == [UNLIMITED] * min(first, 4) + [5] * max(4 - first, 0)


def test_layer_types_win_over_max_window_layers():
    types = ["sliding_attention", "full_attention"] * 2
    changes = {"use_sliding_window": True, "sliding_window": 5, "layer_types": types}
    program = build(config("qwen2", max_window_layers=28, **changes))
    assert windows(program) == [5, UNLIMITED] * 2
    assert program.kinds == ("window_dense", "full_dense") * 2
    assert program.config_report["max_window_layers"][0] == "ignored"


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_types": ["sliding_attention"] * 4},
        {"layer_types": ["full_attention"] * 3},
        {"layer_types": ["full_attention"] * 3 + ["chunked_attention"]},
        {"layer_types": "full_attention"},
        {"use_sliding_window": True, "sliding_window": None, "layer_types": ["sliding_attention"] * 4},
    ],
)
def test_bad_layer_types(changes):
    with pytest.raises(ConfigError, match="layer_types"):
        build(config("qwen2", **changes))


def test_active_window_needs_its_first_layer():
    with pytest.raises(ConfigError, match="max_window_layers"):
        build(config("qwen2", drop=("max_window_layers",), use_sliding_window=True, sliding_window=5))


def test_mrope_is_refused():
    with pytest.raises(ConfigError, match="use_mrope"):
        build(config("qwen2", use_mrope=True))
