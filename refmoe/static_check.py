"""Static checks of a step program: names, single assignment, roles, types and shapes. No array is touched.

Every axis letter is replaced by a size of its own, 2p with a different prime p for each letter, so that two dimensions
which happen to be equal in one checkpoint cannot hide a swap, and D/2 is a whole number.
"""

import re
from collections.abc import Iterable
from fractions import Fraction

from refmoe import signature
from refmoe.errors import ProgramError
from refmoe.signature import Param, Shape, Value
from refmoe.steps import Step, Tables

MAX_STEPS = 35
PRIMES = (10007, 10009, 10037, 10039, 10061, 10067, 10069, 10079, 10091, 10093, 10099, 10103, 10111, 10133, 10139,
          10141, 10151, 10159, 10163, 10169, 10177, 10181, 10193, 10211, 10223, 10243, 10247)  # fmt: skip
# Attributes that state an axis of their op; a number stands for itself
ATTRIBUTE_AXES = {"heads": "N", "kv_heads": "G", "head_dim": "D", "rank": "R", "rotated": "Q"}
NUMBER = {"f32": float, "i64": int}
SPECIAL = ("x", "ids", "positions", "cache")


class Checker:
    """Checks the tables of one architecture; `shapes` collects the printed shapes of each step's results."""

    def __init__(self, arch: str, tables: Tables):
        self.arch, self.tables = arch, tables
        letters = ["T", *(name for name in tables.dims if len(name) == 1 and name.isupper() and name != "L")]
        self.axes = {letter: 2 * prime for letter, prime in zip(letters, PRIMES, strict=False)}
        self.used: set[str] = set()
        self.shapes: dict[str, list[tuple[str, ...]]] = {}

    def error(self, where: str, text: str) -> ProgramError:
        """A ProgramError that says where."""
        return ProgramError(f"program {self.arch}: {where}: {text}")

    def sizes(self, shape: str) -> Shape:
        """The checking sizes of a symbolic shape like `N*D,H` or `2*M,H`."""
        sizes = []
        for axis in shape.split(","):
            size = 1
            for letter in axis.split("*"):
                if letter not in self.axes and not letter.isdigit():
                    raise self.error(f"shape {shape}", f"expected an axis letter of dims, found {letter!r}")
                size *= int(letter) if letter.isdigit() else self.axes[letter]
            sizes.append(size)
        return tuple(sizes)

    def axis(self, size: int) -> str:
        """A checking size in letters: N*D."""
        letters, rest = [], size
        for letter, unit in self.axes.items():
            while rest % (unit // 2) == 0:
                letters.append(letter)
                rest //= unit // 2
        ratio = Fraction(rest, 2 ** len(letters))
        times = [str(ratio.numerator)] if ratio.numerator != 1 or not letters else []
        return "*".join(times + letters) + (f"/{ratio.denominator}" if ratio.denominator > 1 else "")

    def scalars(self, where: str, step: Step) -> dict[str, int | None]:
        """Attributes as the signature sees them: the checking size of those that name an axis, else None."""
        found: dict[str, int | None] = {}
        for name, value in step.attrs.items():
            if name == "table":
                if value not in self.tables.tables:
                    raise self.error(where, f"expected a declared table, found {value!r}")
                turned = step.attrs.get("rotated", step.attrs.get("head_dim", 0))
                width, wanted = self.tables.tables[value]["head_dim"], self.tables.value(turned)
                if width != wanted:
                    raise self.error(f"table {value}", f"expected head_dim {wanted}, found {width}")
                found["amplitude"] = None
                continue
            if isinstance(value, str) and value not in self.tables.dims:
                raise self.error(where, f"attribute {name}: expected a number or a dim, found {value!r}")
            found[name] = self.axes.get(value) if isinstance(value, str) else None
            if name in ATTRIBUTE_AXES:
                if isinstance(value, int):
                    found[name] = value
                found[ATTRIBUTE_AXES[name]] = found[name]
        return found

    def weight(self, where: str, role: str, param: Param, in_block: bool) -> Value:
        """The value of a weight parameter."""
        tensor = self.tables.tensors.get(role)
        if tensor is None:
            raise self.error(where, f"expected a declared tensor role, found {role!r}")
        stack = "{e}" in tensor.name
        if (tensor.kind == "matrix") != (param.dtype == "matrix") or stack != param.stack:
            raise self.error(where, f"{param.name}: expected {param.dtype}, found the {tensor.kind} {role}")
        if ("{l}" in tensor.name) != in_block:
            raise self.error(where, f"expected a tensor of {'its layer' if in_block else 'no layer'}, found {role}")
        self.used.add(role)
        return param.dtype, ((self.axes["E"],) if stack else ()) + self.sizes(tensor.shape)

    def attributes(self, where: str, step: Step, params: Iterable[Param]) -> None:
        """Every attribute is known to the op and has the type its signature states."""
        types = {param.name: param.dtype for param in params if param.axes is None}
        for name, value in step.attrs.items():
            if name in types and type(self.tables.value(value)) is not NUMBER[types[name]]:
                raise self.error(where, f"{name}: expected {types[name]}, found {self.tables.value(value)!r}")
            if name not in types and name not in ATTRIBUTE_AXES and name != "table":
                raise self.error(where, f"{step.op} has no attribute {name}")

    def step(self, where: str, step: Step, env: dict[str, Value], in_block: bool) -> list[Value]:
        """The results of one step, or ProgramError."""
        inputs = [name for name in step.inputs if name != "cache"]
        for name in inputs:
            if name not in env:
                raise self.error(where, f"expected an input defined before, found {name!r}")
        scalars, problems = self.scalars(where, step), []
        for alternative in signature.load(step.op):
            self.attributes(where, step, alternative.params)
            slots = [param for param in alternative.params if param.axes is not None]
            arrays: dict[str, Value] = {}
            if "table" in step.attrs:
                slots = [param for param in slots if param.name != "inv_freq"]
                axis = "Q" if "rotated" in step.attrs else "D"
                arrays["inv_freq"] = ("f32", ((scalars.get(axis) or 0) // 2,))
            if len(slots) != len(inputs) + len(step.weights):
                problems.append(f"expected {len(slots)} arrays, found {inputs + list(step.weights)}")
                continue
            arrays |= {slot.name: env[name] for slot, name in zip(slots, inputs, strict=False)}
            for slot, role in zip(slots[len(inputs) :], step.weights, strict=True):
                arrays[slot.name] = self.weight(where, role, slot, in_block)
            results = signature.match(alternative, arrays, scalars)
            if not isinstance(results, str) and len(results) == len(step.out):
                return results
            problems.append(results if isinstance(results, str) else f"expected {len(results)} names of results")
        text = re.sub(r"\d{5,}", lambda size: self.axis(int(size[0])), " | ".join(problems))
        raise self.error(where, f"{step.op}: {text}")

    def part(self, part: str, steps: tuple[Step, ...], env: dict[str, Value]) -> dict[str, Value]:
        """Walk one straight list of steps; returns the names it defines."""
        if not 1 <= len(steps) <= MAX_STEPS:
            raise self.error(part, f"expected 1 to {MAX_STEPS} steps, found {len(steps)}")
        env, defined = dict(env), {}
        self.shapes[part] = []
        for step in steps:
            where = f"{part}: step {step.out[0]}"
            results = self.step(where, step, env, part in self.tables.blocks)
            for name, value in zip(step.out, results, strict=True):
                if name in env or name in SPECIAL:
                    raise self.error(where, f"expected a new name (single assignment), found {name}")
                env[name] = defined[name] = value
            shapes = (f"{dtype}[{','.join(self.axis(size) for size in shape)}]" for dtype, shape in results)
            self.shapes[part].append(tuple(shapes))
        return defined

    def run(self) -> dict[str, list[tuple[str, ...]]]:
        """Check head, blocks, tail and the use of tensors; returns the shapes of every step."""
        tables = self.tables
        stream, line = ("f32", self.sizes("T,H")), ("i64", self.sizes("T"))
        outside = self.part("head", tables.head, {"ids": line}) | self.part("tail", tables.tail, {"x": stream})
        for name, steps in tables.blocks.items():
            defined = self.part(name, steps, {"x": stream, "positions": line})
            if defined[steps[-1].out[-1]] != stream or set(defined) & set(outside):
                raise self.error(name, "expected names of its own and a last result f32[T,H]")
        unused = sorted(set(tables.tensors) - self.used)
        if unused:
            raise self.error("tensors", f"expected every role used by a step, found unused {', '.join(unused)}")
        if len(tables.kinds) != tables.dims["L"] or set(tables.kinds) != set(tables.blocks):
            raise self.error("kinds", f"expected {tables.dims['L']} names, every block among them")
        return self.shapes
