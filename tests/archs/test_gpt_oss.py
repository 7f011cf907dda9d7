"""gpt_oss: sinks, alternating windows, biases, the clamp, stacked experts, YaRN that must be stated."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("gpt_oss"))
    assert program.kinds == ("window_sparse", "full_sparse") * 2
    assert windows(program) == [5, UNLIMITED] * 2
    found = ops(program, "full_sparse")
    assert {out for out, op in found.items() if op == "linear_bias"} == {*"qkvo", "router_logits"}
    assert found["attn"] == "attention_sinks" and found["route_ids"] == "route_topk_softmax"
    assert found["expert_gate_up"] == found["expert_down"] == "expert_linear_bias"
    steps = {s.out[0]: s for s in program.blocks["full_sparse"]}
    assert steps["expert_act"].attrs == {"limit": 7.0, "alpha": 1.7020000219345093}
    assert steps["expert_gate_up"].shapes == ("f32[T,K,2*M]",) and steps["expert_act"].shapes == ("f32[T,K,M]",)
    assert steps["attn"].weights == ("sinks",)


def test_tensors():
    program = build(config("gpt_oss"))
    shapes = {e.tensor.name: e.shape for e in program.expected() if e.layer == 3}
    stem = "model.layers.3.mlp."
    assert shapes[stem + "experts.gate_up_proj[4]"] == (88, 36)
    assert shapes[stem + "experts.down_proj[0]"] == (36, 44)
    assert shapes[stem + "experts.gate_up_proj_bias"] == (5, 88)
    assert shapes[stem + "experts.down_proj_bias"] == (5, 36)
    assert shapes[stem + "router"] == (5, 36) and shapes[stem + "router.bias"] == (5,)
    assert shapes["model.layers.3.self_attn.sinks"] == (6,)
    assert len(names(program)) == 4 * (4 + 4 + 2 + 1 + 2 + 2 * 5 + 2) + 3


def test_active_parameters_count_the_biases_of_chosen_experts():
    counts = build(config("gpt_oss")).parameters()
    one = 3 * 44 * 36 + 2 * 44 + 36
    assert counts["total"] - counts["active"] == 4 * (5 - 3) * one


def test_layer_types():
    assert windows(build(config("gpt_oss", drop=("layer_types",)))) == [5, UNLIMITED] * 2
    assert windows(build(config("gpt_oss", layer_types=["full_attention"] * 4))) == [UNLIMITED] * 4
    assert windows(build(config("gpt_oss", drop=("sliding_window",)))) == [128, UNLIMITED] * 2
    with pytest.raises(ConfigError, match="sliding_window: expected an integer, because some layers have a window"):
        build(config("gpt_oss", sliding_window=None))
    program = build(config("gpt_oss", sliding_window=None, layer_types=["full_attention"] * 4))
    assert windows(program) == [UNLIMITED] * 4


def test_yarn_is_not_truncated_and_has_its_amplitude():
    spec = build(config("gpt_oss")).tables["rope"]
    assert spec["truncate"] is False and "attention_factor" not in spec
    assert (spec["kind"], spec["factor"], spec["original_max_position_embeddings"]) == ("yarn", 4.0, 32)


@pytest.mark.parametrize("key", ["rope_scaling", "rope_theta"])
def test_rope_must_be_stated(key):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("gpt_oss", drop=(key,)))


def test_rope_without_scaling_may_be_stated():
    with pytest.raises(ConfigError, match="rope_scaling: expected an object"):
        build(config("gpt_oss", rope_scaling={}))
    program = build(config("gpt_oss", rope_scaling={"rope_type": "default"}))
    assert program.tables["rope"]["kind"] == "default"
    assert program.config_report["initial_context_length"][0] == "ignored"


def test_clamp():
    program = build(config("gpt_oss", drop=("swiglu_limit",)))
    assert (program.dims["limit"], program.config_report["swiglu_limit"][0]) == (7.0, "assumed")
    assert build(config("gpt_oss", swiglu_limit=0.5, swiglu_alpha=2)).dims["alpha"] == 2.0


def test_biases_can_be_switched_off():
    found = ops(build(config("gpt_oss", attention_bias=False)), "full_sparse")
    assert {out for out, op in found.items() if op == "linear_bias"} == {"router_logits"}
    assert build(config("gpt_oss", drop=("attention_bias",))).digest() == build(config("gpt_oss")).digest()


def test_head_dim_defaults_to_64():
    assert build(config("gpt_oss", drop=("head_dim",))).dims["D"] == 64


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("experts_per_token", 2),
        ("num_experts", 4),
        ("initial_context_length", 31),
        ("swiglu_limit", None),
        ("swiglu_limit", 0),
        ("swiglu_alpha", None),
        ("swiglu_alpha", -1.702),
        ("num_local_experts", 0),
        ("layer_types", ["sliding_attention"] * 3),
        ("mlp_bias", True),
    ],
)
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("gpt_oss", **{key: value}))
