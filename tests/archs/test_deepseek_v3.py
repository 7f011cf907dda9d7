"""deepseek_v3: latent attention with and without a rank for queries, the router, which layers have experts, the scale,
layers that are not read; kimi_k2 is the same program."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from arch_configs import config, names, ops

from refmoe.config import round32
from refmoe.config.latent import nearest32
from refmoe.errors import ConfigError
from refmoe.program import build
from refmoe.steps import CacheRow

YARN = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}


def steps(program, kind="full_sparse"):
    return {s.out[0]: s for s in program.blocks[kind]}


def test_plain():
    program = build(config("deepseek_v3"))
    assert program.kinds == ("full_dense",) + ("full_sparse",) * 3
    order = list(ops(program, "full_sparse"))
    assert " ".join(order[:17]) == (
        "attn_norm q_a kv_a q_a_norm q q_nope q_pe latent k_pe kv_a_norm q_rope k_rope q_latent attn_latent attn o "
        "attn_out"
    )
    assert order[-6:] == ["shared_gate", "shared_up", "shared_act", "shared_down", "moe", "ffn_out"]
    found = steps(program)
    assert found["moe"].inputs == ("combine", "shared_down") and found["q"].weights == ("wq_b",)
    assert found["q_latent"].weights == found["attn"].weights == ("wkv_b",)
    assert found["attn_latent"].shapes == ("f32[T,N*R]",) and found["attn"].shapes == ("f32[T,N*U]",)
    assert found["q_rope"].op == "rope_pairs" and found["kv_a_norm"].attrs["eps"] == round32(1e-6)
    assert program.cache_rows() == [CacheRow(1, (18, 4), True)] * 4
    assert program.describe()["kv_values_per_token"] == 4 * 22
    assert len(names(program)) == 4 * 9 + 3 + 3 * (2 + 30 + 3) + 3


def test_shapes():
    shapes = {e.role: e.shape for e in build(config("deepseek_v3")).expected() if e.layer == 1}
    assert shapes["wq_a"] == (22, 36) and shapes["wq_b"] == (6 * 11, 22) and shapes["q_a_norm"] == (22,)
    assert shapes["wkv_a"] == (22, 36) and shapes["kv_a_norm"] == (18,) and shapes["wkv_b"] == (6 * 16, 18)
    assert shapes["wo"] == (36, 54) and shapes["router_bias"] == (10,)
    assert shapes["s_gate"] == (56, 36) and shapes["s_down"] == (36, 56) and shapes["e_down"] == (36, 28)


def test_queries_without_a_rank():
    program = build(config("deepseek_v3", q_lora_rank=None))
    found = steps(program)
    assert found["q"].inputs == ("attn_norm",) and found["q"].weights == ("wq",) and "A" not in program.dims
    assert not {"q_a", "q_a_norm"} & set(found)
    with pytest.raises(ConfigError, match="q_lora_rank: expected a number, or null"):
        build(config("deepseek_v3", drop=("q_lora_rank",)))


def test_biases():
    found = ops(build(config("deepseek_v3", attention_bias=True)), "full_sparse")
    assert {out for out, op in found.items() if op == "linear_bias"} == {"q_a", "kv_a", "o"}
    found = ops(build(config("deepseek_v3", attention_bias=True, q_lora_rank=None)), "full_sparse")
    assert {out for out, op in found.items() if op == "linear_bias"} == {"kv_a", "o"}


@pytest.mark.parametrize(("flag", "op"), [(True, "route_sigmoid_groups_renorm"), (False, "route_sigmoid_groups")])
def test_router(flag, op):
    route = steps(build(config("deepseek_v3", norm_topk_prob=flag)))["route_ids"]
    assert (route.op, route.weights) == (op, ("router_bias",))
    assert route.attrs == {"k": 3, "groups": 5, "open_groups": 2, "factor": 2.5}


def test_transformers_5_dialect():
    """Keys that transformers 5 drops or renames."""
    drop = ("scoring_func", "topk_method", "moe_layer_freq", "rope_theta", "n_routed_experts")
    changes = {"qk_head_dim": 11, "rope_interleave": True, "num_local_experts": 10,
               "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
    assert build(config("deepseek_v3", drop, **changes)).digest() == build(config("deepseek_v3")).digest()


def test_halves():
    found = steps(build(config("deepseek_v3", rope_interleave=False)))
    assert found["q_rope"].op == found["k_rope"].op == "rope_half"


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [
        ({"first_k_dense_replace": 0}, [0, 1, 2, 3]),
        ({"first_k_dense_replace": 3}, [3]),
        ({"first_k_dense_replace": 4}, []),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, [2]),
        ({"n_routed_experts": None}, []),
    ],
)
def test_dense_and_sparse_layers(changes, sparse):
    program = build(config("deepseek_v3", **changes))
    assert [layer for layer, kind in enumerate(program.kinds) if kind == "full_sparse"] == sparse
    assert ("F" in program.dims) == (len(sparse) < 4) and ("E" in program.dims) == (len(sparse) > 0)


def test_without_shared_experts():
    for nothing in (None, 0):
        program = build(config("deepseek_v3", n_shared_experts=nothing))
        assert steps(program)["ffn_out"].inputs == ("attn_out", "combine") and "S" not in program.dims


def test_layers_that_are_not_read():
    reasons = dict(build(config("deepseek_v3", num_nextn_predict_layers=2)).ignored_tensors)
    assert {"model.layers.4.*", "model.layers.5.*"} <= set(reasons)
    assert not any(pattern.startswith("model") for pattern, _ in build(config("kimi_k2")).ignored_tensors)


@pytest.mark.parametrize(("factor", "times", "width"), [(40, 1.0, 192), (32.0, 1.0, 192), (40, 0.707, 192),
                                                        (64.0, 1.0, 192), (8.0, 1.2, 14), (1.0, 1.0, 11)])  # fmt: skip
def test_scale(factor, times, width):
    """m^2 / sqrt(width), rounded once; independent of mscale."""
    scaling = YARN | {"factor": factor, "mscale": 0.3, "mscale_all_dim": times}
    changes = {"qk_nope_head_dim": width - 4, "rope_scaling": scaling}
    found = build(config("deepseek_v3", **changes)).dims["scale"]
    with localcontext(prec=50):
        m = Decimal(times) * Decimal(factor).ln() / 10 + 1
        exact = Fraction(m * m / Decimal(width).sqrt())
    around = [round32(math.nextafter(found, side * 9) * (1 + side * 2.0**-24)) for side in (-1, 1)]
    assert min((found, *around), key=lambda value: abs(Fraction(value) - exact)) == found
    assert abs(found - width**-0.5 * (0.1 * times * math.log(factor) + 1) ** 2) < 1e-7


def test_scale_without_mscale_all_dim():
    for scaling in (None, YARN, YARN | {"mscale": 1.0}, YARN | {"mscale_all_dim": 0.0, "mscale": 1.0}):
        assert build(config("deepseek_v3", rope_scaling=scaling)).dims["scale"] == round32(11**-0.5)
    table = build(config("deepseek_v3", rope_scaling=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0})).tables["rope"]
    assert table["mscale"] == table["mscale_all_dim"] == 1.0 and table["head_dim"] == 4


def test_nearest32():
    for n in range(1, 2000):
        value = Fraction(n, 997)
        assert nearest32(value) == round32(n / 997) or abs(Fraction(n / 997) - value) > 0
    assert nearest32(Fraction(2) ** -150 * 3) == 2.0**-148 and nearest32(1 + Fraction(2) ** -24) == 1.0


def test_kimi_k2_is_the_same_program():
    same = {"n_group": 1, "topk_group": 1, "num_nextn_predict_layers": None}
    left, right = build(config("kimi_k2")), build(config("deepseek_v3", **same))
    assert left.defined() | {"arch": ""} == right.defined() | {"arch": ""}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_experts_per_tok", 5),  # two open groups of two hold four
        ("num_experts_per_tok", 11),
        ("n_group", 3),
        ("n_group", 11),
        ("topk_group", 6),
        ("topk_method", "greedy"),
        ("scoring_func", "softmax"),
        ("norm_topk_prob", None),
        ("routed_scaling_factor", None),
        ("num_key_value_heads", 3),
        ("head_dim", 5),
        ("qk_head_dim", 12),
        ("qk_rope_head_dim", 3),
        ("kv_lora_rank", 0),
        ("q_lora_rank", 0),
        ("v_head_dim", None),
        ("first_k_dense_replace", None),
        ("moe_layer_freq", 0),
        ("mlp_bias", True),
        ("num_nextn_predict_layers", -1),
    ],
)
def test_refused(key, value):
    changes = {"head_dim": None} if key == "qk_rope_head_dim" else {}
    with pytest.raises(ConfigError, match=f"({key}|topk_group): expected"):
        build(config("deepseek_v3", **changes, **{key: value}))


def test_refused_mscale():
    for value in (-1.0, math.inf, True, "1", 1e300):
        with pytest.raises(ConfigError, match="mscale_all_dim"):
            build(config("deepseek_v3", rope_scaling=YARN | {"mscale_all_dim": value}))
