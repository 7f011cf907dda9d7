"""dots1: head norms with sigmoid routing, late windows, what has no default."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("dots1"))
    assert program.kinds == ("full_dense", *("full_sparse",) * 3)
    found = ops(program, "full_sparse")
    assert found["q_norm"] == "head_norm" and found["q_rope"] == "rope_half"
    assert found["route_ids"] == "route_sigmoid_groups_renorm" and "linear_bias" not in found.values()
    assert program.dims["S"] == 2 * 28
    assert "model.layers.1.mlp.gate.e_score_correction_bias" in names(program)


@pytest.mark.parametrize(("border", "sight"), [(0, [5] * 4), (3, [UNLIMITED] * 3 + [5]), (62, [UNLIMITED] * 4)])
def test_window_from_a_layer_on(border, sight):
    assert windows(build(config("dots1", sliding_window=5, max_window_layers=border))) == sight


def test_no_window():
    assert windows(build(config("dots1", sliding_window=None, max_window_layers=0))) == [UNLIMITED] * 4
    assert windows(build(config("dots1", drop=("sliding_window", "max_window_layers")))) == [UNLIMITED] * 4
    assert windows(build(config("dots1", drop=("sliding_window",), max_window_layers=3))) == [UNLIMITED] * 3 + [4096]


def test_layer_types_win():
    types = ["sliding_attention", "full_attention"] * 2
    assert windows(build(config("dots1", sliding_window=5, layer_types=types))) == [5, UNLIMITED] * 2
    with pytest.raises(ConfigError, match="sliding_window"):
        build(config("dots1", sliding_window=None, layer_types=types))


def test_biases():
    found = ops(build(config("dots1", attention_bias=True)), "full_dense")
    assert {out for out, op in found.items() if op == "linear_bias"} == set("qkvo")


@pytest.mark.parametrize("key", ["norm_topk_prob", "routed_scaling_factor", "first_k_dense_replace"])
def test_no_default(key):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("dots1", drop=(key,)))


def test_null_groups_are_one():
    assert build(config("dots1", n_group=None, topk_group=None)).digest() == build(config("dots1")).digest()
    with pytest.raises(ConfigError, match="scoring_func: expected"):
        build(config("dots1", scoring_func="softmax"))
