"""mistral: the window holds in every layer unless it is null."""

import pytest
from arch_configs import config, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


@pytest.mark.parametrize(("stated", "expected"), [(5, 5), (1, 1), (None, UNLIMITED)])
def test_window(stated, expected):
    program = build(config("mistral", sliding_window=stated))
    assert windows(program) == [expected] * 4
    assert set(program.kinds) == {"full_dense" if stated is None else "window_dense"}


def test_absent_window_is_the_class_default():
    program = build(config("mistral", drop=("sliding_window",)))
    assert windows(program) == [4096] * 4
    assert program.config_report["sliding_window"] == ("assumed", "not set: 4096")


@pytest.mark.parametrize("value", [0, -1, 4.0, True, "4096", 2**31])
def test_bad_window(value):
    with pytest.raises(ConfigError, match="sliding_window: expected an integer"):
        build(config("mistral", sliding_window=value))


def test_layer_types_must_agree():
    assert windows(build(config("mistral", layer_types=["sliding_attention"] * 4))) == [5] * 4
    with pytest.raises(ConfigError, match="layer_types"):
        build(config("mistral", layer_types=["full_attention"] * 4))


def test_no_biases():
    assert build(config("mistral", attention_bias=False)).kinds
    with pytest.raises(ConfigError, match="attention_bias: expected false"):
        build(config("mistral", attention_bias=True))
