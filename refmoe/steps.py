"""The words a program is written in: steps, tensors, and the tables an architecture file returns. Plain data."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

UNLIMITED = 2**31 - 1  # attention window: every earlier position is visible

Attr = int | float | str
Dims = dict[str, Any]  # axis letter -> int; eps, scale -> binary32 value as float; window -> int


class CacheRow(NamedTuple):
    """What a layer keeps for each position: for each of `heads`, two runs of `widths` numbers.

    Keys and values lie in chunks of their own; `joined`, the two runs are one row that serves as key and, its first
    run, as value (clause latent_attention).
    """

    heads: int
    widths: tuple[int, int]
    joined: bool

    @property
    def numbers(self) -> int:
        """Numbers kept for each position."""
        return self.heads * sum(self.widths)


@dataclass(frozen=True)
class Step:
    """out = op(inputs; weights; attrs). `shapes` are the results' symbolic shapes, filled in by the check."""

    out: tuple[str, ...]
    op: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...] = ()
    attrs: dict[str, Attr] = field(default_factory=dict)
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """A declared tensor. matrix: `name` is a stem without suffix, stored in any format; vector: a full name.

    {l} in the name stands for the layer, {e} for the expert; `shape` is in axis letters, "N*D,H". A stem that ends in
    [{e}] is a slice of a tensor that stacks all experts (checkpoint.stacked); a vector "E,..." has a row for each.
    """

    kind: str
    name: str
    shape: str


@dataclass(frozen=True)
class Tables:
    """What an architecture file returns. Attributes of steps may name dims."""

    dims: Dims
    kinds: tuple[str, ...]  # block name of each layer
    head: tuple[Step, ...]
    blocks: dict[str, tuple[Step, ...]]
    tail: tuple[Step, ...]
    tensors: dict[str, Tensor]  # role -> tensor
    tables: dict[str, dict[str, Any]]  # name -> spec of numerics.rope_tables.from_spec
    context: int  # positions the publisher means it for; no number depends on it
    copies: tuple[tuple[str, str], ...] = ()  # (stem, stem of the tensor it must equal if it is stored at all)
    ignored_tensors: tuple[tuple[str, str], ...] = ()  # (fnmatch pattern, reason)

    def value(self, attr: Attr) -> Attr:
        """The number an attribute stands for: a dim by name, or itself."""
        return self.dims[attr] if isinstance(attr, str) else attr


def step(out: str, op: str, inputs: str, weights: str = "", **attrs: Attr) -> Step:
    """A step with its names given as words."""
    return Step(tuple(out.split()), op, tuple(inputs.split()), tuple(weights.split()), attrs)


def matrix(stem: str, shape: str) -> Tensor:
    """W_eff f32[rows, columns] in whatever format the checkpoint stores under `stem`."""
    return Tensor("matrix", stem, shape)


def vector(name: str, shape: str) -> Tensor:
    """A tensor read as f32 under its full name."""
    return Tensor("vector", name, shape)
