"""verdict - what was found out about one case: plain data, with JSON values by `facts()`."""

from dataclasses import dataclass, field
from typing import Any

EXACT, WITHIN, WRONG, MISSING = "EXACT", "WITHIN", "WRONG", "MISSING"
BINS = ("0", "1", "2-3", "4-15", "16-255", "256-65535", "more", "not finite")  # ulp of binary32


@dataclass
class Place:
    """One element: where, what was expected and found, how far apart, how much was allowed."""

    index: tuple[int, ...]
    expected: float
    found: float
    ulp: int | None
    error: float
    budget: float

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; inf and nan become strings."""
        return {"index": list(self.index), "expected": number(self.expected), "found": number(self.found),
                "ulp": self.ulp, "error": number(self.error), "budget": number(self.budget)}  # fmt: skip


@dataclass
class Output:
    """The verdict of one result of an op."""

    name: str
    status: str
    size: int = 0
    wrong: int = 0
    reason: str = ""  # why, in words, where it is not just numbers: shape, type, ids
    worst: Place | None = None
    others: list[Place] = field(default_factory=list)  # further wrong elements, of other rows where there are
    load: float = 0.0  # largest error as a share of its budget, over all elements with a claim
    unclaimed: int = 0  # elements about which the bound says nothing
    histogram: dict[str, int] = field(default_factory=dict)
    signatures: list[str] = field(default_factory=list)
    excused: list[int] = field(default_factory=list)  # rows whose ids differ within what can be told apart
    reordered: int = 0  # rows with the same ids in another order

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "status": self.status, "size": self.size, "wrong": self.wrong,
                "reason": self.reason, "worst": self.worst.facts() if self.worst else None,
                "others": [place.facts() for place in self.others], "load": number(self.load),
                "unclaimed": self.unclaimed, "ulp_histogram": self.histogram, "signatures": self.signatures,
                "excused_rows": self.excused, "reordered_rows": self.reordered}  # fmt: skip


@dataclass
class Suspect:
    """One explanation: a catalogued bug (or a mutation outside the catalogue, whose id is in lower case)."""

    id: str
    title: str
    detail: str = ""
    share: float = 1.0  # of the wrong elements that it explains
    load: float = 0.0  # its largest error as a share of the budget
    whole: bool = True  # it explains the right elements too

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"id": self.id, "title": self.title, "detail": self.detail, "share": round(self.share, 4),
                "load": number(self.load), "whole": self.whole}  # fmt: skip

    def text(self) -> str:
        """looks like R09: ..."""
        return f"{self.id}: {self.title}" + (f" ({self.detail})" if self.detail else "")


@dataclass
class Verdict:
    """The verdict of one case: the worst of its outputs."""

    op: str
    case: str
    profile: str
    outputs: list[Output]
    notes: list[str] = field(default_factory=list)
    diagnosis: list[Suspect] = field(default_factory=list)

    @property
    def status(self) -> str:
        """WRONG if any output is, then MISSING, then WITHIN, else EXACT."""
        found = {output.status for output in self.outputs}
        return next(status for status in (WRONG, MISSING, WITHIN, EXACT) if status in found)

    @property
    def excused(self) -> int:
        """Rows whose ids were excused."""
        return sum(len(output.excused) for output in self.outputs)

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"op": self.op, "case": self.case, "profile": self.profile, "status": self.status,
                "outputs": [output.facts() for output in self.outputs], "notes": self.notes,
                "diagnosis": [suspect.facts() for suspect in self.diagnosis]}  # fmt: skip


def number(value: float) -> float | str:
    """A float as JSON can hold it."""
    value = float(value)
    if value != value:
        return "nan"
    return value if abs(value) != float("inf") else "inf" if value > 0 else "-inf"
