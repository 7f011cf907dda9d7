"""Sizes and windows as the config files of the transformer families state them."""

from collections.abc import Callable
from math import sqrt

from refmoe.config import MAX_EXPERTS, MAX_LAYERS, REQUIRED, Config, round32
from refmoe.steps import UNLIMITED, Dims

FULL, WINDOW = "full_attention", "sliding_attention"
FIXED = {
    "hidden_act": (("silu",), "the gated unit is silu(gate) * up"),
    "is_encoder_decoder": ((False,), "decoder only"),
    "add_cross_attention": ((False,), "decoder only"),
    "pruned_heads": (({},), "no heads removed"),
    "use_mrope": ((False,), "one position per token"),
}
NO_BIAS = ((False,), "this family has no such biases")
HEAD_NORM = ((True,), "this family normalises the heads of q and k")


def common(c: Config, *, kv_heads: object = REQUIRED, head_dim: int | None = None) -> Dims:
    """Sizes every family has: V H L N G D eps scale.

    `kv_heads` and `head_dim` stand in for keys the file lacks; None means one kv head for each query head, and
    hidden_size / heads.
    """
    d: Dims = {"V": c.integer("vocab_size"), "H": c.integer("hidden_size")}
    d["L"] = c.integer("num_hidden_layers", high=MAX_LAYERS)
    heads = d["N"] = c.integer("num_attention_heads")
    if kv_heads is None or "num_key_value_heads" in c.values:  # a null means one for each query head
        kv_heads = heads
    d["G"] = c.integer("num_key_value_heads", high=heads, default=kv_heads)
    if heads % d["G"]:
        raise c.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}")
    if head_dim is None and not c.has("head_dim"):
        head_dim, rest = divmod(d["H"], heads)
        if rest or head_dim == 0:
            raise c.error("head_dim", f"a number, because hidden_size {d['H']} is no multiple of {heads} heads")
    d["D"] = c.integer("head_dim", high=65536, default=head_dim)
    if d["D"] % 2:
        raise c.error("head_dim", "an even number (rotary embedding turns pairs)", d["D"])
    d["eps"] = round32(c.number("rms_norm_eps"))
    d["scale"] = round32(1.0 / sqrt(d["D"]))  # equals RN32(1/sqrt(D)) for every D up to 65536 (tested exactly)
    return d


def _types(c: Config, layers: int) -> list[str] | None:
    """The attention kind of each layer if the file lists them."""
    types = c.items("layer_types", str, f"a list of {layers} names", reason="which layers have a window")
    if types is not None and (len(types) != layers or not set(types) <= {FULL, WINDOW}):
        raise c.error("layer_types", f"{layers} times {FULL} or {WINDOW}")
    return types


def window(c: Config, default: int | None = None) -> int | None:
    """Positions a query sees, its own included; None for all."""
    size: int | None
    size = c.integer("sliding_window", high=UNLIMITED - 1, default=default, reason="attention window")
    return size


def every_layer(c: Config, d: Dims, size: int | None) -> list[bool]:
    """All layers have the window, or none if there is none; layer_types may only repeat that."""
    kind = FULL if size is None else WINDOW
    types = _types(c, d["L"])
    if types is not None and set(types) != {kind}:
        raise c.error("layer_types", f"{kind} in all layers, as sliding_window says")
    return [size is not None] * d["L"]


def listed_layers(c: Config, d: Dims, default: int, among: Callable[[int], bool]) -> tuple[int | None, list[bool]]:
    """The layers that layer_types names have a window, without the key those that `among` names."""
    types = _types(c, d["L"])
    windowed = [among(layer) for layer in range(d["L"])] if types is None else [name == WINDOW for name in types]
    if not any(windowed):
        c.unused("no layer has a window", "sliding_window")
        return None, windowed
    size = window(c, None if "sliding_window" in c.values else default)
    if size is None:
        raise c.error("sliding_window", "an integer, because some layers have a window")
    return size, windowed


def some_layers(c: Config, d: Dims, among: Callable[[int, int], bool]) -> tuple[int | None, list[bool]]:
    """Qwen: use_sliding_window switches the window on; layer_types or among(layer, max_window_layers) says where."""
    size = None
    if c.flag("use_sliding_window", default=False, reason="attention window"):
        size = window(c)
    else:
        c.unused("use_sliding_window is not true", "sliding_window", "max_window_layers")
    types = _types(c, d["L"])
    if types is not None:
        c.unused("layer_types says which layers have a window", "max_window_layers")
        if size is None and WINDOW in types:
            raise c.error("layer_types", f"{FULL} only, because use_sliding_window or sliding_window is not set")
        return size, [name == WINDOW for name in types]
    if size is None:
        c.unused("no window", "max_window_layers")
        return size, [False] * d["L"]
    border = c.integer("max_window_layers", low=0, reason="which layers have a window")
    return size, [among(layer, border) for layer in range(d["L"])]


def late_layers(c: Config, d: Dims) -> tuple[int | None, list[bool]]:
    """Dense Qwen: an active window holds from layer max_window_layers on."""
    return some_layers(c, d, lambda layer, border: layer >= border)


def qwen_experts(c: Config, d: Dims) -> tuple[str, ...]:
    """Qwen: "sparse" or "dense" for each layer; sets E, K, M where a layer is sparse, F where one is dense.

    Layer l has experts if it is not in mlp_only_layers and (l + 1) is a multiple of decoder_sparse_step.
    """
    experts = c.integer("num_experts", "num_local_experts", low=0, high=MAX_EXPERTS)
    period = c.integer("decoder_sparse_step", default=1, reason="which layers have experts")
    only = set(c.items("mlp_only_layers", int, "a list of layer numbers", reason="which layers have experts") or ())
    sparse = [experts > 0 and (n + 1) % period == 0 and n not in only for n in range(d["L"])]
    if all(sparse):
        c.unused("no layer is dense", "intermediate_size")
    else:
        d["F"] = c.integer("intermediate_size")
    if any(sparse):
        d["E"] = experts
        d["K"] = c.integer("num_experts_per_tok", high=experts)
        d["M"] = c.integer("moe_intermediate_size")
    else:
        keys = ("num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "shared_expert_intermediate_size")
        c.unused("no layer has experts", *keys)
    return tuple("sparse" if flag else "dense" for flag in sparse)
