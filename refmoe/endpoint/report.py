"""report - what was found out about a server, as data, and as text."""

from dataclasses import dataclass, field
from typing import Any

NEAR, FAR, MANY = 1.5, 5.0, 0.25  # of the ratio, and share of odd positions; see refmoe.endpoint
WORDS = {0: "CONFORMING", 1: "NOT CONFORMING", 3: "INCOMPLETE", 4: "INCONCLUSIVE"}


@dataclass
class Report:
    """`counts` are the prompts whose tokens were counted, `missing` what could not be asked, with the reason."""

    url: str
    served: str
    checkpoint: str
    profile: str
    counts: list[dict[str, Any]] = field(default_factory=list)
    prompts: str = "ids"  # or "text": what log-probabilities were asked with
    positions: int = 0
    values: int = 0  # log-probabilities that were compared
    ratio: float = 0.0  # of the differences over what rounding makes, the median of all positions
    odd: list[int] = field(default_factory=list)  # positions further apart than rounding and close choices explain
    apart: float = 0.0  # root mean square of the differences
    noise: float = 0.0  # the same of the reference's own rounded runs
    worst: dict[str, Any] | None = None
    agree: int = 0
    excused: int = 0
    differ: list[dict[str, Any]] = field(default_factory=list)  # best tokens that no rounding explains
    missing: list[str] = field(default_factory=list)
    requests: int = 0

    @property
    def code(self) -> int:
        """The exit code."""
        if any(not one["equal"] for one in self.counts) or len(self.odd) > MANY * self.positions:
            return 1
        if not self.values or self.missing:
            return 3
        return 4 if self.ratio > NEAR or self.odd or self.differ else 0

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": "endpoint", "code": self.code, "verdict": WORDS[self.code].lower(), "near": NEAR,
                "far": FAR} | self.__dict__  # fmt: skip

    def text(self) -> str:
        """For people."""
        lines = [f"{'server':<16} {self.url}, serving {self.served}", f"{'checkpoint':<16} {self.checkpoint}"]
        good = sum(one["equal"] for one in self.counts)
        lines.append(f"{'token counts':<16} {good} of {len(self.counts)} prompts have the right number of tokens")
        lines += [f"  {one['what']}: {one['found']} tokens, expected {one['expected']}" for one in self.counts
                  if not one["equal"]]  # fmt: skip
        if self.values:
            asked = " of texts" if self.prompts == "text" else ""
            lines.append(f"{'log-probs':<16} {self.values} at {self.positions} positions{asked}, {self.apart:.3g} "
                         f"apart; {self.profile} makes {self.noise:.3g} (root mean squares), ratio {self.ratio:.2f}")
            lines.append(f"{'best tokens':<16} {self.agree} the same, {self.excused} near ties, "
                         f"{len(self.differ)} others")  # fmt: skip
            if self.odd:
                lines.append(f"{'odd positions':<16} {len(self.odd)} are further apart than rounding and close choices "
                             f"explain: {', '.join(map(str, self.odd[:8]))}")  # fmt: skip
            if self.worst and (self.ratio > NEAR or self.odd):
                lines.append(f"  worst at position {self.worst['position']}, token {self.worst['token']}: expected "
                             f"{self.worst['expected']:.4f}, found {self.worst['found']:.4f}")  # fmt: skip
        lines += [f"  position {one['position']}: best token {one['found']}, expected {one['expected']}, better by "
                  f"{one['gap']:.3g}" for one in self.differ[:3]]  # fmt: skip
        lines += [f"{'not judged':<16} {line}" for line in self.missing]
        return "\n".join([*lines, f"{WORDS[self.code]} under {self.profile} ({self.requests} requests)"]) + "\n"
