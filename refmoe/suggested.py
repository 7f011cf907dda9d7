"""Sampling that a checkpoint suggests in its generation_config.json. It is shown by `refmoe info` and used only when
asked for: greedy is the default."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refmoe.checkpoint.directory import inside
from refmoe.checkpoint.gguf import decimal
from refmoe.checkpoint.strict_json import read_json, show
from refmoe.errors import ConfigError

GGUF = {"temperature": "temp", "repetition_penalty": "penalty_repeat"}  # where the name differs in GGUF files
KEYS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def sampling(directory: Path, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Options of refmoe.sampler that the checkpoint suggests, {} when it suggests none. do_sample false means greedy;
    do_sample true without a temperature means 1. Of a GGUF file its `metadata` is asked, keys general.sampling.
    ConfigError for a value that is no number."""
    if metadata:
        path = Path(directory)
        config = {key: metadata.get(f"general.sampling.{GGUF.get(key, key)}") for key in KEYS}
        config = {key: decimal(value) if type(value) is float else value for key, value in config.items()}
    else:
        path = inside(Path(directory), "generation_config.json", ConfigError)
        config = read_json(path, "generation config") if path.exists() else {}
    found: dict[str, Any] = {}
    for key in KEYS:
        value = config.get(key)
        if value is None:
            continue
        number = type(value) in (int, float) and math.isfinite(value) and value >= 0
        if not number or (key == "top_k" and value != int(value)):
            raise ConfigError(f"{show(path)}: {key}: expected a number, found {show(value, 40)}")
        found[key] = int(value) if key == "top_k" else float(value)
    wanted = config.get("do_sample")
    if wanted is False:
        return {"temperature": 0.0}
    if (found or wanted is True) and "temperature" not in found:
        found["temperature"] = 1.0
    return found
