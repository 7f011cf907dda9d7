"""profiles - the arithmetic that a port declares; every bound of the verifier follows from it.

A profile states facts about the port, no tolerances:
  input           type to which the operands of a product are rounded before it (weights and activations)
  input_rounding  nearest: rounded to nearest even, so the rounded operands are known and computed with;
                  any: rounded or cut somehow, so the error is only bounded
  input_group     how many neighbours share a scale when the input type is e4m3 or int8; 0: a whole row
  accumulate      what sums are kept in: f32; tensor (f32 accumulators of a matrix unit, which cut the terms they
                  align: 2^-22); f16; bf16; fp8 (14 bits)
  accumulate_block  number of terms summed in `accumulate` before they are added up in f32; 0: all of them
  intermediate    type in which values pass from one elementary step of an op to the next (f32: fused kernels)
  output          type to which results are rounded
  output_rounding nearest: to nearest even; any: results may also be kept wider, or be cut
  exp_ulp         largest error of exp, sin and cos in units in the last place of binary32, besides rounded arguments
  batch_invariant rows with equal inputs have equal bits, whatever else is in the batch
  exact           nothing else than equal bits counts
The order of every sum is free in all profiles but `exact`, and values below 2^-126 may be flushed to zero.

`PROFILES` are those with a name. A file (TOML or JSON) begins from one of them and changes fields; `at` tables change
them for what matches a pattern: an op, op/case, or the name of a step in a trace.

    based_on = "bf16"
    name = "my kernels"
    [at."route_*"]
    intermediate = "f32"
"""

import dataclasses
import fnmatch
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refmoe.errors import UsageError

MAX_FILE = 1 << 20


@dataclass(frozen=True)
class Type:
    """A number format: half a unit in the last place of 1, smallest normal number, spacing below it, largest number."""

    unit: float
    normal: float
    step: float
    largest: float


TYPES = {
    "f32": Type(2.0**-24, 2.0**-126, 2.0**-149, 3.4028234663852886e38),
    "tf32": Type(2.0**-11, 2.0**-126, 2.0**-136, 3.4011621342146535e38),
    "bf16": Type(2.0**-8, 2.0**-126, 2.0**-133, 3.3895313892515355e38),
    "f16": Type(2.0**-11, 2.0**-14, 2.0**-24, 65504.0),
    "e4m3": Type(2.0**-4, 2.0**-6, 2.0**-9, 448.0),
    "int8": Type(2.0**-8, 0.0, 0.0, 127.0),
}
SUMS = {"f32": 2.0**-24, "tensor": 2.0**-22, "f16": 2.0**-11, "bf16": 2.0**-8, "fp8": 2.0**-13}
CHOICES = {
    "input": tuple(TYPES), "input_rounding": ("nearest", "any"), "accumulate": tuple(SUMS),
    "intermediate": ("f32", "tf32", "bf16", "f16"), "output": ("f32", "tf32", "bf16", "f16"),
    "output_rounding": ("nearest", "any"),
}  # fmt: skip
COUNTS, FLAGS = ("input_group", "accumulate_block"), ("batch_invariant", "exact")


@dataclass(frozen=True)
class Profile:
    """See the fields above. `at` holds (pattern, changes) pairs; later ones win."""

    name: str
    input: str = "f32"
    input_rounding: str = "nearest"
    input_group: int = 0
    accumulate: str = "f32"
    accumulate_block: int = 0
    intermediate: str = "f32"
    output: str = "f32"
    output_rounding: str = "nearest"
    exp_ulp: float = 4.0
    batch_invariant: bool = False
    exact: bool = False
    at: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()

    def where(self, *names: str) -> "Profile":
        """The profile of one place, known by any of these names (op, op/case, step of a trace)."""
        changes: dict[str, Any] = {}
        for pattern, fields in self.at:
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                changes.update(fields)
        return dataclasses.replace(self, **changes) if changes else self

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self) | {"at": {pattern: dict(fields) for pattern, fields in self.at}}


# Routers keep binary32 in engines that are right (catalogue R12), whatever the rest of the model does: their inputs are
# taken as they are. So are the logits of a sampler.
_ROUTER = tuple((pattern, (("input", "f32"), ("intermediate", "f32"))) for pattern in ("route_*", "argmax"))


def _narrow(name: str, **fields) -> Profile:
    return Profile(name, at=_ROUTER, **fields)


# llama.cpp on a CPU: products convert the activations to the type that the stored weights are multiplied in, sums and
# results are f32; the cache is f16 unless it was told otherwise; matrices that are stored in f32 (routers) stay in f32.
_CACHE = (("attention*", (("input", "f16"), ("input_rounding", "any"), ("intermediate", "f16"))),
          ("latent_attention", (("input", "f16"), ("input_rounding", "any"), ("intermediate", "f16"))))  # fmt: skip
_LOGITS = (("layers.*.router_logits", (("input", "f32"),)),)


def _ggml(name: str, **fields) -> Profile:
    return Profile(name, at=(*_ROUTER, *_CACHE, *_LOGITS), **fields)


PROFILES = {profile.name: profile for profile in (
    Profile("exact", exact=True),
    Profile("f32-any-order"),
    _narrow("bf16", input="bf16", accumulate="tensor", intermediate="bf16", output="bf16"),
    _narrow("f16", input="f16", accumulate="tensor", intermediate="f16", output="f16"),
    _narrow("tf32", input="tf32", input_rounding="any", accumulate="tensor"),
    _narrow("fp8-accumulate", input="e4m3", input_rounding="any", input_group=128, accumulate="fp8",
            accumulate_block=128, intermediate="bf16", output="bf16"),
    _narrow("int8-activations", input="int8", input_rounding="any", input_group=32, intermediate="bf16",
            output="bf16"),
    _ggml("ggml-f32"),
    _ggml("ggml-f16", input="f16"),
    _ggml("ggml-bf16", input="bf16"),
    _ggml("ggml-q8", input="int8", input_rounding="any", input_group=32),
)}  # fmt: skip


def load(source: "str | Path | dict[str, Any] | Profile") -> Profile:
    """A profile by name, from a file, or from the fields of one. UsageError names the field, expected and found."""
    if isinstance(source, Profile):
        return source
    if isinstance(source, dict):
        return _build(source, "profile")
    if str(source) in PROFILES:
        return PROFILES[str(source)]
    path = Path(source)
    if not path.is_file():
        raise UsageError(f"profile: expected a file or one of {', '.join(PROFILES)}, found {str(source)[:160]!r}")
    if path.stat().st_size > MAX_FILE:
        raise UsageError(f"{path}: expected a profile, found {path.stat().st_size} bytes")
    try:
        text = path.read_text("utf-8")
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError, OSError) as problem:
        raise UsageError(f"{path}: expected TOML, or JSON in a .json file: {problem}") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{path}: expected an object of fields, found {type(fields).__name__}")
    return _build({"name": path.stem} | fields, str(path))


def _build(fields: dict[str, Any], where: str) -> Profile:
    fields = dict(fields)
    base, at = fields.pop("based_on", "f32-any-order"), fields.pop("at", {})
    if not isinstance(base, str) or base not in PROFILES:
        raise UsageError(f"{where}: based_on: expected one of {', '.join(PROFILES)}, found {str(base)[:80]!r}")
    if not isinstance(at, dict):
        raise UsageError(f"{where}: at: expected tables of fields by pattern, found {type(at).__name__}")
    name = fields.pop("name", base)
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 80:
        raise UsageError(f"{where}: name: expected a short text, found {str(name)[:80]!r}")
    places = [(pattern, _checked(changes, f"{where}: at.{pattern}")) for pattern, changes in at.items()]
    changed = dict(_checked(fields, where))
    return dataclasses.replace(PROFILES[base], name=name, at=(*PROFILES[base].at, *places), **changed)


def _checked(fields: Any, where: str) -> tuple[tuple[str, Any], ...]:
    known = (*CHOICES, *COUNTS, *FLAGS, "exp_ulp")
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: expected fields, found {str(fields)[:80]!r}")
    for key, value in fields.items():
        if key not in known:
            raise UsageError(f"{where}: {str(key)[:80]}: expected one of {', '.join(known)}")
        if key in CHOICES and value not in CHOICES[key]:
            raise UsageError(f"{where}: {key}: expected one of {', '.join(CHOICES[key])}, found {str(value)[:80]!r}")
        if key in FLAGS and type(value) is not bool:
            raise UsageError(f"{where}: {key}: expected true or false, found {str(value)[:80]!r}")
        if key in COUNTS and (type(value) is not int or not 0 <= value <= 1 << 20):
            raise UsageError(f"{where}: {key}: expected a number from 0 on, found {str(value)[:80]!r}")
        if key == "exp_ulp" and (type(value) not in (int, float) or not 0.5 <= value <= 4096):
            raise UsageError(f"{where}: exp_ulp: expected a number from 0.5 to 4096, found {str(value)[:80]!r}")
    return tuple(fields.items())
