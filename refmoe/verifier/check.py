"""check - a folder of vectors against a folder of what a port made of them.

    report = check("v/", "mine/", profile="bf16")
    report.code             0 all conforming, 1 something wrong, 3 results missing, 4 nothing could be told
    for verdict in report.verdicts: ...

The reference is an exported folder, or "golden": the vectors of the package. A blind export has no results; those of
the package are used. Without a profile the port's own profile.toml or profile.json counts, else f32-any-order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refmoe import golden
from refmoe.checkpoint import read_header
from refmoe.errors import RefmoeError, TraceError, UsageError
from refmoe.verifier.diagnose import named
from refmoe.verifier.foreign import results
from refmoe.verifier.judge import answer
from refmoe.verifier.profiles import Profile, load
from refmoe.verifier.question import Question
from refmoe.verifier.rows import Seen
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN, WRONG, Output, Verdict

FILES = (".safetensors", ".npz", ".npy", ".bin")


@dataclass
class Report:
    """The verdicts of all cases, in the order of the reference."""

    reference: str
    port: str
    profile: Profile
    verdicts: list[Verdict] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # files of the port that belong to no case

    def count(self, status: str) -> int:
        """How many cases have this status."""
        return sum(verdict.status == status for verdict in self.verdicts)

    @property
    def inconclusive(self) -> list[str]:
        """Ops about which the bounds said nothing in any case, so that a mistake could not have been seen."""
        claims: dict[str, bool] = {}
        for verdict in self.verdicts:
            told = any(o.status in (EXACT, WRONG, MISSING) or o.unclaimed < o.size for o in verdict.outputs)
            claims[verdict.op] = claims.get(verdict.op, False) or told
        return [op for op, told in claims.items() if not told]

    @property
    def code(self) -> int:
        """The exit code."""
        if self.count(WRONG):
            return 1
        if self.count(MISSING) or not self.verdicts:
            return 3
        return 4 if self.inconclusive else 0

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; their schema is golden/schemas/check.schema.json."""
        counts = {status.lower(): self.count(status) for status in (EXACT, WITHIN, WRONG, MISSING)}
        return {"kind": "check", "reference": self.reference, "port": self.port, "profile": self.profile.facts(),
                "code": self.code, "counts": counts, "inconclusive": self.inconclusive, "unused": self.unused,
                "cases": [verdict.facts() for verdict in self.verdicts]}  # fmt: skip


def cases(reference: str | Path) -> list[golden.Case]:
    """The vectors of a reference. UsageError if there is none."""
    if str(reference) == "golden":
        return [golden.load(path) for path in golden.cases()]
    folder = Path(reference)
    if not folder.is_dir():
        raise UsageError(f"reference: expected golden or a folder of vectors, found {str(reference)[:160]!r}")
    kinds = [folder / kind for kind in ("ops", "formats") if (folder / kind).is_dir()]  # beside them: bounds, models
    paths = sorted(path for place in kinds or [folder] for path in place.rglob("*.safetensors"))
    if not paths:
        raise UsageError(f"{folder}: expected vectors (`refmoe vectors export`), found no .safetensors file")
    return [_whole(path) for path in paths]


def _whole(path: Path) -> golden.Case:
    """A vector; one without results has those of the package."""
    try:
        return golden.load(path)
    except TraceError as problem:
        ours = golden.root() / path.parent.parent.name / path.parent.name / path.name
        if not ours.is_file() or not _blind(path):
            raise problem from None
        return golden.load(ours)


def _blind(path: Path) -> bool:
    try:
        return read_header(path).metadata.get("blind") == "true"
    except RefmoeError:
        return False


def check(
    reference: str | Path, port: str | Path, profile: Any = None, progress: Callable[[str], object] | None = None
) -> Report:
    """Judge everything. UsageError for folders that are none."""
    folder = Path(port)
    if not folder.is_dir():
        raise UsageError(f"port: expected a folder of results, found {str(port)[:160]!r}")
    report = Report(str(reference), str(port), load(profile or _own(folder)))
    loaded = cases(reference)
    alone = len({case.op or case.format for case in loaded}) == 1
    used: set[Path] = set()
    seen: dict[str, Seen] = {}
    for case in loaded:
        if progress:
            progress(case.op or case.format)
        verdict, files = _judge(case, folder, report.profile, alone, seen.setdefault(place(case), {}))
        report.verdicts.append(verdict)
        used.update(files)
    _some_sizes(loaded, report.verdicts)
    report.unused = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                           if path.suffix in FILES and path not in used and path.is_file()
                           and path.relative_to(folder).parts[0] != "bounds")[:100]  # fmt: skip
    return report


def _some_sizes(loaded: list[golden.Case], verdicts: list[Verdict]) -> None:
    """R18, which no case shows alone: a router whose weights are wrong for all vectors of some sizes and for none of
    the others, where nothing else explains them."""
    sizes: dict[tuple[str, int, int], list[Verdict]] = {}
    for case, verdict in zip(loaded, verdicts, strict=True):
        if case.op.startswith("route_"):
            sizes.setdefault((case.op, case.inputs["logits"].shape[1], case.attrs["k"]), []).append(verdict)
    for (op, experts, k), mine in sizes.items():
        others = [verdict for (other, *_), found in sizes.items() if other == op and found is not mine
                  for verdict in found]  # fmt: skip
        if all(_only_weights(verdict) for verdict in mine) and others and not any(v.status == WRONG for v in others):
            for verdict in mine:
                verdict.diagnosis.append(named("R18", f"all other sizes are right, E {experts} with k {k} is not"))


def _only_weights(verdict: Verdict) -> bool:
    wrong = [output.name for output in verdict.outputs if output.status == WRONG]
    return wrong == ["weights"] and not verdict.diagnosis


def _own(folder: Path) -> str | Path:
    """The profile that lies beside the results, or the default."""
    own = (folder / name for name in ("profile.toml", "profile.json"))
    return next((path for path in own if path.is_file()), "f32-any-order")


def place(case: golden.Case) -> str:
    """The op as verdicts name it: linear, or formats/bf16."""
    return case.op or f"formats/{case.format}"


def _judge(
    case: golden.Case, folder: Path, profile: Profile, alone: bool, seen: Seen
) -> tuple[Verdict, list[Path]]:
    op = place(case)
    family = f"ops/{op}" if case.op else op
    names = (f"{family}/{case.name}", f"{case.op or case.format}/{case.name}", *([case.name] if alone else []))
    try:
        found, files = results(folder, names, case.expected)
    except TraceError as problem:
        outputs = [Output(name, WRONG, reason=str(problem)) for name in case.outputs]
        return Verdict(op, case.name, profile.name, outputs), []
    question = Question(op, {**case.inputs, **case.attrs}, found, case.expected,
                        profile.where(op, f"{op}/{case.name}"), case.name)  # fmt: skip
    return answer(question, seen=seen), files
