"""Vectors of the routing with groups and of latent attention; sigmoid__ makes one for both ops of the pair."""

import numpy as np
from golden_cases import PAIRS, vector

PAIRS["sigmoid"] = ("route_sigmoid_groups", "route_sigmoid_groups_renorm")
GROUPS = ("route_softmax_groups", *PAIRS["sigmoid"])
PAIRS["groups"] = GROUPS


# ---- routing with groups -------------------------------------------------------------------------------------------

def _routing(g, rows, experts, k, groups=1, open_groups=1, factor=1.0, spread=1.0, bias=0.2):
    """Random logits, and a random bias where the op has one; returns copies."""
    g.attrs = {"k": k, "groups": groups, "open_groups": open_groups, "factor": factor}
    x = g.normal("logits", rows, experts, scale=spread).copy()
    return x, (g.normal("bias", experts, scale=bias).copy() if "sigmoid" in g.op else None)


def _written(g, logits, k, groups=1, open_groups=1, factor=1.0, bias=None):
    """Logits and bias written down; the bias is zero unless given."""
    g.attrs = {"k": k, "groups": groups, "open_groups": open_groups, "factor": factor}
    g.literal("logits", logits)
    if "sigmoid" in g.op:
        g.literal("bias", np.zeros(len(logits[0])) if bias is None else bias)


def _one_good(g, logits, bias, first, last):
    """The group first..last-1 has the best expert of all, and otherwise bad ones."""
    logits[:, first:last] -= np.float32(4)
    bias[first:last] -= np.float32(1)
    logits[:, first + 3], bias[first + 3] = 4.0, 0.75
    g.literal("logits", logits)
    g.literal("bias", bias)


def _logit(scores):
    """Logits whose sigmoid is near the scores."""
    scores = np.asarray(scores, np.float64)
    return np.log(scores / (1 - scores)).astype(np.float32)


@vector("the bias in the weights, no bias in the choice, softmax, raw logits as weights, weights (not) renormalised",
        "R01 R02 R07 R08 R11")
def sigmoid__bias_for_choice_only(g):
    _routing(g, 4, 8, 2, factor=2.5)


@vector("Kimi-K2: 384 experts, 8 chosen, one group; the factor twice or never; experts from 256 on never chosen",
        "R01 R02 R09 R10 R17 R18 R21")
def sigmoid__experts_384_choose_8(g):
    x, _ = _routing(g, 3, 384, 8, factor=2.827)
    x[:, [255, 256, 300, 383]] = [4.0, 5.0, 4.5, 6.0]
    g.literal("logits", x)


@vector("DeepSeek-V3: 256 experts in 8 groups, 4 open, 8 chosen; groups by their best; all groups open",
        "R01 R02 R03 R05 R09 R10 R18 R21")
def sigmoid__experts_256_groups_8_choose_8(g):
    _one_good(g, *_routing(g, 4, 256, 8, 8, 4, factor=2.5), 32, 64)


@vector("a kernel that is wrong at one size: 64 experts, 6 chosen (Moonlight)", "R01 R09 R10 R18 R21")
def sigmoid__experts_64_choose_6(g):
    _routing(g, 2, 64, 6, factor=2.446)


@vector("a kernel that is wrong at one size: 128 experts, 8 chosen", "R01 R18 R21")
def sigmoid__experts_128_choose_8(g):
    _routing(g, 3, 128, 8)


@vector("a kernel that is wrong at one size: 60 experts in 5 groups of 12, 3 open, 4 chosen", "R03 R05 R18 R21")
def sigmoid__experts_60_groups_5_choose_4(g):
    _one_good(g, *_routing(g, 4, 60, 4, 5, 3, factor=1.5), 12, 24)


@vector("512 experts in 16 groups, winners above 255; ids held in 8 bits", "R05 R17")
def sigmoid__wide_groups_above_255(g):
    x, _ = _routing(g, 2, 512, 8, 16, 4, factor=2.5)
    x[:, [255, 256, 300, 400, 511]] = [4.0, 5.0, 4.5, 4.2, 6.0]
    x[:, [260, 301, 401, 500]] = [3.0, 3.1, 3.2, 3.3]
    g.literal("logits", x)


@vector("group score by its best expert: a group with one high score against one with two good ones", "R03 R05")
def sigmoid__groups_by_two_best(g):
    one = [0.95, 0.1, 0.1, 0.1, 0.6, 0.55, 0.2, 0.2, 0.7, 0.5, 0.1, 0.05, 0.3, 0.3, 0.3, 0.3]
    _written(g, [_logit(one), _logit(one[::-1])], 3, 4, 2, 2.5)


@vector("closed groups filled with 0: they win when the scores of the open ones are negative", "R04")
def sigmoid__closed_group_beats_negative_scores(g):
    _, bias = _routing(g, 3, 12, 4, 3, 1, factor=2.5)
    g.literal("bias", bias - np.float32(3))


@vector("the score taken back from the biased one, (s + b) - b: zero for tiny scores", "R14")
def sigmoid__tiny_scores_large_bias(g):
    x, bias = _routing(g, 3, 16, 4, factor=2.5, bias=0.01)
    g.literal("logits", x - np.float32(18))
    g.literal("bias", bias + np.float32(12))


@vector("the bias held in bfloat16: neighbours become equal, others change places", "R13")
def sigmoid__bias_beyond_bf16(g):
    _routing(g, 3, 16, 4, spread=0.01)
    g.literal("bias", 8.0 + 0.004 * ((7 * np.arange(16)) % 16))


@vector("the sum of score and bias not rounded to binary32: two of them differ, their biased scores do not")
def sigmoid__tie_made_by_rounding(g):
    _written(g, [[0.5, 1.0, 1.5, 0.75, 2.0, -1.0]], 2, bias=[2.0**25] * 5 + [2.0**25 + 8])


@vector("1e-20 forgotten: 0 / 0 where all scores underflow; scores that lose to it")
def sigmoid__all_scores_zero(g):
    x, _ = _routing(g, 3, 8, 3, factor=2.5)
    x[0], x[1] = -np.inf, np.linspace(-120.0, -95.0, 8)
    x[2] = np.linspace(-48.0, -46.0, 8)
    g.literal("logits", x)


@vector("padding experts with logit 0 win, or enter the sum", "R19")
def groups__all_negative(g):
    x, _ = _routing(g, 3, 10, 3, bias=0.01)
    g.literal("logits", x - np.float32(20))


@vector("softmax for sigmoid or the reverse; inf and -inf give finite or nan scores")
def sigmoid__infinite_values(g):
    x, bias = _routing(g, 3, 8, 3, 2, 1)
    x[0, [0, 3]], x[1, 1], x[2, :4] = -np.inf, np.inf, -np.inf
    bias[[1, 6]] = np.inf, -np.inf
    g.literal("logits", x)
    g.literal("bias", bias)


@vector("-inf (a masked expert) gives nan; +inf gives a finite weight")
def route_softmax_groups__infinite_logits(g):
    x, _ = _routing(g, 3, 6, 2, 2, 1, factor=16.0)
    x[0, [0, 3]], x[1, 1], x[2, 1:] = -np.inf, np.inf, -np.inf
    g.literal("logits", x)


@vector("a tie at the cut decided for the higher id", "R15")
def groups__tie_at_cut(g):
    rows = [[1, 3, 2, 2, 0, 2, -1, 1], [2, 0, 1, 1, 2, 2, 0, 1], [0, 0, 5, 5, 5, 5, 0, 0]]
    _written(g, rows, 2, factor=2.5)


@vector("a tie between groups at the cut decided for the higher group", "R15")
def groups__tie_between_groups(g):
    _written(g, [[1, 0, 0, 0, 2, 1, 1, 2, 0, 1, 2, 1], [3, 3, 1, 1, 1, 1, 3, 3, 0, 3, 0, 3]], 3, 4, 2, 2.5)


@vector("a row of equal logits: duplicate ids, or the highest ids", "R15 R16")
def groups__all_equal(g):
    _written(g, np.full((2, 8), [[0.5], [-3.0]], np.float32), 3, 2, 1, 2.5)


@vector("nan in a row: duplicate or out-of-range ids, a nan that beats a number, other rows touched", "R16")
def groups__nan_row(g):
    x, _ = _routing(g, 4, 12, 3, 3, 1, factor=2.5)
    x[0, 2], x[1], x[2, [0, 1, 2, 4, 5, 6, 8, 9, 10]] = np.nan, np.nan, np.nan
    g.literal("logits", x)


@vector("bfloat16 logits: experts that differ become a tie at the cut", "R12")
def groups__near_tie_at_cut(g):
    x, _ = _routing(g, 2, 16, 4, bias=0.0)
    x[:, 3], x[:, 9], x[:, [1, 12, 14]] = 2.0, 2.0005, [2.5, 3.0, 3.5]
    g.literal("logits", x)


@vector("one choice: normalised over tokens instead of experts; k ignored", "R21 R22")
def groups__one_choice(g):
    _routing(g, 3, 8, 1, 2, 1, factor=2.5)


@vector("every expert chosen: k equal to E", "R21")
def groups__choose_all(g):
    _routing(g, 2, 6, 6, 3, 3, factor=2.5)


@vector("the groups of the first row open for the whole batch", "R20")
def groups__groups_differ_by_row(g):
    x, _ = _routing(g, 4, 16, 3, 4, 1, factor=2.5)
    g.literal("logits", x + np.float32(3) * np.eye(4, dtype=np.float32)[[2, 0, 3, 1]].repeat(4, axis=1))


@vector("DeepSeek-V2: 160 experts in 8 groups, 3 open, 6 chosen, factor 16; the factor twice or never; sigmoid",
        "R05 R07 R09 R10 R11 R18 R21")
def route_softmax_groups__experts_160_groups_8_choose_6(g):
    _routing(g, 3, 160, 6, 8, 3, factor=16.0)


@vector("DeepSeek-V2-Lite: 64 experts, 6 chosen, one group; softmax of the chosen only, renormalised",
        "R06 R08 R18 R21")
def route_softmax_groups__experts_64_choose_6(g):
    _routing(g, 2, 64, 6)


@vector("a kernel that is wrong at one size: 60 experts in 5 groups of 12, 3 open, 4 chosen", "R05 R18 R21")
def route_softmax_groups__experts_60_groups_5_choose_4(g):
    x, _ = _routing(g, 4, 60, 4, 5, 3, factor=1.5)
    x[:, [3, 15, 27, 50]] = [5.0, 4.8, 4.6, 4.4]
    g.literal("logits", x)


@vector("512 experts in 16 groups, winners above 255; ids held in 8 bits", "R05 R17")
def route_softmax_groups__wide_groups_above_255(g):
    x, _ = _routing(g, 2, 512, 8, 16, 4, factor=16.0)
    x[:, [255, 256, 300, 400, 511]] = [4.0, 5.0, 4.5, 4.2, 6.0]
    g.literal("logits", x)


@vector("group score by the sum of its two best experts, as in DeepSeek-V3", "R05")
def route_softmax_groups__groups_by_best(g):
    one = [3.0, -2.0, -2.0, -2.0, 2.8, 2.7, 0.0, 0.0, 2.9, -1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    _written(g, [one, one[::-1]], 3, 4, 2, 16.0)


@vector("closed groups filled with 0: experts of lower id win over open ones whose probability is 0", "R04")
def route_softmax_groups__closed_group_beats_zeros(g):
    _written(g, [[-150.0] * 8 + [0.0, -160.0, -170.0, -1.0]], 4, 3, 1, 16.0)


@vector("chosen by logits: two of them differ, their probabilities do not, so the lower id wins")
def route_softmax_groups__tie_made_by_rounding(g):
    low = np.float32(2.0**-30)
    _written(g, [[low, 2 * low, 1.0, 0.0, 3 * low, -1.0]], 2, 2, 2, 16.0)


# ---- latent attention ----------------------------------------------------------------------------------------------

def _split(g, heads, left, right):
    g.attrs = {"left": left, "right": right, "heads": heads}


@vector("the two parts of all heads taken as two halves of the row, or exchanged")
def split_heads__several_heads(g):
    g.normal("x", 2, 3 * 11)
    _split(g, 3, 7, 4)


@vector("one head: the latent and the rotated key exchanged")
def split_heads__one_head(g):
    g.normal("x", 3, 22)
    _split(g, 1, 18, 4)


@vector("nan, inf and signed zeros changed by a computation that should only copy")
def split_heads__special_values(g):
    g.literal("x", [[np.nan, -0.0, np.inf, 1e-45, -np.inf, 0.0]])
    _split(g, 2, 1, 2)


def _absorb(g, tokens, heads, size, rows, rank, spread=1.0):
    g.normal("x", tokens, heads * size, scale=spread)
    g.normal("w", heads * rows, rank)
    g.attrs = {"heads": heads}


@vector("any other order of the sum over p, multiply and add rounded apart", "N03")
def absorb_query__lane_order(g):
    _absorb(g, 9, 2, 48, 56, 18)


@vector("rows beyond a multiple of 16 dropped; ranks that are no multiple of 16")
def absorb_query__odd_sizes(g):
    _absorb(g, 3, 3, 21, 30, 19)


@vector("the value rows of a head taken for its key rows, or all keys before all values")
def absorb_query__key_rows_only(g):
    _absorb(g, 2, 3, 8, 20, 16)


@vector("the rows of the first head used for all")
def absorb_query__heads_have_their_own_rows(g):
    _absorb(g, 2, 4, 6, 9, 10)


@vector("the matrix not transposed, which no shape check sees: P = R", "E06")
def absorb_query__square(g):
    _absorb(g, 2, 2, 16, 24, 16)


@vector("zeros skipped, so that 0 * inf is not nan; nan spread to other columns")
def absorb_query__special_values(g):
    x, w = np.ones((2, 6), np.float32), np.ones((8, 18), np.float32)
    x[0, 1], x[1, 5] = 0.0, np.inf
    w[1, 3], w[4, 2], w[5, 17] = np.inf, np.nan, -1.0
    g.literal("x", x)
    g.literal("w", w)
    g.attrs = {"heads": 2}


def _expand(g, tokens, heads, rank, rows, width):
    g.normal("x", tokens, heads * rank)
    g.normal("w", heads * rows, rank)
    g.attrs = {"heads": heads, "width": width}


@vector("any other order of the sum over r, multiply and add rounded apart")
def expand_value__lane_order(g):
    _expand(g, 2, 2, 64, 9, 5)


@vector("ranks that are no multiple of 16: the last elements dropped")
def expand_value__odd_sizes(g):
    _expand(g, 3, 3, 19, 30, 9)


@vector("the key rows of a head taken for its value rows, or all keys before all values")
def expand_value__value_rows_only(g):
    _expand(g, 2, 3, 16, 20, 12)


@vector("the rows of the first head used for all")
def expand_value__heads_have_their_own_rows(g):
    _expand(g, 2, 4, 10, 9, 3)


@vector("a batch summed in another order than a single row", "N03")
def expand_value__many_rows(g):
    _expand(g, 33, 2, 40, 8, 3)


@vector("zeros skipped, so that 0 * inf is not nan; nan spread to other heads")
def expand_value__special_values(g):
    x, w = np.ones((2, 34), np.float32), np.ones((6, 17), np.float32)
    x[0, 3], x[1, 20] = 0.0, np.inf
    w[1, 3], w[4, 3], w[5, 16] = np.inf, -1.0, np.nan
    g.literal("x", x)
    g.literal("w", w)
    g.attrs = {"heads": 2, "width": 2}


def _latent(g, heads, rank, rotated, length, new, scale=None, spread=1.0):
    """Queries for the last `new` of `length` positions."""
    g.normal("q", new, heads * rank, scale=spread)
    g.normal("q_rope", new, heads * rotated, scale=spread)
    g.normal("latent", length, rank, scale=spread)
    g.normal("k_rope", length, rotated, scale=spread)
    g.ids("positions", range(length - new, length))
    g.attrs = {"scale": float((rank + rotated) ** -0.5 if scale is None else scale), "heads": heads}


@vector("ranks that are no multiple of 16: rotated elements begin in the middle of a vector; keys of the future seen")
def latent_attention__odd_sizes(g):
    _latent(g, 5, 21, 6, 9, 9)


@vector("the rotated part forgotten, or added as a sum of its own")
def latent_attention__rotated_part_counts(g):
    _latent(g, 3, 16, 8, 6, 6)


@vector("the value of a position taken from the end of its row, where the rotated key lies")
def latent_attention__values_are_latents_only(g):
    _latent(g, 4, 12, 12, 5, 2)


@vector("softmax scale without YaRN's mscale squared, or by the width of the latent row", "A01 A02")
def latent_attention__scale_is_an_attribute(g):
    _latent(g, 2, 16, 8, 6, 3, scale=24**-0.5 * 1.3466**2)


@vector("one running sum over more than 512 positions; the first position of the second chunk lost")
def latent_attention__chunk_boundary(g):
    _latent(g, 2, 6, 2, 514, 4)


@vector("partial results of three chunks added in another order")
def latent_attention__three_chunks(g):
    _latent(g, 2, 4, 2, 1030, 3)


@vector("position 0 sees nothing: the query must see itself")
def latent_attention__first_position(g):
    _latent(g, 4, 20, 4, 1, 1)


@vector("exp of scores without subtracting the maximum")
def latent_attention__large_scores(g):
    _latent(g, 2, 16, 8, 7, 3, spread=12.0)


@vector("masking by adding or by a weight of 0: nan and inf out of sight leak")
def latent_attention__out_of_sight_nan(g):
    _latent(g, 2, 8, 4, 6, 3)
    latent, k_rope = g.tensors["latent"].copy(), g.tensors["k_rope"].copy()
    latent[5], k_rope[4] = np.nan, np.inf  # position 3 sees neither
    g.literal("latent", latent)
    g.literal("k_rope", k_rope)
