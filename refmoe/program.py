"""A model as data: tensors, straight lists of steps, and the kind of each layer. No arrays, no NumPy, no Numba.

`build(config)` reads a config.json through archs/<model_type>.py, checks the result and returns a Program.
A layer runs the block `kinds[l]`. Special inputs of steps: "ids" (i64[T], in the head), "x", the residual stream that
enters a block or the tail (`embed`, then the last result of the layer before); in blocks also "positions" (i64[T]) and
"cache", the keys and values of the layer, which the engine keeps. Attributes are numbers, floats are binary32 values;
the attribute "table" names an entry of `tables` (it gives inv_freq and amplitude).
With int8 activations (`with_int8`) the matrix products of the layers are other ops; the ops say what that means. Router
logits, the weight of a shared expert and the head stay binary32.
"""

import hashlib
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from refmoe import program_text
from refmoe.config import Config
from refmoe.config.quantization import Quantization, encodings
from refmoe.static_check import Checker
from refmoe.steps import UNLIMITED, CacheRow, Step, Tables, Tensor

INT8 = {op: f"{op}_a8" for op in ("linear", "linear_bias", "expert_linear", "expert_linear_bias")}
KEPT = frozenset(("router", "s_weight"))  # what decides whose output counts, and how much, stays binary32
__all__ = ["UNLIMITED", "CacheRow", "Expected", "Program", "Step", "Tensor", "build", "checked", "supported"]


class Expected(NamedTuple):
    """One tensor a checkpoint must hold; `tensor.name` is resolved (no {l}, {e}), `shape` is in numbers."""

    role: str
    layer: int | None
    expert: int | None
    tensor: Tensor
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program(Tables):
    """A checked program; attributes are numbers, steps know their shapes."""

    arch: str = ""
    config_report: dict[str, tuple[str, str]] = field(default_factory=dict)  # key -> (used|ignored|assumed, reason)
    quantization: Quantization | None = None  # the encodings in which matrices may be stored

    @cached_property
    def points(self) -> dict[str, tuple[str, str]]:
        """Every result of one pass, in order of execution: name -> (op, symbolic shape)."""
        parts = [("", self.head), *((f"layers.{n}.", self.blocks[kind]) for n, kind in enumerate(self.kinds)),
                 ("", self.tail)]  # fmt: skip
        return {prefix + out: (step.op, shape) for prefix, steps in parts for step in steps
                for out, shape in zip(step.out, step.shapes, strict=True)}  # fmt: skip

    def roles_of(self, part: str) -> list[str]:
        """Tensor roles of "head", "tail" or a block, in order of first use."""
        steps = self.blocks[part] if part in self.blocks else {"head": self.head, "tail": self.tail}[part]
        return list(dict.fromkeys(role for s in steps for role in s.weights))

    def sizes(self, shape: str) -> tuple[int, ...]:
        """A symbolic shape in numbers."""
        axes = (axis.split("*") for axis in shape.split(","))
        return tuple(prod(int(f) if f.isdigit() else self.dims[f] for f in factors) for factors in axes)

    def expected(self) -> Iterator[Expected]:
        """Every tensor the checkpoint must hold: outside the layers, then layer by layer; experts in id order."""
        places: list[tuple[int | None, list[str]]]
        places = [(None, list(dict.fromkeys(self.roles_of("head") + self.roles_of("tail"))))]
        places += [(layer, self.roles_of(kind)) for layer, kind in enumerate(self.kinds)]
        for layer, roles in places:
            for role in roles:
                tensor = self.tensors[role]
                name, shape = tensor.name.replace("{l}", str(layer)), self.sizes(tensor.shape)
                if "{e}" not in name:
                    yield Expected(role, layer, None, replace(tensor, name=name), shape)
                    continue
                for expert in range(self.dims["E"]):
                    yield Expected(role, layer, expert, replace(tensor, name=name.replace("{e}", str(expert))), shape)

    def cache_rows(self) -> list[CacheRow]:
        """What each layer keeps for every position, by the attributes of the step that has the cache."""
        rows = {}
        for kind, steps in self.blocks.items():
            sizes: Any = next(s.attrs for s in steps if "cache" in s.inputs)
            if "rank" in sizes:
                rows[kind] = CacheRow(1, (sizes["rank"], sizes["rotated"]), True)
            else:
                rows[kind] = CacheRow(sizes["kv_heads"], (sizes["head_dim"], sizes["head_dim"]), False)
        return [rows[kind] for kind in self.kinds]

    def parameters(self) -> dict[str, int]:
        """Parameter counts, each tensor once.

        total; active: without the experts a token does not choose (as published: the whole embedding matrix counts);
        multiplied: the matrix elements one token is multiplied with; vectors: norms and biases.
        """
        counts = dict.fromkeys(("total", "active", "multiplied", "vectors"), 0)
        layers: Counter[str] = Counter()
        for kind, uses in Counter(self.kinds).items():
            layers.update(dict.fromkeys(self.roles_of(kind), uses))
        for role, tensor in self.tensors.items():
            size = prod(self.sizes(tensor.shape)) * (layers[role] if "{l}" in tensor.name else 1)
            stack = "{e}" in tensor.name
            active = size * self.dims["K"] if stack else size
            if tensor.kind == "vector" and tensor.shape.startswith("E,"):  # one vector for each expert
                active = size // self.dims["E"] * self.dims["K"]
            counts["total"] += size * self.dims["E"] if stack else size
            counts["active"] += active
            if tensor.kind == "vector":
                counts["vectors"] += active
            elif layers[role] or role in self.roles_of("tail"):  # the others are only looked up
                counts["multiplied"] += active
        return counts

    def bytes_per_token(self, bytes_per_weight: float) -> float:
        """Bytes of weights read to decode one token: multiplied matrices, one embedding row, vectors held as f32."""
        counts = self.parameters()
        row: int = self.dims["H"]
        return (counts["multiplied"] + row) * bytes_per_weight + 4 * counts["vectors"]

    def defined(self) -> dict[str, Any]:
        """Everything that decides a number, as plain JSON values: what the digest covers."""

        def steps(part: tuple[Step, ...]) -> list[dict[str, Any]]:
            return [dict(vars(s)) for s in part]

        return {
            "arch": self.arch,
            "dims": self.dims,
            "kinds": self.kinds,
            "head": steps(self.head),
            "blocks": {name: steps(part) for name, part in self.blocks.items()},
            "tail": steps(self.tail),
            "tensors": {role: {**vars(t), "sizes": self.sizes(t.shape)} for role, t in self.tensors.items()},
            "tables": self.tables,
        }

    def to_json(self) -> str:
        """The whole program as canonical JSON: sorted keys, no spaces, ASCII, shortest float digits."""
        names = ("context", "copies", "ignored_tensors", "config_report")
        return _canonical(self.defined() | {name: getattr(self, name) for name in names} | {"digest": self.digest()})

    def digest(self) -> str:
        """sha256 (hex) of the canonical JSON of `defined`."""
        return hashlib.sha256(_canonical(self.defined()).encode("ascii")).hexdigest()

    @property
    def activations(self) -> str:
        """"int8" if matrix products take rows as codes (ops ending in _a8), else "f32"."""
        steps = (step for block in self.blocks.values() for step in block)
        return "int8" if any(step.op.endswith("_a8") for step in steps) else "f32"

    def with_int8(self) -> "Program":
        """The same program with the products of INT8 in the layers; those of KEPT and the head stay as they are."""
        return replace(self, blocks=int8_blocks(self.blocks))

    def text(self) -> str:
        """The program for reading: each block once, with the layers that use it."""
        return program_text.text(self)

    def describe(self) -> dict[str, Any]:
        """Facts for `refmoe info`, as plain JSON values."""
        return program_text.describe(self)


def int8_blocks(blocks: dict[str, tuple[Step, ...]]) -> dict[str, tuple[Step, ...]]:
    """Blocks with the ops of INT8."""

    def changed(one: Step) -> Step:
        kept = one.op not in INT8 or not KEPT.isdisjoint(one.weights)
        return one if kept else replace(one, op=INT8[one.op])

    return {name: tuple(map(changed, block)) for name, block in blocks.items()}


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def supported() -> tuple[str, ...]:
    """The model types that have a file in archs/."""
    names = (path.stem for path in (Path(__file__).parent / "archs").glob("*.py"))
    return tuple(sorted(name for name in names if name not in ("__init__", "parts", "parts_latent")))


def build(config: object, source: str = "config.json") -> Program:
    """The checked program of a config, or ConfigError with `source` as the file name."""
    c = Config(config, source)
    arch = c.values.get("model_type")
    if not isinstance(arch, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", arch) or arch not in supported():
        raise c.error("model_type", "one of " + ", ".join(supported()))
    c.note("model_type", "used", "chooses the program")
    module = importlib.import_module(f"refmoe.archs.{arch}")
    tables: Tables = module.tables(c)
    quantization = encodings(c)
    return replace(checked(arch, tables, c.finish(module.IGNORED)), quantization=quantization)


def checked(arch: str, tables: Tables, report: dict[str, tuple[str, str]]) -> Program:
    """Check tables (ProgramError) and resolve the names of dims in attributes to numbers."""
    shapes = Checker(arch, tables).run()

    def resolve(part: str, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(
            replace(s, shapes=shape, attrs={k: v if k == "table" else tables.value(v) for k, v in s.attrs.items()})
            for s, shape in zip(steps, shapes[part], strict=True)
        )

    values = vars(tables) | {"head": resolve("head", tables.head), "tail": resolve("tail", tables.tail)}
    values["blocks"] = {name: resolve(name, steps) for name, steps in tables.blocks.items()}
    return Program(**values, arch=arch, config_report=report)
