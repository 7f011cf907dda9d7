"""In which format a matrix is stored: by the suffixes and dtypes behind its stem, and by what the config names.

The format is taken whose suffixes are all there; the one with more suffixes wins, so that a quantised weight beside its
scales is never mistaken for a plain one. A format that needs numbers from the config (`params`) must be one of the
encodings the config names; of several that it names, the one whose shapes fit. A matrix that is stored plain is plain,
whatever the config says. A tensor that stacks the matrices of all experts is taken slice by slice (stacked). Headers
only, no tensor data.
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import refmoe.formats
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.stacked import base, open_stack
from refmoe.checkpoint.strict_json import show
from refmoe.config.quantization import Quantization
from refmoe.config.scheme import Scheme
from refmoe.errors import FormatError


class Matrix(NamedTuple):
    """A matrix of `rows` x `cols` that lies in `parts` (suffix -> tensor) in the encoding of module `format`."""

    format: str
    parts: dict[str, TensorInfo]
    rows: int
    cols: int
    params: dict[str, Any] = {}  # noqa: RUF012 (never written to)


class Found(NamedTuple):
    """What was found behind a stem: a matrix, or what is missing, or what is wrong with `part`.

    `used` are names of tensors that belong to the stem; `unused` maps those of them that do not count to reasons.
    """

    matrix: Matrix | None = None
    used: tuple[str, ...] = ()
    unused: dict[str, str] = {}  # noqa: RUF012 (never written to)
    missing: tuple[str, ...] = ()
    part: TensorInfo | None = None
    problem: str = ""


@cache
def formats() -> tuple[ModuleType, ...]:
    """The modules of refmoe.formats, most suffixes first."""
    names = sorted(module.name for module in pkgutil.iter_modules(refmoe.formats.__path__))
    modules = [importlib.import_module(f"refmoe.formats.{name}") for name in names]
    return tuple(sorted(modules, key=lambda module: -len(module.suffixes)))


def allows(dtypes: str, dtype: str) -> bool:
    """True if a dtype is one of those written as "F32|BF16"."""
    return dtype in dtypes.split("|")


class Finder:
    """Finds the stored form of stems among the tensors of one checkpoint; replaces stacks there by their slices."""

    def __init__(self, tensors: dict[str, TensorInfo], quantization: Quantization | None = None):
        self.tensors, self.quantization = tensors, quantization
        self.stacks: dict[str, bool] = {}  # stem -> whether anything is stored under it
        self.families: dict[tuple[str, ...], list[ModuleType]] = {}  # suffixes, most first -> modules
        self.choices: dict[Any, tuple[list[ModuleType], list[tuple[ModuleType, Scheme]]]] = {}
        for module in formats():
            self.families.setdefault(module.suffixes, []).append(module)

    def find(self, stem: str, rows: int, cols: int) -> Found:
        """The stored form of one [rows, cols] matrix."""
        stack = base(stem)
        if stack is not None and stack not in self.stacks and (bad := self._open(stack)):
            return Found(None, (bad.name,), part=bad, problem=f"shape {show(list(bad.shape))}, expected one matrix for "
                         "each expert")  # fmt: skip
        for suffixes in self.families:
            if stem + suffixes[0] in self.tensors and all(stem + suffix in self.tensors for suffix in suffixes[1:]):
                break
        else:
            return Found(missing=self._missing(stem) if stack is None or self.stacks[stack] else (stack,))
        modules = self.families[suffixes]
        parts = {suffix: self.tensors[stem + suffix] for suffix in suffixes}
        used = tuple(info.name for info in parts.values())
        kind = suffixes, tuple(info.dtype for info in parts.values())
        if kind not in self.choices:
            rivals = [module for module in modules if all(map(allows, module.dtypes, kind[1]))]
            self.choices[kind] = rivals, [(module, one) for module in rivals for one in self._schemes(module)]
        rivals, choices = self.choices[kind]
        if not rivals:
            return Found(None, used, part=parts[suffixes[0]], problem=self._dtypes(parts, modules))
        if not choices:
            names = " or ".join(_name(module) for module in rivals)
            return Found(None, used, part=parts[suffixes[0]], problem=f"the encoding {names}, {self._named()}")
        found = [self._fit(stem, module, scheme, parts, rows, cols) for module, scheme in choices]
        if len(found) == 1:
            return found[0]
        good = sorted((one for one in found if one.matrix), key=lambda one: len(one.unused))
        good = [one for one in good if len(one.unused) == len(good[0].unused)]
        if len({repr((one.matrix.format, one.matrix.params)) for one in good if one.matrix}) > 1:
            return good[0]._replace(matrix=None, part=parts[suffixes[0]],
                                    problem="several encodings of quantization_config that fit it")
        return (good or found)[0]

    def _open(self, stack: str) -> TensorInfo | None:
        """Replace a stack by its slices; a stack that cannot be cut is returned."""
        suffixes = [""]
        for module in formats():
            suffixes += [*module.suffixes, *getattr(module, "extras", ()), *getattr(module, "unused", ())]
        self.stacks[stack] = any(stack + suffix in self.tensors for suffix in suffixes)
        return open_stack(self.tensors, stack, suffixes)

    def _schemes(self, module: ModuleType) -> list[Scheme]:
        """The settings under which a format may occur."""
        if not hasattr(module, "params"):
            return [Scheme(_name(module), {}, "")]
        schemes = self.quantization.schemes if self.quantization else ()
        return [scheme for scheme in schemes if scheme.format == _name(module)]

    def _fit(self, stem: str, module: ModuleType, scheme: Scheme, parts: dict[str, TensorInfo],
             rows: int, cols: int) -> Found:  # fmt: skip
        parts, first = dict(parts), next(iter(parts.values()))
        extras, unused = getattr(module, "extras", {}), getattr(module, "unused", {})
        for suffix in (*extras, *unused):
            if stem + suffix in self.tensors:
                parts[suffix] = self.tensors[stem + suffix]
        used = tuple(info.name for info in parts.values())
        try:
            shapes = module.stored_shapes(rows, cols, **scheme.params)
        except FormatError as found:
            return Found(None, used, part=first, problem=str(found))
        for suffix, shape in shapes.items():
            allowed = shape if isinstance(shape, list) else [shape]
            info = parts.get(suffix)
            if info is None:
                if None not in allowed or suffix in scheme.needs:
                    return Found(None, used, missing=(stem + suffix,))
                continue
            if suffix in extras and not allows(extras[suffix], info.dtype):
                return Found(None, used, part=info, problem=f"dtype {info.dtype}, expected {extras[suffix]}")
            if info.shape not in allowed:
                wanted = " or ".join(str(list(one)) for one in allowed if one is not None)
                problem = f"shape {show(list(info.shape))}, the config asks for {wanted}"
                return Found(None, used, part=info, problem=problem)
        reasons = {info.name: unused.get(suffix, "not used in this encoding")
                   for suffix, info in parts.items() if suffix not in shapes}
        kept = {suffix: info for suffix, info in parts.items() if suffix in shapes}
        dtypes = dict(zip(module.suffixes, module.dtypes, strict=True)) | extras
        stored = {suffix: info.dtype for suffix, info in kept.items() if "|" in dtypes[suffix]}
        return Found(Matrix(_name(module), kept, rows, cols, scheme.params | stored), used, reasons)

    def _missing(self, stem: str) -> tuple[str, ...]:
        """Names of what is missing beside the tensors that are there: of an encoding the config names, if possible."""
        named = {scheme.format for scheme in self.quantization.schemes} if self.quantization else set()
        absent = []
        for suffixes, modules in self.families.items():
            names = tuple(stem + suffix for suffix in suffixes if stem + suffix not in self.tensors)
            if len(names) < len(suffixes):
                absent.append((not any(_name(module) in named for module in modules), len(names), names))
        return min(absent)[2] if absent else (stem + formats()[-1].suffixes[0],)

    def _dtypes(self, parts: dict[str, TensorInfo], modules: list[ModuleType]) -> str:
        """What is wrong with the dtypes of a whole family."""
        infos = list(parts.values())
        found = "+".join(info.dtype for info in infos)
        known = ", ".join(dict.fromkeys("+".join(m.dtypes) for m in modules))
        text = f"dtype {found}, supported for a matrix: {known}"
        beside = [m.suffixes[1].lstrip(".") for m in formats()
                  if len(m.suffixes) > 1 and m.suffixes[0] == next(iter(parts)) and allows(m.dtypes[0], infos[0].dtype)]
        return f"dtype {found} and no {' or '.join(beside)} beside it" if len(infos) == 1 and beside else text

    def _named(self) -> str:
        if self.quantization is None:
            return "but the config has no quantization_config"
        names = dict.fromkeys(scheme.format for scheme in self.quantization.schemes)
        return f"quantization_config names {', '.join(names)}"


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]
