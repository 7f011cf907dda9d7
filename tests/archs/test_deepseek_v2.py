"""deepseek_v2: both methods of choice, what norm_topk_prob may be, no bias of the router."""

import pytest
from arch_configs import config, names

from refmoe.errors import ConfigError
from refmoe.program import build

GROUPED = {"topk_method": "group_limited_greedy", "n_group": 5, "topk_group": 2, "routed_scaling_factor": 16.0}


def route(program):
    return next(s for s in program.blocks["full_sparse"] if s.out[0] == "route_ids")


def test_greedy():
    program = build(config("deepseek_v2", n_group=1, topk_group=1))
    assert route(program).op == "route_softmax_groups" and route(program).weights == ()
    assert route(program).attrs == {"k": 3, "groups": 1, "open_groups": 1, "factor": 2.5}
    assert "model.layers.1.mlp.gate.e_score_correction_bias" not in names(program)
    assert program.config_report["n_group"] == ("ignored", "topk_method is greedy")
    assert build(config("deepseek_v2", n_group=None, topk_group=None)).digest() == program.digest()


def test_groups():
    assert route(build(config("deepseek_v2", **GROUPED))).attrs == {
        "k": 3, "groups": 5, "open_groups": 2, "factor": 16.0}  # fmt: skip


def test_renormalised_only_where_implementations_agree():
    program = build(config("deepseek_v2", norm_topk_prob=True, routed_scaling_factor=1.0))
    assert route(program).op == "route_softmax_topk_renorm"
    for changes in ({"routed_scaling_factor": 2.5}, GROUPED, GROUPED | {"routed_scaling_factor": 1.0}):
        with pytest.raises(ConfigError, match="norm_topk_prob: expected false"):
            build(config("deepseek_v2", norm_topk_prob=True, **changes))


@pytest.mark.parametrize(
    ("key", "value"),
    [("topk_method", "noaux_tc"), ("scoring_func", "sigmoid"), ("rope_interleave", False), ("mlp_bias", True)],
)
def test_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        build(config("deepseek_v2", **{key: value}))
