"""bounds - every op in binary64 with the error that the declared arithmetic may make: one function per op.

A function takes an Arithmetic (verifier.arithmetic) and the inputs of the op, named as in its Signature, and returns
{output: Ball}, or a Routing for an op that chooses experts, or integers where only equality counts. It is written from
the Semantics of the clause, not from its kernel. Keywords after the inputs change the formula: the mutations of the
catalogue use them.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

_OPS: dict[str, Callable[..., Any]] = {}


def bound(*ops: str):
    """Register a function for these ops."""

    def register(function):
        _OPS.update(dict.fromkeys(ops, function))
        return function

    return register


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def names() -> list[str]:
    """The ops that have bounds."""
    _load()
    return sorted(_OPS)


def get(op: str) -> Callable[..., Any] | None:
    """The function of an op, or None."""
    _load()
    return _OPS.get(op)
