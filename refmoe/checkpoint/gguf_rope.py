"""Rotary settings of a GGUF model in the words of config.json.

`rope.scaling.type` is none, linear or yarn. llama3 has no key: the file holds rope_freqs.weight, the divisor of each
frequency, and the numbers it was made from are found again: the factor is the largest divisor, low_freq_factor 1 and
high_freq_factor 4 (so every published model), the original length follows from any divisor between 1 and the factor
(8192 if there is none). If these do not give the divisors back, the file is refused.
deepseek2: yarn_log_multiplier is a tenth of mscale_all_dim; mscale is not stored and taken to be equal to it, which it
is in every published model.
"""

import math
from typing import Any

from refmoe.checkpoint.gguf import decimal
from refmoe.checkpoint.gguf_metadata import Metadata
from refmoe.config import round32

FREQUENCIES = "rope_freqs.weight"
LOW, HIGH, LENGTH = 1.0, 4.0, 8192
CLOSE = 1e-5  # relative: the divisors were computed in binary32 by others


def rope(m: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    """rope_theta and rope_scaling."""
    theta = m.take("rope.freq_base", "a number", 10000.0)
    size = config.get("head_dim") or config.get("qk_rope_head_dim") or \
        config["hidden_size"] // config["num_attention_heads"]  # fmt: skip
    if "partial_rotary_factor" not in config:
        m.only("rope.dimension_count", size)
    found: dict[str, Any] = {"rope_theta": theta, "rope_scaling": _scaling(m, config)}
    if FREQUENCIES in m.model.tensors:
        if found["rope_scaling"] is not None:
            raise m.error(FREQUENCIES, "no such tensor beside rope.scaling.type", "both")
        found["rope_scaling"] = _llama3(m, theta, size)
    return found


def _scaling(m: Metadata, config: dict[str, Any]) -> dict[str, Any] | None:
    kind = m.take("rope.scaling.type", "a string", "none")
    m.take("rope.scaling.finetuned", "true or false", word="how the model was trained")
    if kind == "none":
        m.only("rope.scaling.factor", 0.0, 1.0)
        m.take("rope.scaling.yarn_log_multiplier", "a number", word="means nothing without yarn")
        m.take("rope.scaling.original_context_length", "an integer", word="means nothing without yarn")
        return None
    if kind not in ("linear", "yarn"):
        raise m.error(f"{m.arch}.rope.scaling.type", "none, linear or yarn")
    spec: dict[str, Any] = {"rope_type": kind, "factor": float(m.need("rope.scaling.factor", "a number"))}
    if kind == "linear":
        return spec
    context = config["max_position_embeddings"]
    spec["original_max_position_embeddings"] = m.take("rope.scaling.original_context_length", "an integer", context)
    spec["beta_fast"] = m.take("rope.scaling.yarn_beta_fast", "a number", 32.0)
    spec["beta_slow"] = m.take("rope.scaling.yarn_beta_slow", "a number", 1.0)
    m.only("rope.scaling.yarn_ext_factor", 1.0, -1.0)
    for name in ("yarn_attn_factor", "attn_factor"):
        if (factor := m.take(f"rope.scaling.{name}", "a number")) is not None:
            spec["attention_factor"] = factor
    if (tenth := m.take("rope.scaling.yarn_log_multiplier", "a number")) and m.arch == "deepseek2":
        spec["mscale"] = spec["mscale_all_dim"] = _ten_times(tenth)
    if m.arch == "gpt-oss":
        spec["truncate"] = False
    return spec


def _ten_times(tenth: float) -> float:
    """The shortest decimal whose tenth, in binary32, is `tenth`."""
    for digits in range(1, 17):
        value = round(10 * tenth, digits)
        if round32(0.1 * value) == round32(tenth):
            return value
    return 10 * tenth


def _llama3(m: Metadata, theta: float, size: int) -> dict[str, Any] | None:
    info = m.model.tensors[FREQUENCIES]
    if info.dtype != "F32" or info.shape != (size // 2,):
        raise m.error(FREQUENCIES, f"{size // 2} numbers in F32", f"{list(info.shape)} in {info.dtype}")
    found = m.model.numbers(FREQUENCIES).tolist()
    factor = decimal(max(found))
    if found == [1.0] * len(found):
        return None
    length, turns = LENGTH, _turns(theta, size)
    for divisor, turn in zip(found, turns, strict=True):
        if 1.0 < divisor < factor:
            smooth = (1 / divisor - 1 / factor) / (1 - 1 / factor)
            length = round((LOW + smooth * (HIGH - LOW)) / turn)
            break
    wanted = [_divisor(length * turn, factor) for turn in turns]
    if not all(math.isclose(a, b, rel_tol=CLOSE) for a, b in zip(found, wanted, strict=True)):
        raise m.error(FREQUENCIES, f"the divisors of llama3 with factors {LOW:g} and {HIGH:g}", "others")
    return {"rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
            "original_max_position_embeddings": length}  # fmt: skip


def divisors(spec: dict[str, Any]) -> list[float]:
    """rope_freqs.weight of a llama3 table (config.rope), as if its factors were LOW and HIGH."""
    length = spec["original_max_position_embeddings"]
    return [_divisor(length * turn, spec["factor"]) for turn in _turns(spec["base"], spec["head_dim"])]


def _turns(theta: float, size: int) -> list[float]:
    """Of each pair in one position."""
    return [theta ** (-2 * i / size) / (2 * math.pi) for i in range(size // 2)]


def _divisor(turns: float, factor: float) -> float:
    """What llama3 divides a frequency by that makes so many turns within the original length, in binary64: only to
    recognise it; the table is made by numerics.rope_tables."""
    smooth = min(1.0, max(0.0, (turns - LOW) / (HIGH - LOW)))
    return 1 / ((1 - smooth) / factor + smooth)
