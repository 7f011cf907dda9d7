"""The metadata of a GGUF model while a config is made of it: keys handed out by name, and what became of each."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refmoe.checkpoint.gguf import Value, decimal
from refmoe.checkpoint.gguf_files import GgufModel
from refmoe.checkpoint.strict_json import show
from refmoe.errors import ConfigError

Report = dict[str, tuple[str, str]]
KINDS: dict[str, Callable[[Value], bool]] = {
    "an integer": lambda v: type(v) is int,
    "a number": lambda v: type(v) in (int, float),
    "true or false": lambda v: type(v) is bool,
    "a string": lambda v: type(v) is str,
}
IGNORED = {
    "general.": "names or describes the file; every tensor states its own type",
    "tokenizer.": "of the tokenizer: read by the text side, not by the forward pass",
    "quantize.": "how the file was made",
}
ARCHITECTURES = ("deepseek2", "glm4moe", "gpt-oss", "llama", "olmoe", "qwen2", "qwen2moe", "qwen3", "qwen3moe")


class Metadata:
    """The metadata of a model; `report` maps keys to (used | assumed | ignored, reason)."""

    def __init__(self, model: GgufModel):
        self.model, self.values = model, model.metadata
        self.report: Report = {}
        self.arch = self._architecture()

    def error(self, key: str, expected: str, found: object = None) -> ConfigError:
        """The error to raise about `key`; `found` defaults to its value."""
        value = self.values.get(key, "nothing") if found is None else found
        text = f"an array of {len(value)}" if isinstance(value, np.ndarray | list) else show(value)
        return ConfigError(f"{show(self.model.path)}: {show(key)}: expected {expected}, found {text}")

    def take(self, name: str, kind: str, default: Any = None, word: str = "") -> Any:
        """The value of `{arch}.{name}`, or `default`; an array of one value for each layer counts as that value."""
        key = f"{self.arch}.{name}"
        value = self.values.get(key)
        if value is None:
            if default is not None:
                self.report[key] = ("assumed", f"not set: {show(default)}")
            return default
        if isinstance(value, np.ndarray) and len(value) and (value == value[0]).all():
            value = value[0].item()
        if not KINDS[kind](value):
            raise self.error(key, kind)
        self.report[key] = ("used", word or "config")
        return decimal(value) if isinstance(value, float) else value

    def need(self, name: str, kind: str) -> Any:
        """As `take`, refused when absent."""
        if (value := self.take(name, kind)) is None:
            raise self.error(f"{self.arch}.{name}", kind)
        return value

    def only(self, name: str, *allowed: object) -> None:
        """A key that changes numbers in a way no architecture here has, unless it is one of `allowed` or absent."""
        key = f"{self.arch}.{name}"
        if (value := self.values.get(key)) is not None:
            if not any(type(value) is type(choice) and value == choice for choice in allowed):
                raise self.error(key, " or ".join(show(choice) for choice in allowed))
            self.report[key] = ("used", "config")

    def has(self, tensor: str) -> bool:
        """True if the file has this tensor."""
        return tensor in self.model.tensors

    def _architecture(self) -> str:
        for key, wanted in (("general.type", "model"), ("general.quantization_version", 2)):
            found = self.values.get(key, wanted)
            if type(found) is not type(wanted) or found != wanted:
                raise self.error(key, str(wanted))
        arch = self.values.get("general.architecture")
        if not isinstance(arch, str) or arch not in ARCHITECTURES:
            raise self.error("general.architecture", "one of " + ", ".join(ARCHITECTURES))
        self.report["general.architecture"] = ("used", "chooses the program")
        return str(arch)

    def finish(self) -> None:
        """Account for the keys nobody asked for."""
        for key in self.values:
            if key in self.report:
                continue
            reason = next((why for start, why in IGNORED.items() if key.startswith(start)), None)
            space = key.partition(".")[0]
            if reason is None and space not in ARCHITECTURES:
                reason = f"not a key of {self.arch}, nor of any other supported architecture"
            if reason is None:
                raise self.error(key, "a known key (this one could change the numbers)")
            self.report[key] = ("ignored", reason)
