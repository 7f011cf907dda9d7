"""Fragments of the families with latent attention (arXiv:2405.04434): tensor names, the first half of a block."""

from refmoe.archs import parts
from refmoe.assemble import assemble
from refmoe.config import Config, latent, round32, sizes
from refmoe.steps import Attr, Dims, Step, Tables, matrix, step, vector

SELF = parts.LAYER + "self_attn."
TENSORS = {
    **{role: tensor for role, tensor in parts.MODEL.items() if role not in ("wk", "wv")},
    **parts.DENSE,
    **parts.EXPERTS,
    **parts.O_BIAS,
    "wo": matrix(SELF + "o_proj", "H,N*U"),
    "wq": matrix(SELF + "q_proj", "N*D,H"),
    "wq_a": matrix(SELF + "q_a_proj", "A,H"),
    "bq_a": vector(SELF + "q_a_proj.bias", "A"),
    "q_a_norm": vector(SELF + "q_a_layernorm.weight", "A"),
    "wq_b": matrix(SELF + "q_b_proj", "N*D,A"),
    "wkv_a": matrix(SELF + "kv_a_proj_with_mqa", "C,H"),
    "bkv_a": vector(SELF + "kv_a_proj_with_mqa.bias", "C"),
    "kv_a_norm": vector(SELF + "kv_a_layernorm.weight", "R"),
    "wkv_b": matrix(SELF + "kv_b_proj", "N*W,R"),
    **parts.SHARED_EXPERTS,
    **parts.ROUTER_BIAS,
}
FIXED = {**sizes.FIXED, "mlp_bias": sizes.NO_BIAS}
IGNORED = {
    "aux_loss_alpha": "training option",
    "seq_aux": "training option",
    "ep_size": "how a cluster divides the experts; not what they compute",
}


def attention(*, rank: bool, bias: bool, turn: str) -> tuple[Step, ...]:
    """First half of a block. `rank`: queries go through a rank of their own; `turn`: the rope op."""
    queries = (
        (parts.project("q_a", "attn_norm", "wq_a", "bq_a" if bias else None),) if rank
        else (parts.project("q", "attn_norm", "wq"),)
    )  # fmt: skip
    rows: dict[str, Attr] = {"heads": "N", "rank": "R", "rotated": "Q", "scale": "scale"}
    inputs = ("q_latent", "q_rope", "kv_a_norm", "k_rope", "positions", "cache")
    return (
        step("attn_norm", "rms_norm", "x", "attn_norm", eps="eps"),
        *queries,
        parts.project("kv_a", "attn_norm", "wkv_a", "bkv_a" if bias else None),
        *((step("q_a_norm", "rms_norm", "q_a", "q_a_norm", eps="latent_eps"),
           parts.project("q", "q_a_norm", "wq_b")) if rank else ()),
        step("q_nope q_pe", "split_heads", "q", heads="N", left="P", right="Q"),
        step("latent k_pe", "split_heads", "kv_a", heads=1, left="R", right="Q"),
        step("kv_a_norm", "rms_norm", "latent", "kv_a_norm", eps="latent_eps"),
        *(step(f"{p}_rope", turn, f"{p}_pe positions", table="rope", head_dim="Q") for p in "qk"),
        step("q_latent", "absorb_query", "q_nope", "wkv_b", heads="N"),
        Step(("attn_latent",), "latent_attention", inputs, (), rows),
        step("attn", "expand_value", "attn_latent", "wkv_b", heads="N", width="U"),
        parts.project("o", "attn", "wo", "bo" if bias else None),
        step("attn_out", "add", "x o"),
    )  # fmt: skip


def tables(c: Config, d: Dims, layers: tuple[str, ...], route: Step | None, turn: str = "rope_pairs") -> Tables:
    """The tables; `route` is the step that chooses experts (None where no layer has any)."""
    halves = {}
    if "dense" in layers:
        halves["dense"] = parts.dense()
    if route:
        halves["sparse"] = parts.sparse(route, shared=parts.SHARED if "S" in d else ())
    first = attention(rank="A" in d, bias=c.flag("attention_bias", default=False), turn=turn)
    return assemble(
        c,
        d,
        TENSORS,
        first=lambda window: first,
        halves=halves,
        layers=layers,
        windowed=[False] * d["L"],
        turned="Q",
        ignored=latent.unread_layers(c, d),
        scale=latent.scale,
    )


def sigmoid_tables(c: Config) -> Tables:
    """The tables of deepseek_v3 and kimi_k2: scores by sigmoid, a bias for the choice only, groups."""
    c.fixed(FIXED)
    d = latent.sizes(c)
    layers = latent.layers(c, d)
    turn = "rope_pairs" if c.flag("rope_interleave", default=True) else "rope_half"
    if "sparse" not in layers:
        return tables(c, d, layers, None, turn)
    c.fixed({
        "topk_method": (("noaux_tc",), "a bias for the choice, and groups"),
        "scoring_func": (("sigmoid",), "scores of experts"),
    })  # fmt: skip
    latent.groups(c, d)
    d["factor"] = round32(c.number("routed_scaling_factor", reason="times the weights of experts"))
    return tables(c, d, layers, parts.route_sigmoid(c.flag("norm_topk_prob")), turn)
