"""Vectors of the ops that came with qwen2_moe, olmoe, gpt_oss and glm4_moe."""

import numpy as np
from golden_cases import vector

from refmoe.numerics import rope_tables
from refmoe.steps import UNLIMITED

# ---- scale_by_sigmoid ----------------------------------------------------------------------------------------------


@vector("the gate left out, its logit used without the sigmoid, silu instead, one division for both", "E01")
def scale_by_sigmoid__both_signs(g):
    g.normal("x", 5, 20)
    g.literal("g", [[-3.25], [-0.4375], [0.0], [0.71], [4.1]])


@vector("one gate applied to all rows of a batch", "E01")
def scale_by_sigmoid__gates_differ_by_row(g):
    g.normal("x", 7, 3)
    g.normal("g", 7, 1, scale=2.0)


@vector("exp overflowing to nan for gates far above or below zero")
def scale_by_sigmoid__saturation(g):
    gates = [88.0, 88.8, 100.0, 1e30, -20.0, -87.0, -88.7, -88.8, -100.0, -1e30, 1e-40, -0.0]
    g.literal("x", [[1.0, -12.0]] * len(gates))
    g.literal("g", [[gate] for gate in gates])


@vector("a closed gate that skips its row and so hides inf and nan; -inf, inf and nan as gates")
def scale_by_sigmoid__special_values(g):
    row = [1.0, -1.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45]
    g.literal("x", [row] * 6)
    g.literal("g", [[-np.inf], [np.inf], [np.nan], [-100.0], [0.0], [100.0]])


# ---- clip ----------------------------------------------------------------------------------------------------------


@vector("values not limited, limited from above only, rows scaled instead, the limit's square")
def clip__both_sides(g):
    g.normal("x", 4, 20, scale=2.0)
    g.attrs["limit"] = 1.75


@vector("nan turned into the limit, infinities left, values at the limit changed, the sign of zero lost")
def clip__special_values(g):
    g.literal("x", [[np.inf, -np.inf, np.nan, 3.5, -3.5, np.nextafter(np.float32(3.5), np.float32(9)), -0.0, 1e-45]])
    g.attrs["limit"] = 3.5


# ---- attention_sinks -----------------------------------------------------------------------------------------------


def _sinks(g, heads, kv_heads, size, length, new, sinks, window=UNLIMITED, scale=None):
    """Queries for the last `new` of `length` positions; `sinks`: the values, or their spread."""
    g.normal("q", new, heads * size)
    g.normal("k", length, kv_heads * size)
    g.normal("v", length, kv_heads * size)
    g.ids("positions", range(length - new, length))
    if isinstance(sinks, float):
        g.normal("sinks", heads, scale=sinks)
    else:
        g.literal("sinks", sinks)
    scale = float(size**-0.5 if scale is None else scale)
    g.attrs = {"scale": scale, "window": window, "heads": heads, "kv_heads": kv_heads}


@vector("sinks left out, one sink for all heads, one for each KV head, its size as a weight", "A13 A16")
def attention_sinks__grouped_heads(g):
    _sinks(g, 6, 2, 8, 9, 9, [0.5, -1.25, 2.0, 1.0, -0.375, 2.75])


@vector("the sink multiplied by the scale of the scores", "A13")
def attention_sinks__sink_is_not_scaled(g):
    _sinks(g, 3, 3, 16, 6, 3, [1.5, 3.0, -2.0], scale=0.125)


@vector("dimensions beyond a multiple of 16 dropped", "A13")
def attention_sinks__odd_head_dim(g):
    _sinks(g, 5, 1, 20, 5, 2, 1.5)


@vector("window one key too wide or too narrow; the sink lost when the window moves on", "A12 A13")
def attention_sinks__window_boundary(g):
    _sinks(g, 2, 1, 8, 6, 3, [1.0, -1.0], window=4)
    q, k = np.ones((3, 16), np.float32), g.tensors["k"].copy()
    k[0], k[1], k[2] = 6.0, 4.0, 2.0  # position 3 sees 0..3, position 4 sees 1..4, position 5 sees 2..5
    g.literal("q", q)
    g.literal("k", k)


@vector("the sink counted once for each chunk, or added last; one running sum over more than 512 positions", "A13")
def attention_sinks__chunk_boundary(g):
    _sinks(g, 2, 1, 4, 519, 8, [4.0, 6.5])


@vector("the sink left out of the maximum: exp overflows and the row becomes nan or zero", "A13")
def attention_sinks__dominating_sink(g):
    _sinks(g, 4, 2, 8, 5, 2, [30.0, 95.0, 9.0, 120.0])


@vector("a sink far below the scores must change nothing")
def attention_sinks__negligible_sink(g):
    _sinks(g, 3, 1, 8, 4, 2, [-200.0, -np.inf, -40.0])


@vector("sinks of inf and nan ignored, or spread to the other heads")
def attention_sinks__special_sinks(g):
    _sinks(g, 6, 2, 8, 4, 2, [np.inf, 0.5, np.nan, -np.inf, -0.0, 1.0])


# ---- route_topk_softmax --------------------------------------------------------------------------------------------


def _routing(g, rows, experts, k, scale=1.0):
    g.attrs["k"] = k
    return g.normal("logits", rows, experts, scale=scale).copy()


@vector("softmax over all experts first; ids sorted; the other family's weights", "R08 R18 R21")
def route_topk_softmax__experts_32_choose_4(g):
    _routing(g, 5, 32, 4, scale=2.0)


@vector("a kernel that is wrong at one size: 128 experts, 4 chosen", "R08 R18 R21")
def route_topk_softmax__experts_128_choose_4(g):
    _routing(g, 3, 128, 4)


@vector("experts from 256 on never chosen; ids held in 8 bits; 384 experts, 8 chosen", "R17 R18 R21")
def route_topk_softmax__wide_256_plus(g):
    x = _routing(g, 2, 384, 8)
    x[:, [255, 256, 300, 383]] = [4.0, 5.0, 4.5, 6.0]
    g.literal("logits", x)


@vector("logits as weights; sigmoid weights; every expert chosen: k equal to E", "R07 R11 R21")
def route_topk_softmax__choose_all(g):
    _routing(g, 2, 5, 5)


@vector("one choice: normalised over tokens instead of experts", "R21 R22")
def route_topk_softmax__one_choice(g):
    _routing(g, 3, 8, 1)


@vector("the weights summed from the smallest on, or by lanes")
def route_topk_softmax__sum_in_rank_order(g):
    _routing(g, 6, 40, 9, scale=1.5)


@vector("ties within the chosen and at the cut: the lower id first", "R15")
def route_topk_softmax__tie_at_cut(g):
    g.literal("logits", [[1, 3, 2, 2, 0, 2, -1, 1], [2, 0, 1, 1, 2, 2, 0, 1], [0, 0, 5, 5, 5, 5, 0, 0]])
    g.attrs["k"] = 2


@vector("a row of equal logits: duplicate ids, or the highest ids", "R15 R16")
def route_topk_softmax__all_equal(g):
    g.literal("logits", np.full((2, 8), [[0.5], [-3.0]], np.float32))
    g.attrs["k"] = 3


@vector("padding experts with logit 0 win", "R19")
def route_topk_softmax__all_negative(g):
    g.literal("logits", _routing(g, 3, 10, 3) - np.float32(20))


@vector("nan in a row: never chosen while there are numbers, no duplicate ids, other rows untouched", "R16")
def route_topk_softmax__nan_row(g):
    x = _routing(g, 5, 8, 3)
    x[0, 0], x[1] = np.nan, np.nan
    x[2, :7] = np.nan
    x[3, [1, 4]], x[3, [0, 2, 3, 5, 6, 7]] = np.nan, -np.inf
    g.literal("logits", x)


@vector("-inf made a large negative number; +inf gives finite weights")
def route_topk_softmax__infinite_logits(g):
    x = _routing(g, 4, 6, 3)
    x[0, [0, 3]], x[1, 1], x[2, 1:], x[3, :] = -np.inf, np.inf, -np.inf, -np.inf
    g.literal("logits", x)


@vector("bfloat16 logits: experts that differ become a tie at the cut", "R12")
def route_topk_softmax__near_tie_at_cut(g):
    x = _routing(g, 2, 16, 4)
    x[:, 3], x[:, 9], x[:, [1, 12, 14]] = 5.0, 5.001, [6.0, 7.0, 8.0]
    g.literal("logits", x)


@vector("exp without subtracting the maximum")
def route_topk_softmax__large_logits(g):
    x = _routing(g, 2, 16, 4, scale=60.0)
    x[:, 5] = [95.0, 120.0]
    g.literal("logits", x)


@vector("one maximum for the whole batch: the row of low logits underflows", "R20")
def route_topk_softmax__rows_of_different_level(g):
    g.literal("logits", _routing(g, 3, 8, 2) + np.array([[0.0], [-150.0], [90.0]], np.float32))


# ---- expert_linear_bias --------------------------------------------------------------------------------------------


@vector("the bias starts the accumulator, or is left out", "W02")
def expert_linear_bias__bias_after_tree(g):
    g.normal("x", 4, 20)
    g.normal("w", 3, 8, 20)
    g.normal("b", 3, 8)
    g.ids("ids", [[1, 0], [1, 2], [2, 1], [1, 0]])


@vector("biases of gate and up taken as halves where they are interleaved; K biases after the weights", "E04 E05")
def expert_linear_bias__bias_before_routing_weight(g):
    g.normal("x", 2, 5)
    g.normal("w", 4, 10, 5)
    g.normal("b", 4, 10, scale=3.0)
    g.ids("ids", [[2, 0, 1], [0, 1, 3]])


@vector("experts stored in another order than their ids; the bias of the rank instead of the expert", "E08")
def expert_linear_bias__permuted_experts(g):
    g.normal("x", 3, 20)
    g.normal("w", 5, 6, 20)
    g.normal("b", 5, 6)
    g.ids("ids", [[4, 0], [2, 1], [1, 3]])


@vector("second signature: every choice has its own row; the token's first row used for all")
def expert_linear_bias__row_per_choice(g):
    g.normal("x", 3, 2, 10)
    g.normal("w", 4, 18, 10)
    g.normal("b", 4, 18)
    g.ids("ids", [[3, 1], [0, 3], [2, 1]])


# ---- swiglu_clamped ------------------------------------------------------------------------------------------------

GPT_OSS = {"limit": 7.0, "alpha": 1.702}


@vector("the 1 not added to up, silu without alpha, a sigmoid rounded before it is multiplied")
def swiglu_clamped__both_signs(g):
    g.normal("x", 3, 2, 40, scale=2.0)
    g.attrs = dict(GPT_OSS)


@vector("halves taken for interleaved rows, gate and up exchanged", "E05")
def swiglu_clamped__up_and_gate_differ(g):
    x = g.normal("x", 2, 2, 34, scale=0.5).copy()
    x[..., 0::2] *= np.float32(8.0)
    g.literal("x", x)
    g.attrs = dict(GPT_OSS)


@vector("no clamp, a gate clamped from below too, an up clamped from above only", "E03")
def swiglu_clamped__around_the_limit(g):
    near = [7.0, np.nextafter(np.float32(7), np.float32(8)), np.nextafter(np.float32(7), np.float32(0)), 7.5, 30.0, 6.5]
    gates, ups = np.meshgrid([*near, *(-v for v in near)], [*near, *(-v for v in near), -1.0])
    g.literal("x", np.stack([gates, ups], axis=-1).reshape(1, 13, 24))
    g.attrs = dict(GPT_OSS)


@vector("alpha 1.702 or limit 7 fixed in the code", "E03")
def swiglu_clamped__other_alpha(g):
    g.normal("x", 2, 3, 30, scale=4.0)
    g.attrs = {"limit": 2.5, "alpha": 1.25}


@vector("exp overflowing to nan for gates far below zero", "E03")
def swiglu_clamped__saturation(g):
    gates = [-20.0, -51.0, -52.1, -52.2, -60.0, -100.0, -1e30, 1e30, 1e-40, -0.0, 0.0]
    g.literal("x", [[[v for gate in gates for v in (gate, up)] for up in (1.0, -12.0, -1.0)]])
    g.attrs = dict(GPT_OSS)


@vector("nan turned into the limit, an infinite up not clamped, gate -inf taken as a limit")
def swiglu_clamped__special_values(g):
    gates = [np.nan, 1.0, np.inf, -np.inf, 1.0, 1.0, -100.0]
    ups = [1.0, np.nan, 1.0, 1.0, np.inf, -np.inf, np.inf]
    g.literal("x", np.stack([gates, ups], axis=-1).reshape(1, 1, -1))
    g.attrs = dict(GPT_OSS)


# ---- rope_half_partial ---------------------------------------------------------------------------------------------


def _partial(g, heads, size, spec, positions):
    """Heads of `size` numbers, turned as the table says."""
    inv_freq, amplitude = rope_tables.from_spec(spec)
    g.normal("x", len(positions), heads * size)
    g.ids("positions", positions)
    g.literal("inv_freq", inv_freq)
    g.attrs = {"amplitude": float(amplitude), "head_dim": size}


@vector("the last part of a head turned, or all of it; pairs half a head apart, or neighbours; frequencies of the "
        "whole head; the rest dropped", "A04 A07")  # fmt: skip
def rope_half_partial__pairs_in_the_turned_part(g):
    _partial(g, 3, 16, {"kind": "default", "head_dim": 8, "base": 1e6}, [0, 3, 50])


@vector("a factor of one half assumed: here a quarter of 20 numbers, rounded down", "A04")
def rope_half_partial__quarter(g):
    _partial(g, 2, 20, {"kind": "default", "head_dim": 4, "base": 10000.0}, [1, 2, 77])


@vector("YaRN's factor of cos and sin applied to the rest as well", "A07")
def rope_half_partial__amplitude_on_the_turned_part(g):
    spec = {"kind": "yarn", "head_dim": 8, "base": 1e6, "factor": 4.0, "original_max_position_embeddings": 32}
    _partial(g, 2, 16, spec, [0, 5, 100])


@vector("angles in another precision")
def rope_half_partial__far_position(g):
    _partial(g, 1, 12, {"kind": "default", "head_dim": 6, "base": 1e6}, [131071, 1000001, 4194303])


@vector("the rest multiplied by cos 0 and sin 0, so that inf becomes nan; nan lost")
def rope_half_partial__special_values(g):
    _partial(g, 1, 8, {"kind": "default", "head_dim": 4, "base": 100.0}, [0, 7])
    rows = [1.0, -0.0, 2.0, 0.5, np.inf, np.nan, -0.0, -np.inf], [np.nan, 1.0, -np.inf, 2.0, 1e-45, np.inf, 3.0, -1.0]
    g.literal("x", rows)
