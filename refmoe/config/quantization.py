"""The encodings a config says its matrices may be stored in: quantization_config, or its older name compression_config.

The stored form of each tensor decides which encoding it has, the config which encodings may occur and the numbers that
the stored bytes do not tell:

    a matrix is taken in the format whose tensors are all there behind its stem and have the right dtypes, the one with
    most tensors first; among several settings of a format, in the one whose shapes fit; two that fit are refused
    a matrix with nothing but a plain weight is plain, whatever the config says (the router of published GPTQ files)
    a quantised matrix whose format the config does not name is refused, and so is one without any such config

Lists of modules that were or were not converted are therefore not evaluated; patterns in them never run. What engines
do with activations (activation_scheme, input_activations) and with the cache (kv_cache_scheme) is not done here:
activations stay binary32, only the encoding of the weights counts, and scales of activations or of a cache are ignored
tensors. Every field is used, ignored with a reason, or refused by its name.

    quant_method         fields                                    formats
    fp8                  weight_block_size (null: one scale)       fp8_block, fp8_scaled
    fbgemm_fp8                                                     fp8_scaled, one scale for each row
    gptq                 bits 4 or 8, group_size, sym, desc_act,   gptq; checkpoint_format gptq (also when absent): zero
                         checkpoint_format, dynamic                points less 1; sym absent: zero points are read
    awq                  group_size, version gemm                  awq
    auto-round           packing_format, extra_config              gptq (auto_round:auto_gptq: zero points less 1), awq
    mxfp4                                                          mxfp4_blocks
    modelopt             quant_algo FP8 or NVFP4                   fp8_scaled with one scale, nvfp4_modelopt
    compressed-tensors   format, config_groups.*.format
                           pack-quantized                          int_packed (strategy group or channel)
                           int-quantized                           int8_scaled (tensor, channel, group, block)
                           float-quantized, mxfp8-quantized        fp8_scaled (tensor, channel, group, block)
                           naive-quantized                         one of these two, by type
                           mxfp4-pack-quantized                    mxfp4_packed
                           nvfp4-pack-quantized                    nvfp4_packed
"""

from collections.abc import Callable
from dataclasses import dataclass

from refmoe.config import Config, compressed_tensors, shown
from refmoe.config.scheme import (
    CALIBRATION,
    IGNORED,
    STORED,
    WEIGHTS_ONLY,
    WHOLE,
    Scheme,
    block,
    choice,
    flag,
    reasons,
    size,
)

KEYS = ("quantization_config", "compression_config")
MOST = 64  # different encodings of one file; each is tried for every matrix


@dataclass(frozen=True)
class Quantization:
    """What a config says about quantised weights. `ignored_tensors` are patterns with reasons, as in a program."""

    method: str
    schemes: tuple[Scheme, ...]
    ignored_tensors: tuple[tuple[str, str], ...] = tuple(
        (f"*.{name}", WEIGHTS_ONLY) for name in ("input_scale", "input_global_scale", "input_zero_point",
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
    schemes = list({repr(scheme._replace(field="")): scheme for scheme in reversed(METHODS[method](q))}.values())[::-1]
    if len(schemes) > MOST:
        raise q.error("quant_method", f"at most {MOST} different encodings", f"{len(schemes)}")
    q.note("quant_method", "used", "encodings of the matrices")
    q.finish(reasons(*IGNORED), {})
    for key in present:
        c.note(key, "used", "encodings of the matrices")
    c.adopt(q)
    return Quantization(method, tuple(schemes))


_TENSOR = {"block_rows": WHOLE, "block_cols": WHOLE}


def _fp8(q: Config) -> list[Scheme]:
    q.fixed({
        "fmt": (("e4m3", "e4m3fn", "float8_e4m3fn"), "the only code that is published"),
        "activation_scheme": (("dynamic", "static"), WEIGHTS_ONLY),
        "scale_fmt": (("float", "ue8m0"), STORED),
        "expert_dtype": (("fp8",), "4-bit experts of this kind are not supported"),
    })  # fmt: skip
    blocks = block(q, "weight_block_size") if q.has("weight_block_size") else _TENSOR
    field = f"{q.prefix}weight_block_size"
    return [Scheme("fp8_block", blocks, field), Scheme("fp8_scaled", blocks, field)]


def _gptq(q: Config) -> list[Scheme]:
    key = "format" if q.has("format") and not q.has("checkpoint_format") else "checkpoint_format"
    offset = int(choice(q, key, ("gptq", "gptq_v2"), "gptq") == "gptq")
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
            inner.finish(reasons(CALIBRATION), {})
        q.note("dynamic", "used", "encodings of some matrices")
    return schemes


def _gptq_group(q: Config, fixed: dict[str, int], base: dict[str, int]) -> dict[str, int]:
    """bits, group size, symmetry and order of one setting; what an override leaves out is as in `base`."""
    bits = q.integer("bits", default=base.get("bits") or None, reason="encoding of the matrices") \
        if base else q.integer("bits", reason="encoding of the matrices")
    if bits not in (4, 8):
        raise q.error("bits", "4 or 8")
    group = base["group"] if base and not q.has("group_size") else size(q)
    symmetric = base["symmetric"] if base and not q.has("sym") else flag(q, "sym", False)
    order = base["act_order"] if base and not q.has("desc_act") else flag(q, "desc_act", False)
    return {"bits": bits, "group": group, "symmetric": symmetric, "act_order": order} | fixed


def _auto_round(q: Config) -> list[Scheme]:
    """GPTQ or AWQ under another name; `extra_config` holds settings of single modules."""
    layout = choice(q, "packing_format", (*_ROUNDED, "auto_round:auto_awq"))
    q.fixed({"data_type": (("int",), "other types are not supported")})
    if layout == "auto_round:auto_awq":
        q.fixed({"bits": ((4,), "4-bit words only")})
        q.unused("zero points are always stored", "sym")
        q.unused(STORED, "extra_config")
        return [Scheme("awq", {"group": size(q)}, f"{q.prefix}group_size")]
    base = _gptq_group(q, {"zero_offset": _ROUNDED[layout]}, {})
    schemes = [Scheme("gptq", base, f"{q.prefix}bits")]
    q.unused("states nothing", "extra_config")
    if q.values.get("extra_config"):
        extra = q.inner("extra_config")
        for name in extra.values:
            one = extra.inner(name)
            if one.values.get("bits") != 16:  # those stay plain
                params = _gptq_group(one, {"zero_offset": _ROUNDED[layout]}, base)
                schemes.append(Scheme("gptq", params, one.prefix[:-1]))
        q.note("extra_config", "used", "encodings of some matrices")
    return schemes


_ROUNDED = {"auto_round:auto_gptq": 1, "auto_round:gptqmodel": 0, "auto_round": 0}  # packing -> offset of zero points


def _awq(q: Config) -> list[Scheme]:
    key = "format" if q.has("format") and not q.has("version") else "version"
    choice(q, key, ("gemm",), "gemm")
    q.unused("repeats version", "format")
    q.fixed({
        "bits": ((4,), "4-bit words only"),
        "w_bit": ((4,), "4-bit words only"),
        "zero_point": ((True,), "files without zero points are not supported"),
        "desc_act": ((False,), "AWQ has no order of columns"),
    })  # fmt: skip
    q.unused("zero points are always stored", "sym", "checkpoint_format")
    key = "q_group_size" if q.has("q_group_size") and not q.has("group_size") else "group_size"
    return [Scheme("awq", {"group": size(q, key)}, f"{q.prefix}{key}")]


def _fbgemm(q: Config) -> list[Scheme]:
    q.unused(WEIGHTS_ONLY, "activation_scale_ub")
    return [Scheme("fp8_scaled", {"block_rows": 1, "block_cols": WHOLE}, f"{q.prefix}quant_method")]


def _mxfp4(q: Config) -> list[Scheme]:
    return [Scheme("mxfp4_blocks", {}, f"{q.prefix}quant_method")]


def _modelopt(q: Config) -> list[Scheme]:
    algorithm = choice(q, "quant_algo", ("fp8", "nvfp4"))
    q.unused("repeats quant_algo", "config_groups", "quant_method")
    q.fixed({"group_size": ((16,), "NVFP4 has groups of 16")})
    field = f"{q.prefix}quant_algo"
    return [Scheme("fp8_scaled", _TENSOR, field) if algorithm == "fp8" else Scheme("nvfp4_modelopt", {}, field)]


METHODS: dict[str, Callable[[Config], list[Scheme]]] = {
    "fp8": _fp8, "compressed-tensors": compressed_tensors.read, "gptq": _gptq, "awq": _awq, "mxfp4": _mxfp4,
    "modelopt": _modelopt, "auto-round": _auto_round, "fbgemm_fp8": _fbgemm}  # fmt: skip
