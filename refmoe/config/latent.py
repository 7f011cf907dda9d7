"""Sizes, softmax scale and experts as the config files of the families with latent attention state them."""

import decimal
from decimal import Decimal
from fractions import Fraction

from refmoe.config import MAX_EXPERTS, MAX_LAYERS, REQUIRED, Config, rope, round32
from refmoe.steps import Dims

NORM_EPS = 1e-6  # of the two latent norms: the classes in the checkpoints' own code take no other
_CONTEXT = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)


def sizes(c: Config) -> Dims:
    """V H L N, the widths of a head (P unrotated, Q rotated, D both, U value, W = P + U), the ranks R and A (if there
    is one), C = R + Q, eps and latent_eps."""
    d: Dims = {"V": c.integer("vocab_size"), "H": c.integer("hidden_size")}
    d["L"] = c.integer("num_hidden_layers", high=MAX_LAYERS)
    d["N"] = c.integer("num_attention_heads")
    d["P"], d["Q"] = c.integer("qk_nope_head_dim", high=65536), c.integer("qk_rope_head_dim", high=65536)
    if d["Q"] % 2:
        raise c.error("qk_rope_head_dim", "an even number (rotary embedding turns pairs)")
    d |= {"D": d["P"] + d["Q"], "U": c.integer("v_head_dim", high=65536), "R": c.integer("kv_lora_rank")}
    d |= {"W": d["P"] + d["U"], "C": d["R"] + d["Q"]}
    if "q_lora_rank" not in c.values:
        raise c.error("q_lora_rank", "a number, or null for queries without a rank")
    rank = c.integer("q_lora_rank", default=None)
    if rank is not None:
        d["A"] = rank
    c.fixed({
        "num_key_value_heads": ((d["N"],), "as num_attention_heads: all heads read the same latents"),
        "head_dim": ((d["Q"], d["D"]), "qk_rope_head_dim, or the sum with qk_nope_head_dim"),
        "qk_head_dim": ((d["D"],), "qk_nope_head_dim + qk_rope_head_dim"),
    })  # fmt: skip
    return d | {"eps": round32(c.number("rms_norm_eps")), "latent_eps": round32(NORM_EPS)}


def nearest32(value: Fraction) -> float:
    """RN32 of an exact positive value, in one rounding."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= value < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - 23, -149)
    return float(round(value / unit) * unit)


def scale(c: Config, width: int, turns: dict) -> float:
    """RN32 of m^2 / sqrt(width), m = 0.1 mscale_all_dim ln(factor) + 1 under YaRN with that key set, else 1."""
    times = rope.mscale_all_dim(c) if turns["kind"] == "yarn" else 0.0
    with decimal.localcontext(_CONTEXT):
        m = Decimal("0.1") * Decimal(times) * Decimal(turns["factor"]).ln() + 1 if times else Decimal(1)
        return nearest32(Fraction(m * m / Decimal(width).sqrt()))


def layers(c: Config, d: Dims) -> tuple[str, ...]:
    """"dense" or "sparse" for each layer; sets F, E, K, M, S where they are needed."""
    reason = "which layers have experts"
    stated = c.items("mlp_layer_types", str, f"{d['L']} times dense or sparse", reason=reason)
    first = c.integer("first_k_dense_replace", low=0, default=0 if stated else REQUIRED, reason=reason)
    period = c.integer("moe_layer_freq", default=1, reason=reason)
    experts = c.integer("n_routed_experts", "num_local_experts", "num_experts", high=MAX_EXPERTS, default=None)
    kinds = tuple("sparse" if experts and n >= first and n % period == 0 else "dense" for n in range(d["L"]))
    if stated is not None:
        if len(stated) != d["L"] or not set(stated) <= {"dense", "sparse"} or (not experts and "sparse" in stated):
            raise c.error("mlp_layer_types", f"{d['L']} times dense or sparse")
        if c.has("first_k_dense_replace") and kinds != tuple(stated):
            raise c.error("first_k_dense_replace", "the same layers as mlp_layer_types")
        kinds = tuple(stated)
    if "dense" in kinds:
        d["F"] = c.integer("intermediate_size")
    else:
        c.unused("no layer is dense", "intermediate_size")
    if "sparse" in kinds:
        d["E"], d["K"] = experts, c.integer("num_experts_per_tok", high=experts)
        d["M"] = c.integer("moe_intermediate_size")
        shared = c.integer("n_shared_experts", low=0, high=1000, default=None)
        if shared:
            d["S"] = shared * d["M"]
    else:
        keys = "num_experts_per_tok moe_intermediate_size n_shared_experts norm_topk_prob routed_scaling_factor"
        c.unused("no layer has experts", *keys.split(), "topk_method", "scoring_func", "n_group", "topk_group")
    return kinds


def groups(c: Config, d: Dims) -> None:
    """groups, open_groups: how the experts are divided for the choice."""
    d["groups"] = c.integer("n_group", default=1, high=d["E"], reason="groups of experts")
    if d["E"] % d["groups"]:
        raise c.error("n_group", f"a divisor of {d['E']} experts")
    d["open_groups"] = c.integer("topk_group", default=1, high=d["groups"], reason="groups of experts")
    if d["open_groups"] * (d["E"] // d["groups"]) < d["K"]:
        raise c.error("topk_group", f"groups that hold the {d['K']} experts to choose")


def unread_layers(c: Config, d: Dims) -> tuple[tuple[str, str], ...]:
    """Patterns of tensors behind the last layer: modules that predict several tokens."""
    keys = ("num_nextn_predict_layers", "num_mtp_layers")
    count = c.integer(*keys, low=0, high=100, default=0, reason="layers that are not read")
    reason = "multi-token prediction: drafts further tokens, the model's own logits do not use it"
    return tuple((f"model.layers.{d['L'] + n}.*", reason) for n in range(count))
