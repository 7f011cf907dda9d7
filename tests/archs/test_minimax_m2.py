"""minimax_m2: norms of the full width with a rotated part of each head, experts in the names of mixtral."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("minimax_m2"))
    assert program.kinds == ("full_sparse",) * 4 and windows(program) == [UNLIMITED] * 4
    found = ops(program, "full_sparse")
    assert found["q_norm"] == "rms_norm" and found["q_rope"] == "rope_half_partial"
    step = next(s for s in program.blocks["full_sparse"] if "route_ids" in s.out)
    assert (step.op, step.attrs) == ("route_sigmoid_groups_renorm",
                                     {"k": 3, "groups": 1, "open_groups": 1, "factor": 1.0})  # fmt: skip
    stem = "model.layers.2.block_sparse_moe."
    assert {stem + "e_score_correction_bias", stem + "gate.weight", stem + "experts.4.w2.weight"} < names(program)
    shapes = {e.role: e.shape for e in program.expected() if e.layer == 1}
    assert (shapes["q_norm"], shapes["k_norm"]) == ((96,), (32,))


def test_rotary_dim_and_partial_rotary_factor():
    digest = build(config("minimax_m2")).digest()
    assert build(config("minimax_m2", drop=("rotary_dim",), partial_rotary_factor=0.5)).digest() == digest
    assert build(config("minimax_m2", partial_rotary_factor=0.5)).digest() == digest
    assert build(config("minimax_m2", drop=("rotary_dim",))).dims["Q"] == 16
    with pytest.raises(ConfigError, match="rotary_dim: expected 4, as head_dim"):
        build(config("minimax_m2", partial_rotary_factor=0.25))


@pytest.mark.parametrize("value", [0, 7, 18, 8.0, "8"])
def test_bad_rotary_dim(value):
    with pytest.raises(ConfigError, match="expected"):
        build(config("minimax_m2", rotary_dim=value))


def test_head_dim_defaults_to_128():
    assert build(config("minimax_m2", drop=("head_dim",))).dims["D"] == 128


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_type_list", [1, 0, 1, 1]),
        ("attn_type_list", [1]),
        ("qk_norm_type", "per_head"),
        ("use_qk_norm", False),
        ("scoring_func", "softmax"),
        ("use_routing_bias", False),
        ("shared_intermediate_size", 8),
        ("sliding_window", 4),
        ("num_experts_per_tok", 6),
        ("attention_bias", True),
    ],
)
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("minimax_m2", **{key: value}))
