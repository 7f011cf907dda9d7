"""Signatures of ops: read from the docstrings in refmoe/ops without importing them, and matched against shapes.

A docstring holds a line `Signature   x f32[T,K], w matrix[N,K], eps f32 -> y f32[T,N]`, wrapped on indented lines if
long; further alternatives start with `|`. An entry is a name, a type (f32, i64, matrix) and its axes. matrix[E][F,I] is
a stack of E matrices; [...] is any shape, the same everywhere; no axes is a scalar. An axis is a number, a letter, or a
product of letters, possibly divided (N*D, D/2). A scalar named like an axis (k) states that axis. Letters belong to one
signature.
"""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from refmoe.errors import ProgramError

OPS = Path(__file__).parent / "ops"
_PARAM = re.compile(r"(\w+)\s+(f32|i64|matrix)((?:\[[^\]]*\])*)$")
_AXIS = re.compile(r"(?:\w+(?:\*\w+)*(?:/\d+)?)$")

Shape = tuple[int, ...]
Value = tuple[str, Shape]  # type and sizes of an array


@dataclass(frozen=True)
class Param:
    """One entry: axes is None for a scalar, ("...",) for any shape; stack marks matrix[E][F,I]."""

    name: str
    dtype: str
    axes: tuple[str, ...] | None
    stack: bool = False


@dataclass(frozen=True)
class Signature:
    """One alternative: parameters and results in order."""

    params: tuple[Param, ...]
    results: tuple[Param, ...]


def _params(text: str, where: str) -> tuple[Param, ...]:
    params = []
    for part in re.split(r",(?![^\[]*\])", text):
        match = _PARAM.match(part.strip())
        if not match:
            raise ProgramError(f"{where}: Signature: expected `name type[axes]`, found {part.strip()!r}")
        groups = re.findall(r"\[([^\]]*)\]", match[3])
        axes = tuple(axis.strip() for group in groups for axis in group.split(","))
        for axis in axes:
            if axis != "..." and not _AXIS.match(axis):
                raise ProgramError(f"{where}: Signature: expected an axis like N*D or D/2, found {axis!r}")
        params.append(Param(match[1], match[2], axes if groups else None, len(groups) == 2))
    return tuple(params)


def parse(docstring: str, where: str) -> tuple[Signature, ...]:
    """The alternatives of the Signature section of a docstring."""
    found: list[str] = []
    for line in docstring.splitlines():
        if line.startswith("Signature"):
            found.append(line.removeprefix("Signature"))
        elif found and (line.startswith((" ", "|"))):
            found.append(line)
        elif found:
            break
    if not found:
        raise ProgramError(f"{where}: expected a Signature line in the docstring, found none")
    alternatives = []
    for text in " ".join(found).split("|"):
        left, arrow, right = text.partition("->")
        if not arrow:
            raise ProgramError(f"{where}: Signature: expected `... -> ...`, found {text.strip()!r}")
        alternatives.append(Signature(_params(left, where), _params(right, where)))
    return tuple(alternatives)


@functools.cache
def load(op: str) -> tuple[Signature, ...]:
    """The signatures of refmoe/ops/<op>.py."""
    path = OPS / f"{op}.py"
    if not op.isidentifier() or not path.is_file():
        raise ProgramError(f"op {op}: expected a file {path.name} in refmoe/ops, found none")
    return parse(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "", f"refmoe/ops/{path.name}")


class Axes:
    """Equations `axis expression = size`, solved as far as one unknown letter remains in each."""

    def __init__(self, known: dict[str, int]):
        self.known = dict(known)
        self.open: list[tuple[str, int]] = []
        self.any_shape: Shape | None = None

    def _split(self, axis: str) -> tuple[list[str], int, int]:
        """Unknown letters, product of the known ones, divisor."""
        product, _, divisor = axis.partition("/")
        unknown, size = [], 1
        for factor in product.split("*"):
            value = int(factor) if factor.isdigit() else self.known.get(factor)
            if value is None:
                unknown.append(factor)
            else:
                size *= value
        return unknown, size, int(divisor or 1)

    def bind(self, axes: tuple[str, ...], shape: Shape) -> str | None:
        """Add the equations of one array; returns what does not fit, or None."""
        if axes == ("...",):
            if self.any_shape not in (None, shape):
                return f"[...]: expected {list(self.any_shape or ())} as elsewhere"
            self.any_shape = shape
            return None
        if len(axes) != len(shape):
            return f"expected {len(axes)} axes"
        self.open += zip(axes, shape, strict=True)
        return self.solve()

    def solve(self) -> str | None:
        """Settle every equation that has at most one unknown; returns the first contradiction."""
        progress = True
        while progress:
            progress = False
            for axis, size in list(self.open):
                unknown, product, divisor = self._split(axis)
                if len(unknown) > 1:
                    continue
                self.open.remove((axis, size))
                progress = True
                if not unknown and product != size * divisor:
                    return f"axis {axis}: expected {product // divisor} as elsewhere"
                if unknown and (size * divisor) % product:
                    return f"axis {axis}: expected a multiple of {product}"
                if unknown:
                    self.known[unknown[0]] = size * divisor // product
        return None

    def size(self, axis: str) -> int | None:
        """The size of an axis expression, or None if it cannot be known."""
        unknown, product, divisor = self._split(axis)
        if not unknown:
            return product // divisor if product % divisor == 0 else None
        return next((size for expression, size in self.open if expression == axis), None)


def match(signature: Signature, arrays: dict[str, Value], scalars: dict[str, int | None]) -> list[Value] | str:
    """The types and shapes of the results, or one line saying what does not fit.

    `arrays` maps parameter names to values, `scalars` maps names of scalars and of axes to sizes (None: any number).
    """
    axes = Axes({name: size for name, size in scalars.items() if size is not None})
    for param in signature.params:
        if param.axes is None:
            if param.name not in scalars:
                return f"{param.name}: expected an attribute, found none"
            continue
        if param.name not in arrays:
            return f"{param.name}: expected an input, found none"
        dtype, shape = arrays[param.name]
        if dtype != param.dtype:
            return f"{param.name}: expected {param.dtype}, found {dtype}"
        problem = axes.bind(param.axes, shape)
        if problem:
            return f"{param.name}: {problem}, found {list(shape)}"
    results: list[Value] = []
    for result in signature.results:
        wanted = result.axes or ()
        sizes = (axes.any_shape or ()) if wanted == ("...",) else tuple(axes.size(axis) or 0 for axis in wanted)
        if 0 in sizes:
            return f"{result.name}: its shape does not follow from the inputs"
        results.append((result.dtype, sizes))
    return results
