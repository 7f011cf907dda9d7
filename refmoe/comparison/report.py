"""report - what a comparison found, as data: verdicts of steps, whole runs, logits, tokens; and the exit code."""

from dataclasses import dataclass, field
from typing import Any

from refmoe.comparison.free import Free
from refmoe.comparison.replay import Entry
from refmoe.verifier.profiles import Profile
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN, WRONG

MODES = ("auto", "replay", "free", "logits", "tokens")


@dataclass
class Report:
    """`entries` are the replayed steps; `absent` are points without verdict, `unknown` names that no map knew."""

    left: str
    right: str
    profile: Profile
    mode: str
    entries: list[Entry] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    free: Free | None = None
    logits: dict[str, Any] | None = None
    tokens: list[dict[str, Any]] | None = None
    seconds: float = 0.0

    def count(self, status: str) -> int:
        """How many steps have this verdict."""
        return sum(entry.verdict is not None and entry.verdict.status == status for entry in self.entries)

    @property
    def wrong(self) -> list[Entry]:
        """The steps that are wrong, in order of execution."""
        return [entry for entry in self.entries if entry.verdict is not None and entry.verdict.status == WRONG]

    @property
    def code(self) -> int:
        """The exit code: 1 wrong, 3 not everything judged, 4 nothing could be told, 0 conforming."""
        if self.tokens is not None:
            return int(not all(entry["equal"] for entry in self.tokens))
        if self.wrong:
            return 1
        if self.entries:
            judged = any(entry.verdict is not None for entry in self.entries)
            whole = judged and not self.absent and all(entry.verdict is not None for entry in self.entries)
            return 0 if whole and not self.count(MISSING) else 3
        if self.free is not None and self.mode != "logits":
            return 1 if self.free.first is not None else 3 if self.absent else 0
        if self.logits is not None:
            return 0 if self.logits["kl_largest"] == 0.0 and self.logits["top1_differs"] == 0 else 4
        return 4

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        counts = {status.lower(): self.count(status) for status in (EXACT, WITHIN, WRONG, MISSING)}
        return {"kind": "compare", "left": self.left, "right": self.right, "mode": self.mode, "code": self.code,
                "profile": self.profile.facts(), "counts": counts, "steps": [_facts(entry) for entry in self.entries],
                "not_judged": self.absent, "unknown_names": self.unknown,
                "free": self.free.facts() if self.free else None, "logits": self.logits, "tokens": self.tokens,
                "seconds": round(self.seconds, 3)}  # fmt: skip


def _facts(entry: Entry) -> dict[str, Any]:
    verdict = entry.verdict.facts() if entry.verdict else None
    return {"point": entry.point, "op": entry.op, "verdict": verdict, "reason": entry.reason,
            "steps": list(entry.steps), "fused": list(entry.fused), "rows": entry.rows,
            "judged_rows": entry.judged}  # fmt: skip
