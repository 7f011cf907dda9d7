"""catalogue - the known bugs of ports, as data: golden/catalogue.json, which travels to strangers too.

Each entry has an id (R router, E experts, A attention and positions, Q quantised weights, N arithmetic, W loading, T
tokens, V verifiers, OK what is no bug), what is wrong, what a user sees, what a fixture must contain to show it, the
ops where it shows, and, where no vector can show it, the reason.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from refmoe import golden
from refmoe.checkpoint import read_json
from refmoe.errors import TraceError, UsageError


@dataclass(frozen=True)
class Bug:
    """One row."""

    id: str
    title: str
    effect: str
    needs: str
    ops: tuple[str, ...]
    shown_by: str  # vectors; compare (whole runs); checkpoint (loading); tokens; tests (of this verifier); none
    reason: str  # why vectors cannot show it, or under which condition
    sources: tuple[str, ...]  # where it was reported: repository#thread

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"id": self.id, "title": self.title, "effect": self.effect, "needs": self.needs, "ops": list(self.ops),
                "shown_by": self.shown_by, "reason": self.reason, "sources": list(self.sources)}  # fmt: skip


@cache
def bugs() -> dict[str, Bug]:
    """All rows by id. TraceError for a file that is not as above."""
    path = golden.root() / "catalogue.json"
    content = read_json(path, "bug catalogue", TraceError)
    try:
        rows = [Bug(**{**row, "ops": tuple(row["ops"]), "sources": tuple(row["sources"])}) for row in content["bugs"]]
    except (KeyError, TypeError) as problem:
        raise TraceError(f"{path}: expected bugs with the fields of a row, found {problem}") from None
    return {row.id: row for row in rows}


def get(name: str) -> Bug:
    """One row. UsageError for an id that is none."""
    found = bugs().get(name.upper())
    if found is None:
        raise UsageError(f"bug: expected an id like R01, found {name[:40]!r}; `refmoe vectors list` shows them")
    return found
