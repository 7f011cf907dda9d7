"""mutations - the bugs of the catalogue as functions: what an op computes when it is wrong in a known way.

    @mutation("A14", "rms_norm", "head_norm")
    def other_eps(m):
        for eps in (1e-5, 1e-6):
            yield f"eps {eps:g}", m.with_inputs(eps=eps)

A function takes a `Maker` (the inputs of the failing case, and the arithmetic of the port) and yields (detail, thunk)
pairs: the thunk evaluates the mutated op, in the form that functions of verifier.bounds return. Ids in lower case are
mistakes that the catalogue does not list. `symptom` registers a function that looks at the outputs instead.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from refmoe.errors import RefmoeError
from refmoe.verifier.arithmetic import Arithmetic
from refmoe.verifier.bounds import get as bounds_of
from refmoe.verifier.catalogue import bugs
from refmoe.verifier.verdict import Suspect

Thunk = Callable[[], Any]
_MUTATIONS: dict[str, list[tuple[str, str, Any]]] = {}
_SYMPTOMS: dict[str, list[tuple[str, str, Callable]]] = {}
_LAST: dict[str, list[tuple[str, str, Callable]]] = {}


@dataclass
class Maker:
    """What a mutation works with: `m.x` is the input x, `m.a` the arithmetic, `m.run(...)` evaluates the op."""

    op: str
    inputs: dict[str, Any]
    a: Arithmetic
    question: Any
    memo: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.inputs[name]
        except KeyError:
            raise AttributeError(name) from None

    def run(self, **changes) -> Any:
        """The op, or `op=`, with some inputs replaced, or keywords of its function in bounds."""
        function = bounds_of(changes.pop("op", self.op))
        if function is None:
            raise KeyError(self.op)
        return function(self.a, **{**self.inputs, **changes})

    def given(self, **changes) -> Thunk:
        """`run` as a thunk."""
        return lambda: self.run(**changes)


@dataclass
class Mutant:
    """One mutation of one case."""

    id: str
    title: str
    detail: str
    make: Thunk
    whole: bool


def mutation(id: str, *ops: str, title: str = "", whole: bool = False):
    """Register a function for these ops. The title of a catalogued bug is that of its row. `whole`: it explains all
    elements or none, never a part."""

    def register(function):
        function.whole = whole
        for op in ops:
            _MUTATIONS.setdefault(op, []).append((id, title, function))
        return function

    return register


def symptom(id: str, *ops: str, title: str = "", last: bool = False):
    """Register a function (question, misses) -> detail, or None if it does not apply; `last`: only asked when no
    mutation explains what was found."""

    def register(function):
        for op in ops:
            (_LAST if last else _SYMPTOMS).setdefault(op, []).append((id, title, function))
        return function

    return register


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def _title(id: str, title: str) -> str:
    return title or (bugs()[id].title if id in bugs() else id.replace("_", " "))


def ids(op: str) -> list[str]:
    """The mutations and symptoms of an op."""
    _load()
    return sorted({id for registry in (_MUTATIONS, _SYMPTOMS, _LAST) for id, _, _ in _known(registry, op)})


def _known(registry: dict[str, list], op: str) -> list:
    """What is registered for an op; `formats/*` means every format."""
    return registry.get(op, []) + (registry.get("formats/*", []) if op.startswith("formats/") else [])


def of(question, arithmetic: Arithmetic) -> Iterator[Mutant]:
    """All mutations of a question's op; one that does not fit its inputs yields nothing."""
    _load()
    memo: dict[str, Any] = {}
    for id, title, function in _known(_MUTATIONS, question.op):
        maker = Maker(question.op, question.inputs, arithmetic, question, memo)
        try:
            for detail, thunk in function(maker):
                yield Mutant(id, _title(id, title), detail, thunk, function.whole)
        except (AttributeError, ValueError, IndexError, KeyError, RefmoeError):
            continue


def symptoms(question, misses, last: bool = False) -> Iterator[Suspect]:
    """The symptoms that apply."""
    _load()
    for id, title, function in _known(_LAST if last else _SYMPTOMS, question.op):
        try:
            detail = function(question, misses)
        except (KeyError, ValueError, IndexError, RefmoeError):
            detail = None
        if detail is not None:
            yield Suspect(id, _title(id, title), detail)
