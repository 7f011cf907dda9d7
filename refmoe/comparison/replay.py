"""replay - every step of a recorded run judged on its own recorded inputs, so that one wrong step blames no other.

The reference of a step is our op applied to what the other program put into its own; the verdict is that of
refmoe.verifier. Where an input was not recorded but follows from recorded ones through steps in between (a fused
kernel), these are replayed too, with the bounds of all of them: the verdict then is about the whole stretch. Experts
that the other program chose are judged at its router, and taken as given behind it.

Every row is compared with our bits. Bounds are evaluated for as many rows and columns of a point as WORK allows (all
of a small model): those that differ most from ours, and others evenly spread.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from refmoe import signature
from refmoe.comparison.names import width
from refmoe.comparison.ties import untied
from refmoe.comparison.values import Chosen, NotRecorded, Place, Values
from refmoe.errors import TraceError
from refmoe.kernels.apart import Apart
from refmoe.verifier.balls import Ball
from refmoe.verifier.distance import between
from refmoe.verifier.judge import answer
from refmoe.verifier.profiles import Profile
from refmoe.verifier.question import Question
from refmoe.verifier.verdict import EXACT, WITHIN, WRONG, Output, Verdict

CUT = ("linear", "linear_bias", "logits", "expert_linear", "expert_linear_bias")  # bounds of some columns will do
LEAST_ROWS = 4
WORK, LEAST, MOST = 1 << 32, 1 << 22, 1 << 28  # multiplications: of all bounds together, of one at least and at most


@dataclass
class Entry:
    """The verdict of one point, or why there is none. `steps` are all points that it is about, `fused` those of them
    that were not recorded."""

    point: str
    op: str
    verdict: Verdict | None
    reason: str = ""
    steps: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()
    rows: int = 0
    judged: int = 0
    seconds: float = 0.0


class Replay(Values):
    """The verdicts about a recorded run; `covered` are the points that they are about."""

    covered: set[str]
    work: int  # multiplications of one evaluation of a bound

    def run(self) -> Iterator[Entry]:
        """All recorded results, in the order in which they were computed."""
        self.covered = set()
        self.work = min(MOST, max(LEAST, WORK // max(self.points(), 1)))
        for one in self.passes():
            for part in range(len(self.parts)):
                self.memory.clear()
                for step in self.parts[part][1]:
                    yield from self._step(Place(one, part, step))

    def points(self) -> int:
        """How many results there are to judge."""
        return sum(len(step.out) for _, steps in self.parts for step in steps) * len(self.passes())

    def _step(self, place: "Place") -> Iterator[Entry]:
        names = [self.name(place, out) for out in place.step.out]
        if not any(name in self.named for name in names):
            return
        begin = time.perf_counter()
        try:
            entry = self._judge(place, names)
        except NotRecorded as missing:
            entry = Entry(names[0], place.step.op, None, f"input {missing} was not recorded")
        except TraceError as problem:
            entry = Entry(names[0], place.step.op, None, str(problem))
        entry.seconds = time.perf_counter() - begin
        if entry.verdict is not None:
            self.covered.update(entry.steps)
        yield entry

    def _judge(self, place: "Place", names: list[str]) -> Entry:
        step, rows = place.step, place.one[2]
        ours = dict(zip(names, self.call(place).values(), strict=True))
        found = {name: array for name in names if (array := self.recorded(name, rows)) is not None}
        stretch = self.stretch(place)
        entry = Entry(names[0], step.op, None, steps=(*stretch, *found), fused=stretch, rows=rows)
        profile = self.profile.where(step.op, *(name.removeprefix(place.one[0]) for name in names), step.out[0])
        labels = [param.name for param in signature.load(step.op)[0].results]
        shown = {label: (found[name], ours[name]) for label, name in zip(labels, names, strict=True) if name in found}
        apart = {label: _apart(*pair) for label, pair in shown.items()}
        if all(one.equal for one in apart.values()):
            outputs = [Output(label, EXACT, theirs.size) for label, (theirs, _) in shown.items()]
            entry.verdict, entry.judged = Verdict(step.op, names[0], profile.name, outputs), rows
            return entry
        error = np.max([one.rows.reshape(rows, -1).max(axis=1, initial=0.0) for one in apart.values()], axis=0)
        chosen = self._choose(place, error, next(iter(apart.values())).cols)
        entry.verdict, entry.judged = self._answer(place, chosen, shown, profile, names[0]), len(chosen.rows)
        if chosen.cols is not None and entry.verdict.status == WRONG:  # mutations need all columns: of few rows
            few = replace(chosen, rows=np.sort(np.argsort(-error, kind="stable")[:LEAST_ROWS]), cols=None)
            again = self._answer(place, few, shown, profile, names[0])
            entry.verdict = again if again.status == WRONG else entry.verdict
        return entry

    def _answer(self, place: "Place", chosen: "Chosen", shown: dict, profile: Profile, name: str) -> Verdict:
        """The verdict about some rows and columns."""
        inputs = self.question(place, chosen)
        results = {label: _cut(theirs, chosen) for label, (theirs, _) in shown.items()}
        expected = {label: _cut(ours, chosen) for label, (_, ours) in shown.items()}
        tied = self._untie(place, inputs, results, expected)
        known = not any(isinstance(value, Ball) for value in inputs.values())
        verdict = answer(Question(place.step.op, inputs, results, expected, profile, name), diagnosis=known)
        self._narrow(verdict, name)
        if tied:
            for output in verdict.outputs:
                output.status = WITHIN if output.status == EXACT else output.status
            verdict.outputs[0].excused += tied
            verdict.notes.append(f"{len(tied)} rows chose another of experts with equal logits (R15)")
        self._whole(verdict, chosen)
        return verdict

    def _narrow(self, verdict: Verdict, name: str) -> None:
        """Numbers in a narrower type are R12 at a router; elsewhere they are what the profile does not declare."""
        for suspect in verdict.diagnosis:
            if suspect.id == "R12" and not name.endswith("router_logits"):
                suspect.id, suspect.title = "narrow", "numbers in a narrower type than declared"

    def _untie(self, place: "Place", inputs: dict, results: dict, expected: dict) -> list[int]:
        """Rows whose other choice is a tie that the declared type of the logits made; their ids become ours."""
        if not place.step.op.startswith("route_") or "ids" not in results:
            return []
        source, out = self.source(place, place.step.inputs[0])
        if self.profile.where(source.step.op, self.name(source, out)).output == "f32":
            return []
        logits = inputs["logits"] if isinstance(inputs["logits"], np.ndarray) else inputs["logits"].v
        bias = np.broadcast_to(inputs.get("bias", 0.0), logits.shape)
        results["ids"], tied = untied(results["ids"], expected["ids"], np.stack([logits, bias], axis=-1))
        return tied

    def _whole(self, verdict: Verdict, chosen: "Chosen") -> None:
        """Indices of the verdict count in the whole array."""
        for output in verdict.outputs:
            for one in [*([output.worst] if output.worst else []), *output.others]:
                index = list(one.index)
                index[0] = int(chosen.rows[index[0]])
                if chosen.cols is not None and len(index) > 1:
                    index[-1] = int(chosen.cols[index[-1]])
                one.index = tuple(index)
            if output.status == EXACT and len(chosen.rows) < chosen.total:
                output.status = WITHIN
            output.excused = [int(chosen.rows[t]) for t in output.excused]

    def _choose(self, place: "Place", error: np.ndarray, columns: np.ndarray) -> "Chosen":
        """Rows and columns for which bounds are evaluated; `error` and `columns`: how far they lie apart."""
        one, cols = self._work(place), None
        if place.step.op in CUT and one > self.work // 16:
            inner = one // max(len(columns), 1)
            cols = _spread(columns, max(self.work // 16 // max(inner, 1), 64))
            one = inner * len(cols)
        return Chosen(_spread(error, max(self.work // max(one, 1), LEAST_ROWS)), cols, place.one[2])

    def _work(self, place: "Place") -> int:
        """Multiplications for one row of a step; what is done to each number of a result counts as 128 of them."""
        total = 128 * width(self.name(place, place.step.out[0]), self.program)
        for role in place.step.weights:
            tensor = self.program.tensors[role]
            size = int(np.prod(self.program.sizes(tensor.shape)))
            total += size * (int(self.program.dims["K"]) if "{e}" in tensor.name or tensor.kind == "stack" else 1)
        if "cache" in place.step.inputs:
            total += (place.one[1] + place.one[2]) * 2 * width(self.name(place, place.step.out[0]), self.program)
        return total


def _apart(theirs: np.ndarray, ours: np.ndarray) -> Apart:
    """How far two results lie apart; ids that differ are infinitely far."""
    if ours.dtype.kind == "f":
        return between(theirs, ours)
    differ = np.where(theirs != ours, np.inf, 0.0)
    rows, none = differ.max(axis=1, initial=0.0), np.zeros(0)
    return Apart(not rows.any(), none, none, none, rows, differ.max(axis=0, initial=0.0))


def _spread(error: np.ndarray, most: int) -> np.ndarray:
    """Up to `most` indices: half of them where the error is largest, the others evenly spaced."""
    if len(error) <= most:
        return np.arange(len(error))
    worst = np.argsort(-error, kind="stable")[: most // 2]
    even = np.linspace(0, len(error) - 1, most - len(worst)).astype(np.int64)
    return np.unique(np.concatenate([worst, even]))


def _cut(array: np.ndarray, chosen: Chosen) -> np.ndarray:
    cut = array[chosen.rows]
    return cut if chosen.cols is None else cut[..., chosen.cols]
