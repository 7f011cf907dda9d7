"""qwen3_moe: which layers have experts, both routers, the window, both names of the expert count."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("qwen3_moe"))
    assert program.kinds == ("full_sparse",) * 4
    assert "F" not in program.dims
    assert program.config_report["intermediate_size"] == ("ignored", "no layer is dense")
    assert "model.layers.3.mlp.experts.4.down_proj.weight" in names(program)
    assert len(names(program)) == 4 * (9 + 3 * 5) + 3


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [
        ({"mlp_only_layers": [0, 2]}, [1, 3]),
        ({"mlp_only_layers": [9]}, [0, 1, 2, 3]),
        ({"mlp_only_layers": None}, [0, 1, 2, 3]),
        ({"decoder_sparse_step": 2}, [1, 3]),
        ({"decoder_sparse_step": 3}, [2]),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [3]}, [1]),
        ({"decoder_sparse_step": 5}, []),
        ({"num_experts": 0}, []),
    ],
)
def test_dense_and_sparse_layers(changes, sparse):
    program = build(config("qwen3_moe", **changes))
    assert [layer for layer, kind in enumerate(program.kinds) if kind == "full_sparse"] == sparse
    assert ("F" in program.dims) == (len(sparse) < 4)
    assert ("E" in program.dims) == (len(sparse) > 0)
    roles = {(e.layer, e.role) for e in program.expected()}
    assert all(((layer, "router") in roles) == (layer in sparse) for layer in range(4))
    assert all(((layer, "w_gate") in roles) == (layer not in sparse) for layer in range(4))


@pytest.mark.parametrize(("flag", "op"), [(True, "route_softmax_topk_renorm"), (False, "route_softmax_topk")])
def test_norm_topk_prob(flag, op):
    assert ops(build(config("qwen3_moe", norm_topk_prob=flag)), "full_sparse")["route_ids"] == op


def test_norm_topk_prob_has_no_default():
    with pytest.raises(ConfigError, match="norm_topk_prob: expected true or false, found nothing"):
        build(config("qwen3_moe", drop=("norm_topk_prob",)))
    dense = build(config("qwen3_moe", drop=("norm_topk_prob", "moe_intermediate_size"), num_experts=0))
    assert dense.kinds == ("full_dense",) * 4


def test_transformers_5_name_of_the_expert_count():
    renamed = config("qwen3_moe", drop=("num_experts",), num_local_experts=5)
    assert build(renamed).digest() == build(config("qwen3_moe")).digest()
    with pytest.raises(ConfigError, match="num_local_experts: expected 5 as in num_experts, found 6"):
        build(config("qwen3_moe", num_local_experts=6))


def test_window_holds_in_every_layer():
    program = build(config("qwen3_moe", use_sliding_window=True, sliding_window=5, max_window_layers=2))
    assert windows(program) == [5] * 4
    assert windows(build(config("qwen3_moe", sliding_window=5))) == [UNLIMITED] * 4


def test_head_dim_defaults_to_hidden_over_heads():
    assert build(config("qwen3_moe", drop=("head_dim",))).dims["D"] == 6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_experts_per_tok", 6),
        ("decoder_sparse_step", 0),
        ("mlp_only_layers", [1.0]),
        ("mlp_only_layers", "0"),
        ("moe_intermediate_size", 0),
        ("shared_expert_intermediate_size", 16),
        ("use_qk_norm", False),
        ("qkv_bias", True),
        ("num_experts", -1),
        ("num_experts", 10**9),
    ],
)
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("qwen3_moe", **{key: value}))


def test_vestigial_keys_of_qwen3_coder():
    build(config("qwen3_moe", qkv_bias=False, use_qk_norm=True, shared_expert_intermediate_size=0))
