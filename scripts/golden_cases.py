"""The op vectors: inputs, and what each of them hunts. Results are added by make_golden.py.

A function named <op>__<case> fills in one vector; rope__ and route__ make it for both ops of the pair. Files named
golden_cases_*.py beside this one hold those of further ops. Random inputs
are counter.fill_normal with SEED and a stream named after op, case and tensor; everything else is a literal.
`bugs` are ids of the bug catalogue that the vector must kill (tests/ops computes the bug and looks).
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from refmoe.numerics import counter, rope_tables
from refmoe.steps import UNLIMITED

SEED = 1
PAIRS = {"rope": ("rope_half", "rope_pairs"), "route": ("route_softmax_topk", "route_softmax_topk_renorm")}
_DRAFTS = []


@dataclass
class Draft:
    """One vector before its results are known."""

    op: str
    name: str
    hunts: str
    bugs: tuple[str, ...]
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    attrs: dict[str, float | int] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def normal(self, name, *shape, scale=1.0):
        """A bell-shaped random input; its standard deviation is `scale`."""
        stream = f"ops/{self.op}/{self.name}/{name}"
        values = counter.fill_normal(SEED, counter.stream_of(stream), int(np.prod(shape)), scale)
        self.tensors[name] = values.reshape(shape)
        self.sources[name] = f"normal(seed={SEED}, stream={stream!r}, scale={scale!r})"
        return self.tensors[name]

    def literal(self, name, values, dtype=np.float32):
        """An input written down, or derived from a random one."""
        self.tensors[name] = np.ascontiguousarray(values, dtype)
        self.sources[name] = "literal"

    def ids(self, name, values):
        """An i64 input written down."""
        self.literal(name, values, np.int64)


def vector(hunts, bugs=""):
    """Register the function as the maker of one vector, or of one for each op of a pair."""
    def register(make):
        op, _, name = make.__name__.partition("__")
        for one in PAIRS.get(op, (op,)):
            _DRAFTS.append((make, one, name, hunts, tuple(bugs.split())))
        return make

    return register


def drafts():
    """All op vectors, inputs only."""
    for path in sorted(Path(__file__).parent.glob("golden_cases_*.py")):
        importlib.import_module(path.stem)
    made = []
    for make, op, name, hunts, bugs in _DRAFTS:
        draft = Draft(op, name, hunts, bugs)
        make(draft)
        made.append(draft)
    return made


# ---- embedding, add, swiglu, combine -------------------------------------------------------------------------------

@vector("ids counted from 1, a row scaled by sqrt(H)")
def embedding__first_and_last_row(g):
    g.normal("w", 7, 12)
    g.ids("ids", [0, 6, 3])


@vector("rows handed out once per distinct id, or in sorted order")
def embedding__repeated_ids(g):
    g.normal("w", 5, 3)
    g.ids("ids", [4, 1, 4, 4, 0, 1])


@vector("the residual dropped, or added twice")
def add__residual_first(g):
    g.normal("a", 3, 20)
    g.normal("b", 3, 20, scale=0.1)


@vector("inf - inf, signed zeros, sums of subnormals flushed to zero")
def add__special_values(g):
    g.literal("a", [[np.inf, np.inf, -0.0, 0.0, 3e38, 1e-45, 1e-40, np.nan]])
    g.literal("b", [[-np.inf, 1.0, -0.0, -0.0, 3e38, 1e-45, 2e-40, 1.0]])


@vector("silu of the product, gelu for silu, a sigmoid rounded before it is multiplied")
def swiglu__both_signs(g):
    g.normal("gate", 3, 2, 20, scale=3.0)
    g.normal("up", 3, 2, 20)


@vector("exp overflowing to nan, values clamped although the model has no limit", "E03")
def swiglu__saturation(g):
    gate = [0.0, -0.0, 7.5, 20.0, 88.0, 88.8, 100.0, 1e30, -7.5, -20.0, -87.0, -88.7, -88.8, -100.0, -1e30, 1e-40]
    gate.append(1e-30)
    g.literal("gate", [gate, gate])
    g.literal("up", [[1.0] * len(gate), [-12.0] * len(gate)])


@vector("gate and up exchanged", "E05")
def swiglu__exchanged_operands(g):
    g.normal("gate", 2, 33, scale=4.0)
    g.normal("up", 2, 33, scale=0.5)


@vector("nan lost, -inf taken as a limit instead of nan")
def swiglu__special_values(g):
    g.literal("gate", [np.inf, -np.inf, np.nan, 1.0, 1.0, 1.0, -100.0, -100.0])
    g.literal("up", [1.0, 1.0, 1.0, np.nan, np.inf, -np.inf, -3.0, np.inf])


@vector("experts added in ascending id, in reverse, or without fused multiply-add", "N04")
def combine__rank_order_not_id_order(g):
    g.normal("x", 3, 8, 20)
    w = g.normal("weights", 3, 8)
    g.literal("weights", np.sort(np.abs(w), axis=1)[:, ::-1])


@vector("large outputs of opposite sign that cancel before a small one is added", "N04")
def combine__cancellation(g):
    x = np.zeros((1, 3, 17), np.float32)
    x[0, 0], x[0, 1], x[0, 2] = 3e7, -3e7, np.linspace(-1.0, 1.0, 17)
    g.literal("x", x)
    g.literal("weights", [[0.5, 0.5, 0.25]])


@vector("weights applied twice, or not at all")
def combine__weights_applied_once(g):
    g.normal("x", 2, 2, 20)
    g.literal("weights", [[0.75, 0.25], [0.4, 0.1]])


@vector("an expert of weight 0 skipped although its output is not finite")
def combine__special_values(g):
    g.literal("x", [[[np.inf, np.nan, 1.0, -0.0], [1.0, 1.0, -0.0, -0.0]]])
    g.literal("weights", [[0.0, 1.0]])


# ---- norms ---------------------------------------------------------------------------------------------------------

@vector("eps left at another default, added outside the root, or forgotten", "A14")
def rms_norm__eps_dominates(g):
    x = g.normal("x", 3, 24, scale=0.0005)
    g.literal("x", x * np.array([[1.0], [0.0], [2.0]], np.float32))
    g.normal("w", 24)
    g.attrs = {"eps": 1e-5}


@vector("1 + w used for w, or the weights never applied", "A11 E10")
def rms_norm__weights_near_zero_and_one(g):
    g.normal("x", 2, 20)
    w = g.normal("w", 20, scale=0.02)
    g.literal("w", w + (np.arange(20) % 2).astype(np.float32))
    g.attrs = {"eps": 1e-6}


@vector("an overflowing sum of squares avoided by float64 or by scaling: the clause says 1 / inf = 0")
def rms_norm__one_large(g):
    x = g.normal("x", 3, 20)
    x = x.copy()
    x[0, 7], x[1, 3], x[2, 0] = 3e20, -1.5e19, 1e19
    g.literal("x", x)
    g.normal("w", 20)
    g.attrs = {"eps": 1e-6}


@vector("another order of the sum; scale or normalised value rounded to bfloat16; rows of a batch summed otherwise",
        "N01 N02 N03")
def rms_norm__wide_row(g):
    g.normal("x", 3, 1000)
    g.normal("w", 1000)
    g.attrs = {"eps": 1e-6}


@vector("mean over the padded width")
def rms_norm__padding_lane(g):
    g.normal("x", 2, 17)
    g.normal("w", 17)
    g.attrs = {"eps": 1e-6}


@vector("subnormals flushed to zero")
def rms_norm__subnormal_row(g):
    g.literal("x", [[k * 2.0**-149 * (-1) ** k for k in range(20)]])
    g.literal("w", [1.0] * 10 + [0.25] * 10)
    g.attrs = {"eps": 1e-6}


@vector("nan kept to its element; inf: the scale is 0, so only inf itself gives nan; a neighbouring row touched")
def rms_norm__special_values(g):
    x = g.normal("x", 3, 20).copy()
    x[0, 4], x[1, 19], x[2, 1] = np.nan, np.inf, -0.0
    g.literal("x", x)
    g.normal("w", 20)
    g.attrs = {"eps": 1e-6}


@vector("one mean over all heads, weights of the full width, the norm never called", "A10 A11")
def head_norm__heads_differ(g):
    x = g.normal("x", 2, 36)
    g.literal("x", x * np.repeat(np.array([1.0, 30.0, 0.02], np.float32), 12))
    w = g.normal("w", 12, scale=0.5)
    g.literal("w", w + np.float32(1))
    g.attrs = {"eps": 1e-6}


@vector("the norm applied after rotation instead of before: same length, other weights on each element", "A09")
def head_norm__weights_not_uniform(g):
    g.normal("x", 3, 32)
    g.literal("w", 2.0 ** -(np.arange(16) % 5).astype(np.float32))
    g.attrs = {"eps": 1e-6}


@vector("eps left at another default, added outside the root, or forgotten", "A14")
def head_norm__eps_dominates(g):
    g.normal("x", 2, 32, scale=0.0005)
    g.normal("w", 16)
    g.attrs = {"eps": 1e-5}


@vector("mean over the padded head", "A10")
def head_norm__odd_width(g):
    g.normal("x", 2, 140)
    g.normal("w", 20)
    g.attrs = {"eps": 1e-6}


# ---- linear, linear_bias, logits, argmax ---------------------------------------------------------------------------

@vector("any other order of the sum, multiply and add rounded apart, binary64 accumulation")
def linear__lane_order(g):
    g.normal("x", 2, 64)
    g.normal("w", 5, 64)


@vector("the last elements of a row dropped, or read past its end")
def linear__partial_lanes(g):
    g.normal("x", 2, 37)
    g.normal("w", 5, 37)


@vector("product rounded before it is added: the exact rest 2^-24 is lost")
def linear__cancellation(g):
    x, w = np.zeros((1, 17), np.float32), np.zeros((2, 17), np.float32)
    x[0, 0], x[0, 16] = -(1.0 + 2.0**-11), 1.0 + 2.0**-12
    w[:, 0] = 1.0
    w[0, 16], w[1, 16] = 1.0 + 2.0**-12, 1.0
    g.literal("x", x)
    g.literal("w", w)


@vector("a batch summed in another order than a single row", "N03")
def linear__many_rows(g):
    g.normal("x", 33, 40)
    g.normal("w", 3, 40)


@vector("matrix-vector path: rows of W beyond the last full block")
def linear__one_row(g):
    g.normal("x", 1, 20)
    g.normal("w", 37, 20)


@vector("a square matrix transposed, which no shape check sees", "E06")
def linear__square_matrix(g):
    g.normal("x", 2, 24)
    g.normal("w", 24, 24)


@vector("a matrix read as [in, out]", "E06")
def linear__non_square_matrix(g):
    g.normal("x", 2, 24)
    g.normal("w", 10, 24)


@vector("router logits rounded to bfloat16, or softmaxed before they are recorded", "R12 R23")
def linear__router_near_tie(g):
    g.normal("x", 4, 36)
    w = g.normal("w", 8, 36, scale=0.3).copy()
    w[5] = w[3] * np.float32(1.0005)
    g.literal("w", w)


@vector("zeros skipped, so that 0 * inf is not nan; nan spread to other rows or columns; the sign of a zero sum")
def linear__special_values(g):
    x, w = np.ones((3, 16), np.float32), np.ones((3, 16), np.float32)
    x[0, 3], x[1, 2] = 0.0, np.inf
    x[2] = 0.0
    w[0, 3], w[2] = np.inf, -1.0
    g.literal("x", x)
    g.literal("w", w)


@vector("the accumulator started with the bias", "W02")
def linear_bias__bias_after_tree(g):
    g.normal("x", 3, 48)
    g.normal("w", 5, 48)
    g.normal("b", 5, scale=8.0)


@vector("the last elements of a row dropped, the bias left at zero", "W02")
def linear_bias__partial_lanes(g):
    g.normal("x", 9, 21)
    g.normal("w", 7, 21)
    g.normal("b", 7)


@vector("logits rounded to bfloat16: the two best become equal")
def logits__near_tie(g):
    x = g.normal("x", 2, 20)
    w = g.normal("w", 11, 20).copy()
    w[7] = x[0]
    w[9] = x[0] * np.float32(1.0 + 2.0**-12)
    g.literal("w", w)


@vector("a tied head left at other values than the embedding; logits capped", "W01")
def logits__tied_head(g):
    g.normal("x", 3, 17, scale=4.0)
    g.normal("w", 9, 17, scale=4.0)


@vector("a batch summed in another order than a single row", "N03")
def logits__many_rows(g):
    g.normal("x", 9, 40)
    g.normal("w", 5, 40)


@vector("the higher id wins a tie")
def argmax__tie_lowest_id(g):
    g.literal("logits", [[1, 3, 2, 3, 3], [0, 0, 0, 0, 0], [5, 1, 5, 2, 5]])


@vector("nan taken as the maximum; a row of nan with an id out of range")
def argmax__nan_never_wins(g):
    n = np.nan
    g.literal("logits", [[n, 1, 2, n], [-1, n, -3, n], [n, n, n, n], [n, -np.inf, n, -np.inf]])


@vector("+0 taken as larger than -0")
def argmax__negative_zero(g):
    g.literal("logits", [[-1.0, -0.0, 0.0], [-0.0, 0.0, -0.0]])


@vector("a running maximum that starts at 0")
def argmax__all_negative(g):
    g.literal("logits", [[-5, -2, -3], [-1e30, -1e31, -2e30], [-np.inf, -3e38, -np.inf]])


# ---- rotary embedding ----------------------------------------------------------------------------------------------

def _rope(g, heads, size, positions, inv_freq=None, amplitude=1.0):
    g.normal("x", len(positions), heads * size)
    g.ids("positions", positions)
    g.literal("inv_freq", rope_tables.default(size, 10000.0) if inv_freq is None else inv_freq)
    g.attrs = {"amplitude": float(amplitude)}


@vector("positions counted from 1")
def rope__position_zero_is_identity(g):
    _rope(g, 2, 8, [0, 1])


@vector("angles in another precision: binary64, or positions rounded to 16 bits; weak range reduction of sin and cos")
def rope__far_position(g):
    _rope(g, 1, 8, [257, 4095, 131071, 1000001, 4194303])


@vector("pairs taken from neighbours instead of the two halves", "A04")
def rope_half__pairing_is_half_split(g):
    _rope(g, 2, 12, [1, 7, 100])


@vector("pairs taken from the two halves instead of neighbours", "A04")
def rope_pairs__pairing_is_adjacent(g):
    _rope(g, 2, 12, [1, 7, 100])


@vector("rows permuted for the number of query heads (6) where there are 2 key heads", "A05")
def rope__several_heads(g):
    _rope(g, 2, 12, [0, 3, 20])


@vector("YaRN's factor of cos and sin forgotten; frequencies left at their default", "A07")
def rope__amplitude(g):
    spec = {"kind": "yarn", "head_dim": 16, "base": 50000.0, "factor": 4.0, "original_max_position_embeddings": 4096}
    _rope(g, 1, 16, [0, 5, 5000], *rope_tables.from_spec(spec))


@vector("YaRN's factor of cos and sin applied although the model turns it off", "A03")
def rope__yarn_without_amplitude(g):
    spec = {"kind": "yarn", "head_dim": 16, "base": 10000.0, "factor": 40.0, "original_max_position_embeddings": 4096,
            "mscale": 1.0, "mscale_all_dim": 1.0}
    _rope(g, 1, 16, [1, 5000], *rope_tables.from_spec(spec))


@vector("rotary base left at its default 10000", "A07")
def rope__base_one_million(g):
    _rope(g, 2, 16, [2, 300], rope_tables.default(16, 1000000.0))


@vector("frequencies multiplied by the scaling factor instead of divided, or not scaled", "A07 A08")
def rope__linear_scaling(g):
    _rope(g, 1, 16, [1, 4096], rope_tables.linear(16, 10000.0, 8.0))


@vector("llama3 scaling ignored", "A07")
def rope__llama3_scaling(g):
    _rope(g, 1, 32, [3, 9000], rope_tables.llama3(32, 500000.0, 8.0, 1.0, 4.0, 8192))


# ---- attention -----------------------------------------------------------------------------------------------------

def _attention(g, heads, kv_heads, size, length, new, window=UNLIMITED, scale=None, spread=1.0):
    """Queries for the last `new` of `length` positions."""
    g.normal("q", new, heads * size, scale=spread)
    g.normal("k", length, kv_heads * size, scale=spread)
    g.normal("v", length, kv_heads * size)
    g.ids("positions", range(length - new, length))
    g.attrs = {"scale": float(size**-0.5 if scale is None else scale), "window": window, "heads": heads,
               "kv_heads": kv_heads}


@vector("KV heads tiled instead of repeated; keys of the future seen", "A16")
def attention__grouped_heads(g):
    _attention(g, 6, 2, 8, 9, 9)


@vector("heads and KV heads as many: no repetition at all; keys of the future seen")
def attention__ratio_one(g):
    _attention(g, 3, 3, 8, 5, 5)


@vector("seven query heads on one KV head: groups cut at four; keys of the future seen")
def attention__one_kv_head(g):
    _attention(g, 7, 1, 20, 6, 6)


@vector("dimensions beyond a multiple of 16 dropped or padded into the scale")
def attention__odd_head_dim(g):
    _attention(g, 2, 1, 20, 5, 2)


@vector("window one key too wide or too narrow: the key just outside, and the oldest inside, have the largest scores",
        "A12")
def attention__window_boundary(g):
    _attention(g, 2, 1, 8, 6, 3, window=4)
    q, k = np.ones((3, 16), np.float32), g.tensors["k"].copy()
    k[0], k[1], k[2] = 6.0, 4.0, 2.0  # position 3 sees 0..3, position 4 sees 1..4, position 5 sees 2..5
    g.literal("q", q)
    g.literal("k", k)


@vector("a window of one: only the position itself, so the result is v", "A12")
def attention__window_one(g):
    _attention(g, 4, 2, 8, 4, 3, window=1)


@vector("window counted from a chunk's or a block's start", "A12")
def attention__window_across_chunks(g):
    _attention(g, 2, 1, 4, 700, 2, window=300)
    v = g.tensors["v"].copy()
    v[398], v[399], v[400] = 900.0, -1100.0, 1000.0
    g.literal("v", v)


@vector("one running sum over more than 512 positions; the first position of the second chunk lost")
def attention__chunk_boundary(g):
    _attention(g, 2, 1, 4, 514, 4)


@vector("partial results of three chunks added in another order")
def attention__three_chunks(g):
    _attention(g, 2, 1, 4, 1030, 3)


@vector("position 0 sees nothing: the query must see itself")
def attention__first_position(g):
    _attention(g, 4, 2, 8, 1, 1)


@vector("exp of scores without subtracting the maximum")
def attention__large_scores(g):
    _attention(g, 2, 1, 16, 7, 3, spread=12.0)


@vector("1 / sqrt(head_dim) used where the model states another scale (YaRN's mscale squared)", "A01 A02")
def attention__scale_is_an_attribute(g):
    _attention(g, 2, 2, 16, 6, 3, scale=0.25 * 1.6304**2)


@vector("masking by adding or by a weight of 0: nan, inf and huge values out of sight leak")
def attention__out_of_sight_nan(g):
    _attention(g, 2, 1, 8, 6, 3, window=3)
    k, v = g.tensors["k"].copy(), g.tensors["v"].copy()
    k[0], k[5], v[0], v[5] = np.nan, np.nan, np.inf, np.nan  # position 3 sees 1..3, 4 sees 2..4, 5 sees 3..5
    g.literal("k", k)
    g.literal("v", v)


# ---- routing -------------------------------------------------------------------------------------------------------

def _routing(g, rows, experts, k, scale=1.0):
    g.attrs = {"k": k}
    return g.normal("logits", rows, experts, scale=scale).copy()


@vector("softmax of the chosen only, raw logits as weights, renormalised although norm_topk_prob is false, sigmoid",
        "R06 R07 R08 R11")
def route_softmax_topk__unnormalised_weights(g):
    _routing(g, 4, 8, 2)


@vector("weights not renormalised although norm_topk_prob is true, raw logits as weights, sigmoid", "R07 R08 R11")
def route_softmax_topk_renorm__renormalised_weights(g):
    _routing(g, 4, 8, 2)


@vector("a tie at the cut decided for the higher id", "R15")
def route__tie_at_cut(g):
    g.literal("logits", [[1, 3, 2, 2, 0, 2, -1, 1], [2, 0, 1, 1, 2, 2, 0, 1], [0, 0, 5, 5, 5, 5, 0, 0]])
    g.attrs = {"k": 2}


@vector("chosen by logits: two of them differ, their probabilities do not, so the lower id wins")
def route__tie_made_by_rounding(g):
    low = np.float32(2.0**-30)
    g.literal("logits", [[low, 2 * low, 1.0, 0.0, 3 * low, -1.0]])
    g.attrs = {"k": 2}


@vector("a row of equal logits: duplicate ids, or the highest ids", "R15 R16")
def route__all_equal(g):
    g.literal("logits", np.full((2, 8), [[0.5], [-3.0]], np.float32))
    g.attrs = {"k": 3}


@vector("padding experts with logit 0 win, or enter the sum", "R19")
def route__all_negative(g):
    g.literal("logits", _routing(g, 3, 10, 3) - np.float32(20))


@vector("nan in a row: duplicate or out-of-range ids, other rows touched", "R16")
def route__nan_row(g):
    x = _routing(g, 3, 8, 3)
    x[0, 2], x[1] = np.nan, np.nan
    g.literal("logits", x)


@vector("-inf (a masked expert) gives nan; +inf gives a finite weight")
def route__infinite_logits(g):
    x = _routing(g, 3, 6, 2)
    x[0, [0, 3]], x[1, 1], x[2, 1:] = -np.inf, np.inf, -np.inf
    g.literal("logits", x)


@vector("one choice: normalised over tokens instead of experts", "R21 R22")
def route__one_choice(g):
    _routing(g, 3, 8, 1)


@vector("every expert chosen: k equal to E", "R21")
def route__choose_all(g):
    _routing(g, 2, 5, 5)


@vector("bfloat16 logits: experts that differ become a tie at the cut", "R12")
def route__near_tie_at_cut(g):
    x = _routing(g, 2, 16, 4)
    x[:, 3], x[:, 9], x[:, [1, 12, 14]] = 5.0, 5.001, [6.0, 7.0, 8.0]
    g.literal("logits", x)


@vector("exp without subtracting the maximum")
def route__large_logits(g):
    x = _routing(g, 2, 16, 4, scale=60.0)
    x[:, 5] = [95.0, 120.0]
    g.literal("logits", x)


@vector("one maximum for the whole batch: the row of low logits underflows", "R20")
def route__rows_of_different_level(g):
    g.literal("logits", _routing(g, 3, 8, 2) + np.array([[0.0], [-150.0], [90.0]], np.float32))


@vector("a kernel that is wrong at one size: 8 experts, 2 chosen", "R18")
def route__experts_8_choose_2(g):
    _routing(g, 3, 8, 2)


@vector("a kernel that is wrong at one size: 60 experts, 4 chosen", "R18 R21")
def route__experts_60_choose_4(g):
    _routing(g, 2, 60, 4)


@vector("a kernel that is wrong at one size: 64 experts, 6 chosen", "R18 R21")
def route__experts_64_choose_6(g):
    _routing(g, 2, 64, 6)


@vector("a kernel that is wrong at one size: 64 experts, 8 chosen", "R18 R21")
def route__experts_64_choose_8(g):
    _routing(g, 2, 64, 8)


@vector("a kernel that is wrong at one size: 128 experts, 8 chosen", "R18 R21")
def route__experts_128_choose_8(g):
    _routing(g, 3, 128, 8)


@vector("experts from 256 on never chosen; ids held in 8 bits; 384 experts, 8 chosen", "R17 R18 R21")
def route__wide_256_plus(g):
    x = _routing(g, 2, 384, 8)
    x[:, [255, 256, 300, 383]] = [4.0, 5.0, 4.5, 6.0]
    g.literal("logits", x)


# ---- experts -------------------------------------------------------------------------------------------------------

@vector("experts stored in another order than their ids; the first token's choice used for all", "E08")
def expert_linear__permuted_experts(g):
    g.normal("x", 3, 20)
    g.normal("w", 5, 6, 20)
    g.ids("ids", [[4, 0], [2, 1], [1, 3]])


@vector("one row per expert: a second token of the same expert overwritten or left out")
def expert_linear__repeated_expert(g):
    g.normal("x", 4, 20)
    g.normal("w", 3, 6, 20)
    g.ids("ids", [[1, 0], [1, 2], [2, 1], [1, 0]])


@vector("expert matrix read as [in, out]; halves of a fused gate and up exchanged or taken as interleaved", "E05 E06")
def expert_linear__non_square(g):
    g.normal("x", 2, 20)
    g.normal("w", 3, 10, 20)
    g.ids("ids", [[2, 0], [0, 1]])


@vector("a square expert matrix transposed, which no shape check sees", "E06")
def expert_linear__square(g):
    g.normal("x", 2, 16)
    g.normal("w", 3, 16, 16)
    g.ids("ids", [[2, 0], [0, 1]])


@vector("second signature: every choice has its own row; the token's first row used for all")
def expert_linear__row_per_choice(g):
    g.normal("x", 3, 2, 10)
    g.normal("w", 4, 18, 10)
    g.ids("ids", [[3, 1], [0, 3], [2, 1]])


@vector("all rows on one expert: a batch summed in another order than a single row", "N03")
def expert_linear__every_row_one_expert(g):
    g.normal("x", 12, 40)
    g.normal("w", 2, 5, 40)
    g.ids("ids", [[1]] * 12)


@vector("result depends on a row's place among the rows of its expert", "N05")
def expert_linear__permuted_tokens(g):
    x = g.normal("x", 9, 40).copy()
    x[4:8] = x[[2, 0, 3, 1]]
    g.literal("x", x)
    g.normal("w", 3, 4, 40)
    g.ids("ids", [[0, 1], [0, 2], [1, 0], [0, 2], [1, 0], [0, 1], [0, 2], [0, 2], [2, 1]])


@vector("expert ids held in 8 bits", "R17")
def expert_linear__expert_ids_above_255(g):
    g.normal("x", 2, 4)
    g.normal("w", 260, 2, 4)
    g.ids("ids", [[259, 3], [256, 255]])
