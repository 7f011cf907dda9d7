"""glm4_moe: a part of each head rotated, biases on q, k, v, optional head norms, sigmoid routing with groups."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("glm4_moe"))
    assert program.kinds == ("full_dense", *("full_sparse",) * 3) and windows(program) == [UNLIMITED] * 4
    found = ops(program, "full_sparse")
    assert {out for out, op in found.items() if op == "linear_bias"} == set("qkv")
    assert found["q_rope"] == found["k_rope"] == "rope_half_partial"
    assert found["route_ids"] == "route_sigmoid_groups_renorm" and "q_norm" not in found
    steps = {s.out[0]: s for s in program.blocks["full_sparse"]}
    assert steps["q_rope"].attrs == {"table": "rope", "head_dim": 16, "rotated": 8}
    assert steps["route_ids"].attrs == {"k": 3, "groups": 1, "open_groups": 1, "factor": 2.5}
    assert steps["moe"].inputs == ("combine", "shared_down")
    assert program.tables["rope"] == {"kind": "default", "head_dim": 8, "base": 10000.0}
    stem = "model.layers.1.mlp."
    assert {stem + "gate.e_score_correction_bias", stem + "shared_experts.up_proj.weight"} < names(program)
    assert "model.layers.0.self_attn.o_proj.bias" not in names(program)


def test_head_norms():
    found = ops(build(config("glm4_moe", use_qk_norm=True)), "full_dense")
    assert found["q_norm"] == found["k_norm"] == "head_norm"
    assert list(found).index("q_norm") < list(found).index("q_rope")


@pytest.mark.parametrize(("share", "width"), [(1.0, 16), (1, 16), (0.5, 8), (0.25, 4), (0.4, 6), (0.13, 2)])
def test_partial_rotary_factor(share, width):
    program = build(config("glm4_moe", partial_rotary_factor=share))
    assert program.dims["Q"] == program.tables["rope"]["head_dim"] == width
    moved = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": share}
    other = build(config("glm4_moe", drop=("partial_rotary_factor", "rope_theta"), rope_parameters=moved))
    assert other.digest() == program.digest()


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "0.5", True, 0.06, 0.2])
def test_bad_share(share):
    with pytest.raises(ConfigError, match="partial_rotary_factor: expected a share"):
        build(config("glm4_moe", partial_rotary_factor=share))


def test_share_of_one_half_by_default():
    program = build(config("glm4_moe", drop=("partial_rotary_factor",)))
    assert program.dims["Q"] == 8
    assert program.config_report["partial_rotary_factor"] == ("assumed", "not set: 0.5")


def test_no_other_family_rotates_a_part():
    with pytest.raises(ConfigError, match="partial_rotary_factor: expected 1"):
        build(config("qwen3_moe", partial_rotary_factor=0.5))


def test_dense_layers():
    assert build(config("glm4_moe", first_k_dense_replace=0)).kinds == ("full_sparse",) * 4
    assert build(config("glm4_moe", first_k_dense_replace=9)).kinds == ("full_dense",) * 4


def test_groups_and_weights():
    program = build(config("glm4_moe", n_group=3, topk_group=2, n_routed_experts=6, norm_topk_prob=False))
    step = next(s for s in program.blocks["full_sparse"] if "route_ids" in s.out)
    assert step.op == "route_sigmoid_groups" and (step.attrs["groups"], step.attrs["open_groups"]) == (3, 2)


def test_shared_experts():
    assert build(config("glm4_moe", n_shared_experts=2)).dims["S"] == 56
    found = ops(build(config("glm4_moe", n_shared_experts=None)), "full_sparse")
    assert "shared_up" not in found and "moe" not in found


@pytest.mark.parametrize("key", ["num_nextn_predict_layers", "num_mtp_layers"])
def test_layers_that_predict_further_tokens_are_not_read(key):
    values = config("glm4_moe", drop=("num_nextn_predict_layers",)) | {key: 2}
    program = build(values)
    patterns = [pattern for pattern, _ in program.ignored_tensors]
    assert patterns[1:] == ["model.layers.4.*", "model.layers.5.*"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_group", 2),
        ("topk_group", 2),
        ("num_experts_per_tok", 6),
        ("topk_method", "greedy"),
        ("scoring_func", "softmax"),
        ("sliding_window", 4),
        ("first_k_dense_replace", None),
        ("routed_scaling_factor", 0),
        ("use_qk_norm", "true"),
    ],
)
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("glm4_moe", **{key: value}))
