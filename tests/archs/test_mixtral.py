"""mixtral: experts in every layer, always renormalised, published tensor names."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("mixtral"))
    assert program.kinds == ("full_sparse",) * 4
    found = ops(program, "full_sparse")
    assert found["route_ids"] == "route_softmax_topk_renorm"
    assert list(found)[-8:-1] == ["route_ids", "route_weights", "expert_gate", "expert_up", "expert_act",
                                  "expert_down", "combine"]  # fmt: skip
    assert next(s.attrs for s in program.blocks["full_sparse"] if "route_ids" in s.out) == {"k": 3}
    assert {f"model.layers.3.block_sparse_moe.experts.4.w{n}.weight" for n in (1, 2, 3)} < names(program)
    assert len(names(program)) == 4 * (7 + 5 * 3) + 3


def test_gate_up_down():
    tensors = build(config("mixtral")).tensors
    stem = "model.layers.{l}.block_sparse_moe.experts.{e}."
    assert [tensors[role].name for role in ("e_gate", "e_up", "e_down")] == [stem + "w1", stem + "w3", stem + "w2"]
    assert [tensors[role].shape for role in ("e_gate", "e_up", "e_down")] == ["M,H", "M,H", "H,M"]


def test_window():
    assert windows(build(config("mixtral", sliding_window=7))) == [7] * 4
    assert windows(build(config("mixtral", drop=("sliding_window",)))) == [UNLIMITED] * 4


@pytest.mark.parametrize("change", [{"num_experts_per_tok": 6}, {"num_experts_per_tok": 0}, {"num_local_experts": 0}])
def test_bad_counts(change):
    with pytest.raises(ConfigError, match=f"{next(iter(change))}: expected an integer"):
        build(config("mixtral", **change))


def test_both_names_of_the_expert_count_must_agree():
    assert build(config("mixtral", num_experts=5)).dims["E"] == 5
    with pytest.raises(ConfigError, match="num_experts: expected 5 as in num_local_experts, found 4"):
        build(config("mixtral", num_experts=4))


def test_active_parameters():
    counts = build(config("mixtral")).parameters()
    assert counts["total"] - counts["active"] == 4 * (5 - 3) * 3 * 44 * 36
    assert counts["active"] - counts["multiplied"] == counts["vectors"] + 50 * 36
