"""flex_olmo: norms behind the two halves of a block, none before them."""

import pytest
from arch_configs import config, names, ops

from refmoe.errors import ConfigError
from refmoe.program import build


def test_plain():
    program = build(config("flex_olmo"))
    assert program.kinds == ("full_sparse",) * 4
    steps = {s.out[0]: s for s in program.blocks["full_sparse"]}
    assert "attn_norm" not in steps and "ffn_norm" not in steps
    assert [steps[p].inputs for p in "qkv"] == [("x",)] * 3
    assert steps["attn_out"].inputs == ("x", "o_norm") and steps["o_norm"].inputs == ("o",)
    assert steps["router_logits"].inputs == ("attn_out",)
    assert steps["expert_gate"].inputs == ("attn_out", "route_ids")
    assert steps["moe_norm"].inputs == ("combine",) and steps["ffn_out"].inputs == ("attn_out", "moe_norm")
    assert "model.layers.0.input_layernorm.weight" not in names(program)
    assert program.tensors["o_norm"].name.endswith("post_attention_layernorm.weight")
    assert program.tensors["moe_norm"].name.endswith("post_feedforward_layernorm.weight")
    assert len(names(program)) == 4 * (9 + 3 * 5) + 3


def test_norms_cover_the_whole_projection():
    shapes = {e.role: e.shape for e in build(config("flex_olmo")).expected() if e.layer == 1}
    assert (shapes["q_norm"], shapes["k_norm"]) == ((96,), (32,))


@pytest.mark.parametrize(("flag", "op"), [(True, "route_softmax_topk_renorm"), (False, "route_softmax_topk")])
def test_norm_topk_prob(flag, op):
    assert ops(build(config("flex_olmo", norm_topk_prob=flag)), "full_sparse")["route_ids"] == op


def test_defaults_and_biases():
    short = build(config("flex_olmo", drop=("norm_topk_prob", "attention_bias")))
    assert short.digest() == build(config("flex_olmo")).digest()
    found = ops(build(config("flex_olmo", attention_bias=True)), "full_sparse")
    assert {out for out, op in found.items() if op == "linear_bias"} == set("qkvo")


@pytest.mark.parametrize(("key", "value"), [("num_experts", 0), ("num_experts_per_tok", 6), ("sliding_window", 4)])
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("flex_olmo", **{key: value}))
