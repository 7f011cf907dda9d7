"""quantization_config of compressed-tensors: a layout, and groups of weights with their settings."""

from typing import Any

from refmoe.config import Config, shown
from refmoe.config.scheme import CALIBRATION, STORED, WEIGHTS_ONLY, WHOLE, Scheme, block, choice, flag, reasons

PACKED = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mxfp4-pack-quantized",
           "mxfp8-quantized", "nvfp4-pack-quantized")  # fmt: skip


def read(q: Config) -> list[Scheme]:
    for key in ("sparsity_config", "transform_config", "moe_sparsity_config"):
        value = q.values.get(key) or {}
        if not isinstance(value, dict) or value.get("format", "dense") != "dense" or value.get("config_groups"):
            raise q.error(key, "none (sparse or rotated weights are not supported)")
        q.unused("states nothing", key)
    layout = choice(q, "format", (*PACKED, "mixed-precision"))
    groups, schemes = q.inner("config_groups"), []
    for name in groups.values:
        group = groups.inner(name)
        own = choice(group, "format", PACKED, None if layout == "mixed-precision" else layout)
        if group.has("weights"):
            weights = group.inner("weights")
            schemes.append(_weights(weights, own))
            weights.finish(reasons(CALIBRATION) | {
                "zp_dtype": STORED, "scale_dtype": STORED, "actorder": "the stored group index decides"}, {})
            group.note("weights", "used", "encoding of the matrices")
            group.adopt(weights)
        group.finish(reasons(WEIGHTS_ONLY) | {"targets": STORED, "format": STORED}, {})
        groups.adopt(group)
    if not schemes:
        raise q.error("config_groups", "an object with at least one group of weights")
    q.note("config_groups", "used", "encodings of the matrices")
    q.adopt(groups)
    return schemes


def _weights(w: Config, layout: str) -> Scheme:
    """The scheme of one group's weights."""
    bits = w.integer("num_bits", high=8, default=8, reason="encoding of the matrices")
    kind = choice(w, "type", ("int", "float"), "int")
    w.fixed({"dynamic": ((False,), "weights are stored quantised")})
    symmetric = flag(w, "symmetric", True)
    group = w.integer("group_size", low=-1, default=None, reason="encoding of the matrices")
    inferred = "tensor" if group is None else "group" if group > 0 else "channel"
    strategy = choice(w, "strategy", ("tensor", "channel", "group", "block", "tensor_group"), inferred)
    if strategy in ("group", "tensor_group") and (group is None or group < 1):
        raise w.error("group_size", "a positive integer")
    if strategy == "block":
        blocks = block(w, "block_structure")
    else:
        w.unused("of strategy block", "block_structure")
        rows = WHOLE if strategy == "tensor" else 1
        blocks = {"block_rows": rows, "block_cols": group if "group" in strategy else WHOLE}
    field = w.prefix[:-1]

    def need(key: str, wanted: Any, found: Any) -> None:
        if found != wanted:
            raise w.error(key, f"{shown(wanted)} for {layout}", shown(found))

    if layout == "naive-quantized":
        layout = f"{kind}-quantized"
    need("type", "int" if layout in ("pack-quantized", "int-quantized") else "float", kind)
    if kind == "float":
        need("symmetric", True, bool(symmetric))
        need("num_bits", 4 if "fp4" in layout else 8, bits)
    if layout == "pack-quantized":
        if strategy not in ("group", "channel"):
            raise w.error("strategy", "group or channel for pack-quantized", shown(strategy))
        needs = (".weight_g_idx",) if w.values.get("actorder") in ("group", "dynamic", True) else ()
        return Scheme("int_packed", {"bits": bits, "group": blocks["block_cols"], "symmetric": symmetric}, field, needs)
    if layout == "int-quantized":
        return Scheme("int8_scaled", blocks | {"symmetric": symmetric}, field)
    if layout in ("mxfp4-pack-quantized", "nvfp4-pack-quantized"):
        need("group_size", 32 if layout[0] == "m" else 16, group)
        return Scheme("mxfp4_packed" if layout[0] == "m" else "nvfp4_packed", {}, field)
    if layout == "mxfp8-quantized":
        need("group_size", 32, group)
    return Scheme("fp8_scaled", blocks, field)
