"""olmoe: norms of the full width, the clip, experts in every layer, weights as they are."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("olmoe"))
    assert program.kinds == ("full_sparse",) * 4 and windows(program) == [UNLIMITED] * 4
    found = ops(program, "full_sparse")
    assert found["q_norm"] == found["k_norm"] == "rms_norm"
    assert found["route_ids"] == "route_softmax_topk"
    assert not {"clip", "linear_bias"} & set(found.values())
    order = list(found)
    assert order.index("v") < order.index("q_norm") < order.index("q_rope")
    assert len(names(program)) == 4 * (9 + 3 * 5) + 3
    assert "F" not in program.dims and program.dims["M"] == 44


def test_norms_cover_the_whole_projection():
    shapes = {e.role: e.shape for e in build(config("olmoe")).expected() if e.layer == 1}
    assert (shapes["q_norm"], shapes["k_norm"]) == ((36,), (12,))


def test_clip_comes_after_the_norms():
    program = build(config("olmoe", clip_qkv=2.5))
    steps = {s.out[0]: s for s in program.blocks["full_sparse"]}
    assert [steps[f"{p}_clip"].inputs for p in "qkv"] == [("q_norm",), ("k_norm",), ("v",)]
    assert all(steps[f"{p}_clip"].attrs == {"limit": 2.5} for p in "qkv")
    assert steps["q_rope"].inputs[0] == "q_clip" and steps["k_rope"].inputs[0] == "k_clip"
    assert steps["attn"].inputs[:3] == ("q_rope", "k_rope", "v_clip")
    assert build(config("olmoe", clip_qkv=3)).dims["clip_qkv"] == 3.0


@pytest.mark.parametrize(("flag", "op"), [(True, "route_softmax_topk_renorm"), (False, "route_softmax_topk")])
def test_norm_topk_prob(flag, op):
    assert ops(build(config("olmoe", norm_topk_prob=flag)), "full_sparse")["route_ids"] == op


def test_defaults_of_the_class():
    short = build(config("olmoe", drop=("norm_topk_prob", "clip_qkv", "attention_bias")))
    assert short.digest() == build(config("olmoe")).digest()
    assert short.config_report["norm_topk_prob"] == ("assumed", "not set: false")
    assert build(config("olmoe", num_key_value_heads=None)).dims["G"] == 6
    assert build(config("olmoe", drop=("num_key_value_heads",))).dims["G"] == 6


def test_biases():
    program = build(config("olmoe", attention_bias=True))
    assert {out for out, op in ops(program, "full_sparse").items() if op == "linear_bias"} == set("qkvo")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_dim", 16),
        ("clip_qkv", 0),
        ("clip_qkv", -1.0),
        ("clip_qkv", "8"),
        ("clip_qkv", True),
        ("num_experts_per_tok", 6),
        ("num_experts", 0),
        ("sliding_window", 4),
        ("layer_types", ["sliding_attention"] * 4),
        ("use_qk_norm", False),
    ],
)
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("olmoe", **{key: value}))
