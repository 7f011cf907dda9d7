"""The encodings a config says its matrices may be stored in: quantization_config, or its older name compression_config.

The stored form of each tensor decides which encoding it has (checkpoint.matrices); the config gives the numbers that
the stored bytes do not tell, such as the zero point convention. Lists of modules that were or were not converted are
therefore not evaluated, patterns in them never run. What engines do with activations (`activation_scheme`,
`input_activations`) and with the cache (`kv_cache_scheme`) is not done here: activations stay binary32, and only the
encoding of the weights counts. Every field is used, ignored with a reason, or refused by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from refmoe.config import Config, shown

KEYS = ("quantization_config", "compression_config")
WHOLE = 0  # a block length, or a group size, that is the whole row or column
_STORED = "the stored form of each tensor decides"
_WEIGHTS_ONLY = "activations stay binary32: only the encoding of the weights is used"
_CALIBRATION = "how the weights were found, not how they are stored"
_KERNEL = "chooses an implementation, not what is stored"
_MODULES = """quantization_status modules_to_not_convert modules_to_convert ignored_layers ignore exclude_modules
    lm_head block_name_to_quantize modules_in_block_to_quantize module_name_preceding_first_block true_sequential"""


class Scheme(NamedTuple):
    """One encoding: a module of refmoe.formats, the numbers it reads from the config, and the field that says so."""

    format: str
    params: dict[str, int]
    field: str


@dataclass(frozen=True)
class Quantization:
    """What a config says about quantised weights. `ignored_tensors` are patterns with reasons, as in a program."""

    method: str
    schemes: tuple[Scheme, ...]
    ignored_tensors: tuple[tuple[str, str], ...] = tuple(
        (f"*.{name}", _WEIGHTS_ONLY) for name in ("input_scale", "input_global_scale", "input_zero_point",
                                                  "activation_scale", "output_scale")
    ) + tuple((f"*.{name}", "scale of a quantised cache: the cache keeps its own type") for name in (
        "k_scale", "v_scale", "q_scale"))  # fmt: skip


def encodings(c: Config) -> Quantization | None:
    """The quantisation of a config, every field of it accounted for; None if there is none."""
    present = [key for key in KEYS if c.has(key)]
    if not present:
        return None
    if len(present) == 2 and c.values[present[0]] != c.values[present[1]]:
        raise c.error(present[1], f"the same as {present[0]}")
    q = c.inner(present[0])
    method = q.values.get("quant_method", "compressed-tensors" if "config_groups" in q.values else None)
    if not isinstance(method, str) or method not in METHODS:
        raise q.error("quant_method", "one of " + ", ".join(METHODS))
    schemes = METHODS[method](q)
    q.note("quant_method", "used", "encodings of the matrices")
    q.finish(_reasons(*_IGNORED), {})
    for key in present:
        c.note(key, "used", "encodings of the matrices")
    c.adopt(q)
    return Quantization(method, tuple(schemes))


_IGNORED = {
    _STORED: _MODULES,
    _WEIGHTS_ONLY: "input_activations output_activations",
    "the cache keeps its own type": "kv_cache_scheme kv_cache_quant_algo kv_cache_quant_type",
    _CALIBRATION: """damp_percent damp_auto_increment static_groups dataset tokenizer batch_size pad_token_id mse
        max_input_length model_seqlen cache_block_outputs act_group_aware quantizer observer observer_kwargs dynamic
        scale_dtype""",
    _KERNEL: """exllama_config use_exllama disable_exllama use_cuda_fp16 backend do_fuse fuse_max_seq_len
        modules_to_fuse dequantize parallel_packing device pack_impl""",
    "names or describes the file": """model_name_or_path model_file_base_name producer meta version
        global_compression_ratio zp_dtype""",
}  # fmt: skip


def _size(q: Config, key: str = "group_size") -> int:
    """A group size; -1, the whole row, as WHOLE."""
    value: int = q.integer(key, low=-1, reason="encoding of the matrices")
    if value == 0:
        raise q.error(key, "a positive integer, or -1 for a whole row")
    return WHOLE if value == -1 else value


def _flag(q: Config, key: str, default: bool | None = None) -> int:
    options = {} if default is None else {"default": default}
    return int(q.flag(key, reason="encoding of the matrices", **options))


def _choice(q: Config, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
    """One of some words, whatever its case; the default only if the key is absent."""
    if not q.has(key) and default is not None:
        return default
    value = q.values.get(key)
    if not isinstance(value, str) or value.lower() not in choices:
        raise q.error(key, "one of " + ", ".join(choices))
    q.note(key, "used", "encoding of the matrices")
    return value.lower()


def _block(q: Config, key: str) -> dict[str, int]:
    """Rows and columns of a block of weights that share a scale."""
    value = q.values.get(key)
    sizes = value if isinstance(value, list) and len(value) == 2 else []
    if not sizes or any(type(size) is not int or not 1 <= size <= 1 << 20 for size in sizes):
        raise q.error(key, "a list of two positive integers")
    q.note(key, "used", "encoding of the matrices")
    return {"block_rows": sizes[0], "block_cols": sizes[1]}


_TENSOR = {"block_rows": WHOLE, "block_cols": WHOLE}


def _fp8(q: Config) -> list[Scheme]:
    q.fixed({
        "fmt": (("e4m3",), "the only code that is published"),
        "activation_scheme": (("dynamic", "static"), _WEIGHTS_ONLY),
        "scale_fmt": (("float", "ue8m0"), _STORED),
        "expert_dtype": (("fp8",), "4-bit experts of this kind are not supported"),
    })  # fmt: skip
    blocks = _block(q, "weight_block_size") if q.has("weight_block_size") else _TENSOR
    field = f"{q.prefix}weight_block_size"
    return [Scheme("fp8_block", blocks, field), Scheme("fp8_scaled", blocks, field)]


def _gptq(q: Config) -> list[Scheme]:
    key = "format" if q.has("format") and not q.has("checkpoint_format") else "checkpoint_format"
    offset = int(_choice(q, key, ("gptq", "gptq_v2"), "gptq") == "gptq")
    if key != "format" and q.has("format") and q.values["format"] != q.values[key]:
        raise q.error("format", f"{shown(q.values[key])} as in {key}")
    q.unused("repeats checkpoint_format", "format")
    q.fixed({
        "is_marlin_format": ((False,), "the order of Marlin is not supported"),
        "pack_dtype": (("int32",), "words of another size are not supported"),
    })  # fmt: skip
    base = _gptq_group(q, {"zero_offset": offset}, {})
    schemes = [Scheme("gptq", base, f"{q.prefix}bits")]
    if q.has("dynamic"):  # settings for some modules, by patterns: which of them, the stored form tells
        overrides = q.inner("dynamic")
        for pattern, values in overrides.values.items():
            if pattern.startswith("-") or values in ({}, False, None):
                continue
            inner = overrides.inner(pattern)
            schemes.append(Scheme("gptq", _gptq_group(inner, {"zero_offset": offset}, base), inner.prefix[:-1]))
            inner.finish(_reasons(_CALIBRATION), {})
        q.note("dynamic", "used", "encodings of some matrices")
    return schemes


def _gptq_group(q: Config, fixed: dict[str, int], base: dict[str, int]) -> dict[str, int]:
    """bits, group size, symmetry and order of one setting; what an override leaves out is as in `base`."""
    bits = q.integer("bits", default=base.get("bits") or None, reason="encoding of the matrices") \
        if base else q.integer("bits", reason="encoding of the matrices")
    if bits not in (4, 8):
        raise q.error("bits", "4 or 8")
    group = base["group"] if base and not q.has("group_size") else _size(q)
    symmetric = base["symmetric"] if base and not q.has("sym") else _flag(q, "sym", False)
    order = base["act_order"] if base and not q.has("desc_act") else _flag(q, "desc_act", False)
    return {"bits": bits, "group": group, "symmetric": symmetric, "act_order": order} | fixed


def _awq(q: Config) -> list[Scheme]:
    key = "format" if q.has("format") and not q.has("version") else "version"
    _choice(q, key, ("gemm",), "gemm")
    q.unused("repeats version", "format")
    q.fixed({
        "bits": ((4,), "4-bit words only"),
        "w_bit": ((4,), "4-bit words only"),
        "zero_point": ((True,), "files without zero points are not supported"),
        "desc_act": ((False,), "AWQ has no order of columns"),
    })  # fmt: skip
    q.unused("zero points are always stored", "sym", "checkpoint_format")
    size = _size(q, "q_group_size" if q.has("q_group_size") and not q.has("group_size") else "group_size")
    return [Scheme("awq", {"group": size}, f"{q.prefix}group_size")]


def _mxfp4(q: Config) -> list[Scheme]:
    return [Scheme("mxfp4_blocks", {}, f"{q.prefix}quant_method")]


def _modelopt(q: Config) -> list[Scheme]:
    algorithm = _choice(q, "quant_algo", ("fp8", "nvfp4"))
    q.unused("repeats quant_algo", "config_groups", "quant_method")
    q.fixed({"group_size": ((16,), "NVFP4 has groups of 16")})
    field = f"{q.prefix}quant_algo"
    return [Scheme("fp8_scaled", _TENSOR, field) if algorithm == "fp8" else Scheme("nvfp4_modelopt", {}, field)]


_PACKED = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mxfp4-pack-quantized",
           "mxfp8-quantized", "nvfp4-pack-quantized")  # fmt: skip


def _compressed(q: Config) -> list[Scheme]:
    for key in ("sparsity_config", "transform_config", "moe_sparsity_config"):
        value = q.values.get(key) or {}
        if not isinstance(value, dict) or value.get("format", "dense") != "dense" or value.get("config_groups"):
            raise q.error(key, "none (sparse or rotated weights are not supported)")
        q.unused("states nothing", key)
    layout = _choice(q, "format", (*_PACKED, "mixed-precision"))
    groups, schemes = q.inner("config_groups"), []
    for name in groups.values:
        group = groups.inner(name)
        own = _choice(group, "format", _PACKED, None if layout == "mixed-precision" else layout)
        if group.has("weights"):
            weights = group.inner("weights")
            schemes.append(_compressed_weights(weights, own))
            weights.finish(_reasons(_CALIBRATION) | {
                "zp_dtype": _STORED, "scale_dtype": _STORED, "actorder": "the stored group index decides"}, {})
            group.note("weights", "used", "encoding of the matrices")
            group.adopt(weights)
        group.finish(_reasons(_WEIGHTS_ONLY) | {"targets": _STORED, "format": _STORED}, {})
        groups.adopt(group)
    if not schemes:
        raise q.error("config_groups", "an object with at least one group of weights")
    q.note("config_groups", "used", "encodings of the matrices")
    q.adopt(groups)
    return schemes


def _reasons(*reasons: str) -> dict[str, str]:
    """{key: reason} of the keys ignored for one of these reasons."""
    return {key: reason for reason in reasons for key in _IGNORED[reason].split()}


def _compressed_weights(w: Config, layout: str) -> Scheme:
    """The scheme of one group's weights."""
    bits = w.integer("num_bits", high=8, default=8, reason="encoding of the matrices")
    kind = _choice(w, "type", ("int", "float"), "int")
    w.fixed({"dynamic": ((False,), "weights are stored quantised")})
    symmetric = _flag(w, "symmetric", True)
    group = w.integer("group_size", low=-1, default=None, reason="encoding of the matrices")
    inferred = "tensor" if group is None else "group" if group > 0 else "channel"
    strategy = _choice(w, "strategy", ("tensor", "channel", "group", "block", "tensor_group"), inferred)
    if strategy in ("group", "tensor_group") and (group is None or group < 1):
        raise w.error("group_size", "a positive integer")
    if strategy == "block":
        blocks = _block(w, "block_structure")
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
        return Scheme("int_packed", {"bits": bits, "group": blocks["block_cols"], "symmetric": symmetric}, field)
    if layout == "int-quantized":
        return Scheme("int8_scaled", blocks | {"symmetric": symmetric}, field)
    if layout in ("mxfp4-pack-quantized", "nvfp4-pack-quantized"):
        need("group_size", 32 if layout[0] == "m" else 16, group)
        return Scheme("mxfp4_packed" if layout[0] == "m" else "nvfp4_packed", {}, field)
    if layout == "mxfp8-quantized":
        need("group_size", 32, group)
    return Scheme("fp8_scaled", blocks, field)


METHODS: dict[str, Callable[[Config], list[Scheme]]] = {
    "fp8": _fp8, "compressed-tensors": _compressed, "gptq": _gptq, "awq": _awq, "mxfp4": _mxfp4,
    "modelopt": _modelopt}  # fmt: skip
