"""Reading a checkpoint's config.json: every key is used, ignored with a written reason, or refused.

`Config` hands out values by key and remembers which keys were asked for; `finish` accounts for the rest. A key whose
value is null counts as not set, as in the files transformers writes. Two names of one setting must agree when both are
present. Every refusal is a ConfigError of one line: file, key, expected, found.
"""

import json
import math
import struct
from typing import Any

from refmoe.config.ignored import IGNORED
from refmoe.errors import ConfigError

MAX_SIZE = 10_000_000  # no published dimension comes near; larger ones are refused before anything is sized by them
MAX_LAYERS = 10_000
MAX_EXPERTS = 10_000
REQUIRED = object()  # default of keys that have none


def shown(value: object) -> str:
    """A value from the file as one line of at most 60 ASCII characters."""
    try:
        text = json.dumps(value, default=repr)
    except (RecursionError, ValueError):  # nested too deep, or an integer of thousands of digits
        text = f"a large {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def round32(value: float) -> float:
    """RN32 of a binary64 number, as a Python float; overflow gives inf."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def positive(value: Any) -> bool:
    """True for a number above 0 and below 2^126 whose RN32 is above 0 (true is not a number)."""
    return type(value) in (int, float) and 0 < value < 2.0**126 and round32(float(value)) > 0.0


class Config:
    """The values of one config file, or of one object inside it, whose keys then have `prefix` in front in messages.

    `report` maps keys to (status, reason), status = used | assumed | ignored.
    """

    def __init__(self, values: object, source: str, prefix: str = ""):
        self.source, self.prefix = source, prefix
        self.report: dict[str, tuple[str, str]] = {}
        if not isinstance(values, dict):
            where = Config({}, source).error(prefix.rstrip("."), "an object", shown(values)) if prefix else \
                ConfigError(f"{source}: top level: expected an object, found {shown(values)}")
            raise where
        self.values: dict[str, Any] = values

    def inner(self, key: str) -> "Config":
        """The object under `key` as a config of its own; see `adopt`."""
        return Config(self.values.get(key), self.source, f"{self.prefix}{key}.")

    def adopt(self, inner: "Config") -> None:
        """Take over what became of the keys of an inner object, under their full names."""
        start = len(self.prefix)
        self.report |= {inner.prefix[start:] + key: entry for key, entry in inner.report.items()}

    def error(self, key: str, expected: str, found: object = REQUIRED) -> ConfigError:
        """The error to raise about `key`; `found`, a text, defaults to the value in the file."""
        if found is REQUIRED:
            found = shown(self.values[key]) if key in self.values else "nothing"
        name = self.prefix + key
        if not (name.isascii() and name.isprintable() and len(name) <= 60 + 40 * bool(self.prefix)):
            name = shown(name)
        return ConfigError(f"{self.source}: {name}: expected {expected}, found {found}")

    def has(self, key: str) -> bool:
        """True if the key is present and not null."""
        return self.values.get(key) is not None

    def note(self, key: str, status: str, reason: str) -> None:
        """Record what became of `key`."""
        self.report[key] = (status, reason)

    def unused(self, reason: str, *keys: str) -> None:
        """Record keys that do not matter in this file; absent ones are not mentioned."""
        for key in keys:
            if key in self.values:
                self.note(key, "ignored", reason)

    def _take(self, keys: tuple[str, ...], default: object, expected: str, reason: str) -> tuple[str, Any]:
        present = [key for key in keys if self.has(key)]
        if not present:
            if default is REQUIRED:
                raise self.error(keys[0], expected)
            if default is not None:
                self.note(keys[0], "assumed", f"not set: {shown(default)}")
            return keys[0], default
        first = self.values[present[0]]
        for key in present:
            self.note(key, "used", reason)
            if key != present[0] and (self.values[key] != first or type(self.values[key]) is not type(first)):
                raise self.error(key, f"{shown(first)} as in {present[0]}")
        return present[0], first

    def integer(
        self, *keys: str, low: int = 1, high: int = MAX_SIZE, default: Any = REQUIRED, reason: str = "dims"
    ) -> Any:
        """An integer in low..high (true and 4.0 are not integers), or `default` if none of the names is set."""
        expected = f"an integer from {low} to {high}"
        key, value = self._take(keys, default, expected, reason)
        if value is not default and (type(value) is not int or not low <= value <= high):
            raise self.error(key, expected)
        return value

    def number(self, key: str, *, default: object = REQUIRED, reason: str = "dims") -> float:
        """A finite number above 0, also as binary32."""
        key, value = self._take((key,), default, "a finite number above 0", reason)
        if not positive(value):
            raise self.error(key, "a finite number above 0")
        return float(value)

    def flag(self, key: str, *, default: Any = REQUIRED, reason: str = "chooses the steps") -> bool:
        """true or false."""
        key, value = self._take((key,), default, "true or false", reason)
        if type(value) is not bool:
            raise self.error(key, "true or false")
        return value

    def items(self, key: str, kind: type, expected: str, *, reason: str) -> list[Any] | None:
        """A list whose entries all have the given type, or None if not set."""
        key, value = self._take((key,), None, expected, reason)
        if value is not None and not (isinstance(value, list) and all(type(item) is kind for item in value)):
            raise self.error(key, expected)
        return value

    def fixed(self, table: dict[str, tuple[tuple[Any, ...], str]]) -> None:
        """Keys that, when set, must have one of the listed values: another asks for something not implemented."""
        for key, (allowed, reason) in table.items():
            if not self.has(key):
                continue
            if not any(type(self.values[key]) is type(choice) and self.values[key] == choice for choice in allowed):
                raise self.error(key, " or ".join(shown(choice) for choice in allowed) + f" ({reason})")
            self.note(key, "used", reason)

    def finish(self, ignored: dict[str, str], general: dict[str, str] = IGNORED) -> dict[str, tuple[str, str]]:
        """Account for the keys nobody asked for: `ignored` (the architecture's) and the general list, else refuse."""
        for key, value in self.values.items():
            if key in self.report:
                continue
            reason = ignored.get(key) or general.get(key)
            if value is None:
                self.note(key, "ignored", reason or "null: not set")
            elif reason is not None:
                self.note(key, "ignored", reason)
            elif key.startswith("_"):
                self.note(key, "ignored", "private bookkeeping of the program that wrote the file")
            else:
                raise self.error(key, "a known key (this one could change the numbers; remove it if it does not)")
        return self.report
