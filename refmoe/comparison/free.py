"""free - two whole runs side by side: where do they part, how far, and do the routers choose the same experts?

Nothing here is a verdict about a step: behind the first one that differs all others may. Differences of routers are
counted by expert id; one is explained by the margin if the gap at the cut in the reference is at most twice the largest
difference of the row's router logits.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refmoe.verifier.distance import between, histogram
from refmoe.verifier.verdict import number


@dataclass
class Point:
    """One result in both runs. `relative`: largest difference as a share of the largest value of its row."""

    name: str
    equal: bool
    largest: float = 0.0
    relative: float = 0.0
    ulp: dict[str, int] = field(default_factory=dict)
    problem: str = ""

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"point": self.name, "equal": self.equal, "largest_difference": number(self.largest),
                "relative": number(self.relative), "ulp_histogram": self.ulp, "problem": self.problem}  # fmt: skip


@dataclass
class Router:
    """Agreement of one router: rows with the same set of experts, and rows that differ within the margin."""

    name: str
    rows: int
    agree: int
    explained: int

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"point": self.name, "rows": self.rows, "agree": self.agree, "explained_by_margin": self.explained}


@dataclass
class Free:
    """The comparison of two runs, in the order of execution."""

    points: list[Point] = field(default_factory=list)
    routers: list[Router] = field(default_factory=list)

    @property
    def first(self) -> str | None:
        """The first result that differs."""
        return next((point.name for point in self.points if not point.equal), None)

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"first_difference": self.first, "points": [point.facts() for point in self.points],
                "routers": [router.facts() for router in self.routers]}  # fmt: skip


class Walk:
    """Takes the reference's results one by one and compares each with the other run's, which is read when needed."""

    def __init__(self, load: Callable[[str, int], np.ndarray | None]):
        self.load, self.result = load, Free()
        self._logits: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def take(self, name: str, reference: np.ndarray) -> None:
        """One result of the reference."""
        try:
            theirs = self.load(name, reference.shape[0])
        except Exception as problem:  # the array is named in the message; the others can still be compared
            self.result.points.append(Point(name, False, problem=str(problem)))
            return
        if theirs is None:
            return
        self.result.points.append(point(name, theirs, reference))
        if name.endswith("router_logits"):
            self._logits[name.removesuffix("router_logits")] = (theirs, reference)
        if name.endswith("route_ids"):
            logits = self._logits.pop(name.removesuffix("route_ids"), None)
            self.result.routers.append(router(name, theirs, reference, logits))


def point(name: str, theirs: np.ndarray, reference: np.ndarray) -> Point:
    """Compare two arrays of one shape."""
    if theirs.shape != reference.shape:
        return Point(name, False, problem=f"shape: expected {list(reference.shape)}, found {list(theirs.shape)}")
    if reference.dtype.kind == "i":
        equal = np.array_equal(theirs, reference)
        return Point(name, equal, *(() if equal else (float(abs(theirs - reference).max()), 1.0)))
    found = between(theirs, reference)
    if found.equal:
        return Point(name, True)
    relative = found.largest / np.where(found.scale > 0, found.scale, 1.0)
    return Point(name, False, float(found.largest.max()), float(relative.max()), histogram(found))


def router(name: str, theirs: np.ndarray, reference: np.ndarray,
           logits: tuple[np.ndarray, np.ndarray] | None) -> Router:  # fmt: skip
    """Compare chosen experts as sets."""
    agree = (np.sort(theirs, axis=1) == np.sort(reference, axis=1)).all(axis=1)
    explained = 0
    if logits is not None:
        mine = logits[1].astype(np.float64)
        moved = abs(logits[0] - mine).max(axis=1)
        for t in np.flatnonzero(~agree):
            left = np.setdiff1d(np.arange(mine.shape[1]), reference[t])
            gap = mine[t, reference[t]].min() - mine[t, left].max(initial=-np.inf)
            explained += bool(abs(gap) <= 2 * moved[t])
    return Router(name, len(agree), int(agree.sum()), explained)


def digests(arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, str]:
    """sha256 of every array."""
    return {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in arrays}
