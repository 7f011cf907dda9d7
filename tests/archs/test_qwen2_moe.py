"""qwen2_moe: the gated shared expert, mixed layers, both routers, biases that can be off, the odd window rule."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("qwen2_moe"))
    assert program.kinds == ("full_sparse",) * 4
    found = ops(program, "full_sparse")
    assert {out for out, op in found.items() if op == "linear_bias"} == set("qkv")
    assert found["route_ids"] == "route_softmax_topk"
    order = [out for out in found if out.startswith(("shared", "combine", "moe", "ffn_out"))]
    assert order == ["combine", "shared_gate_logit", "shared_gate", "shared_up", "shared_act", "shared_down", "shared",
                     "moe", "ffn_out"]  # fmt: skip
    steps = {s.out[0]: s for s in program.blocks["full_sparse"]}
    assert (steps["shared"].op, steps["shared"].inputs) == ("scale_by_sigmoid", ("shared_down", "shared_gate_logit"))
    assert steps["moe"].inputs == ("combine", "shared") and steps["ffn_out"].inputs == ("attn_out", "moe")
    assert steps["shared_gate_logit"].shapes == ("f32[T,1]",) and steps["shared_up"].shapes == ("f32[T,S]",)
    assert len(names(program)) == 4 * (7 + 3 + 3 * 5 + 4) + 3


def test_shared_expert_tensors():
    program = build(config("qwen2_moe"))
    shapes = {e.tensor.name: e.shape for e in program.expected() if e.layer == 2}
    stem = "model.layers.2.mlp.shared_expert"
    assert shapes[stem + "_gate"] == (1, 36)
    assert shapes[stem + ".gate_proj"] == shapes[stem + ".up_proj"] == (60, 36)
    assert shapes[stem + ".down_proj"] == (36, 60)


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [
        ({"mlp_only_layers": [0, 2]}, [1, 3]),
        ({"mlp_only_layers": None}, [0, 1, 2, 3]),
        ({"decoder_sparse_step": 2}, [1, 3]),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [3]}, [1]),
        ({"num_experts": 0}, []),
    ],
)
def test_dense_and_sparse_layers(changes, sparse):
    program = build(config("qwen2_moe", **changes))
    assert [layer for layer, kind in enumerate(program.kinds) if kind == "full_sparse"] == sparse
    assert ("F" in program.dims) == (len(sparse) < 4)
    assert ("S" in program.dims) == ("E" in program.dims) == (len(sparse) > 0)
    roles = {(e.layer, e.role) for e in program.expected()}
    assert all(((layer, "s_weight") in roles) == (layer in sparse) for layer in range(4))
    assert all(((layer, "w_gate") in roles) == (layer not in sparse) for layer in range(4))


@pytest.mark.parametrize(("flag", "op"), [(True, "route_softmax_topk_renorm"), (False, "route_softmax_topk")])
def test_norm_topk_prob(flag, op):
    assert ops(build(config("qwen2_moe", norm_topk_prob=flag)), "full_sparse")["route_ids"] == op


def test_norm_topk_prob_is_false_by_default():
    program = build(config("qwen2_moe", drop=("norm_topk_prob",)))
    assert program.digest() == build(config("qwen2_moe")).digest()
    assert program.config_report["norm_topk_prob"] == ("assumed", "not set: false")


def test_biases_can_be_switched_off():
    program = build(config("qwen2_moe", qkv_bias=False))
    assert "linear_bias" not in ops(program, "full_sparse").values()
    assert build(config("qwen2_moe", qkv_bias=True, attention_bias=True)).digest() == build(
        config("qwen2_moe")).digest()  # fmt: skip
    with pytest.raises(ConfigError, match="attention_bias: expected true"):
        build(config("qwen2_moe", attention_bias=False))


@pytest.mark.parametrize(
    ("border", "sight"),
    [(0, [UNLIMITED] * 4), (1, [5] + [UNLIMITED] * 3), (3, [5, UNLIMITED] * 2), (28, [5, UNLIMITED] * 2)],
)
def test_window_in_every_second_layer(border, sight):
    program = build(config("qwen2_moe", use_sliding_window=True, sliding_window=5, max_window_layers=border))
    assert windows(program) == sight


def test_layer_types_win():
    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    changes = {"use_sliding_window": True, "sliding_window": 5, "layer_types": types}
    assert windows(build(config("qwen2_moe", **changes))) == [UNLIMITED, 5, 5, UNLIMITED]
    with pytest.raises(ConfigError, match="layer_types"):
        build(config("qwen2_moe", layer_types=types))


def test_window_is_off_without_the_switch():
    assert windows(build(config("qwen2_moe", sliding_window=5, max_window_layers=4))) == [UNLIMITED] * 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_experts_per_tok", 6),
        ("shared_expert_intermediate_size", 0),
        ("shared_expert_intermediate_size", None),
        ("moe_intermediate_size", 0),
        ("mlp_bias", True),
        ("qkv_bias", 1),
        ("norm_topk_prob", "false"),
    ],
)
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("qwen2_moe", **{key: value}))
