"""judge - one op, its inputs, what a port made of them: EXACT, WITHIN(profile) or WRONG, and where, and why.

    verdict = judge("rms_norm", {"x": x, "w": w}, {"eps": 1e-6}, {"y": theirs}, profile="bf16")
    verdict.status; verdict.outputs[0].worst; verdict.diagnosis

Inputs and attributes are named as in the Signature of the op's clause. `expected` holds the bits of the reference; if
it is not given nothing can be EXACT. An op without bounds, and a profile that says exact, are judged by bits alone.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refmoe.errors import UsageError
from refmoe.verifier.balls import Arithmetic, Ball, arithmetics, nearest
from refmoe.verifier.bounds import get as bounds_of
from refmoe.verifier.bounds.formats import decoded
from refmoe.verifier.profiles import PROFILES, Profile, load
from refmoe.verifier.routing import Choice, Routing, compare_ids
from refmoe.verifier.verdict import BINS, EXACT, MISSING, WITHIN, WRONG, Output, Place, Verdict

Arrays = Mapping[str, np.ndarray]
Real = dict[str, Any] | Routing  # what a function of bounds returns


@dataclass
class Question:
    """One case to be judged: everything that bounds, signatures and mutations need."""

    op: str
    inputs: dict[str, Any]  # arrays and attributes
    found: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    profile: Profile
    case: str = ""

    def evaluate(self, arithmetic: Arithmetic) -> Real:
        """The op in binary64 with its bounds."""
        function = bounds_of(self.op)
        if function is not None:
            return function(arithmetic, **self.inputs)
        if self.op.startswith("formats/"):
            return {name: decoded(arithmetic, array.astype(np.float64)) for name, array in self.expected.items()}
        raise UsageError(f"{self.op}: expected an op with bounds, found one without")

    @property
    def stored(self) -> bool:
        """Are all results numbers of the declared output type?"""
        kind = self.profile.output
        floats = [array for array in self.found.values() if array.dtype.kind == "f"]
        return all(np.array_equal(nearest(array, kind), array, equal_nan=True) for array in floats)

    @property
    def bounded(self) -> bool:
        """Is there anything to evaluate?"""
        return bounds_of(self.op) is not None or (self.op.startswith("formats/") and bool(self.expected))


def judge(
    op: str, inputs: Arrays, attrs: Mapping[str, Any], found: Arrays, expected: Arrays | None = None,
    profile: Any = "f32-any-order", case: str = "", names: tuple[str, ...] = (), diagnosis: bool = True,
) -> Verdict:  # fmt: skip
    """The verdict about `found`. `names` are further names of this place that a profile's `at` may match."""
    place = load(profile).where(op, f"{op}/{case}", *names)
    question = Question(op, {**inputs, **attrs}, dict(found), dict(expected or {}), place, case)
    return answer(question, diagnosis)


def answer(question: Question, diagnosis: bool = True) -> Verdict:
    """Judge a question; see `judge`."""
    with np.errstate(all="ignore"):  # inf and nan are values like any other here
        return _answer(question, diagnosis)


def _answer(question: Question, diagnosis: bool) -> Verdict:
    from refmoe.verifier.diagnose import explain
    from refmoe.verifier.signatures import of as signatures_of

    wanted = question.expected or question.found
    outputs = {name: _form(name, question) for name in wanted}
    usable = {name for name, output in outputs.items() if not output.status}
    for name in usable:
        if name in question.expected and same(question.found[name], question.expected[name]):
            outputs[name].status = EXACT
    verdict = Verdict(question.op, question.case, question.profile.name, list(outputs.values()))
    open_ones = {name for name in usable if not outputs[name].status}
    if open_ones and (question.profile.exact or not question.bounded):
        _by_bits(question, outputs, open_ones)
        if question.bounded:  # is it rounding, or more than that?
            loose = answer(dataclasses.replace(question, profile=PROFILES["f32-any-order"]), diagnosis)
            _borrow(verdict, loose)
    elif open_ones:
        result = _best(question, usable)
        for name in open_ones:
            _fill(outputs[name], result[name], question)
            if result[name].wrong.any():
                outputs[name].signatures = signatures_of(question, name, result[name])
        if diagnosis and any(result[name].wrong.any() for name in open_ones):
            verdict.diagnosis = explain(question, {name: result[name] for name in usable})
    return verdict


def _borrow(verdict: Verdict, loose: Verdict) -> None:
    """What f32 in any order says about outputs whose bits differ."""
    verdict.diagnosis = loose.diagnosis
    for output, other in zip(verdict.outputs, loose.outputs, strict=True):
        if output.status == WRONG and other.status == WITHIN:
            output.reason = f"bits differ; within {loose.profile}: rounding or another order of the sums, not more"
        elif other.signatures:
            output.signatures = other.signatures


def _form(name: str, question: Question) -> Output:
    """An output whose status is still open, or settled by what has no numbers: missing, another shape, no number."""
    found, expected = question.found.get(name), question.expected.get(name)
    if found is None:
        return Output(name, MISSING, reason="not among the results")
    output = Output(name, "", found.size)
    if expected is None:
        return output
    if found.shape != expected.shape:
        output.status, output.wrong = WRONG, found.size
        output.reason = f"shape: expected {list(expected.shape)}, found {list(found.shape)}"
    elif (expected.dtype.kind in "iu") != (found.dtype.kind in "iu"):
        output.status, output.wrong = WRONG, found.size
        output.reason = f"type: expected {expected.dtype}, found {found.dtype}"
    return output


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal values to the bit; any nan equals any nan. Wider or narrower types count if every value is equal."""
    if found.shape != expected.shape:
        return False
    if expected.dtype.kind in "iu":
        return bool(np.array_equal(found, expected))
    left, right = found.astype(np.float64), expected.astype(np.float64)
    equal = (left == right) & (np.signbit(left) == np.signbit(right)) | (np.isnan(left) & np.isnan(right))
    return bool(equal.all())


@dataclass
class Misses:
    """What is outside the bounds: bool and error / budget, both of the shape of the output, and the ball."""

    wrong: np.ndarray
    load: np.ndarray
    ball: Ball
    choice: Choice | None = None


def misses_of(found: np.ndarray, ball: Ball, expected: np.ndarray | None) -> Misses:
    """Compare an array with a ball. The clause's own value is always inside."""
    found = found.astype(np.float64)
    v, e = ball.v, np.broadcast_to(ball.e, ball.v.shape)
    with np.errstate(all="ignore"):
        if expected is not None:
            expected = expected.astype(np.float64)
            e = np.where(np.isfinite(expected) & ~np.isfinite(v), np.inf, e)  # an operand overflows in its type
        else:
            expected = v
        error = abs(found - v)
        right = error <= e
        right |= found == expected
        right |= np.isnan(found) & np.isnan(expected)
        right &= np.isnan(found) == np.isnan(expected)
        right |= np.isposinf(e)
        load = np.where(right & ~np.isfinite(error), 0.0, np.where(e > 0, error / np.where(e > 0, e, 1), np.inf))
        load = np.where(right & ((error == 0) | (found == expected)), 0.0, np.nan_to_num(load, nan=np.inf))
    return Misses(~right, np.where(np.isposinf(e), 0.0, load), Ball(v, e))


def misses(question: Question, real: Real, names: set[str]) -> dict[str, Misses]:
    """Compare all outputs with one evaluation."""
    if isinstance(real, Routing):
        return _routed(question, real, names)
    result = {}
    for name in names:
        value = real[name]
        if isinstance(value, Ball):
            result[name] = misses_of(question.found[name], value, question.expected.get(name))
        else:
            wrong = np.asarray(question.found[name] != value)
            result[name] = Misses(wrong, np.where(wrong, np.inf, 0.0), Ball(value))
    return result


def _routed(question: Question, routing: Routing, names: set[str]) -> dict[str, Misses]:
    found, expected = question.found, question.expected
    right = expected["ids"] if "ids" in expected else routing.ids()
    ids = found["ids"].astype(np.int64) if "ids" in names else right
    choice = compare_ids(routing, ids, right)
    rows = np.zeros(len(ids), bool)
    rows[[t for t, _ in choice.bad]] = True
    result = {}
    if "ids" in names:
        wrong = rows[:, None] & ~np.array([np.isin(ids[t], right[t]) for t in range(len(ids))]).reshape(ids.shape)
        wrong |= (rows & ~wrong.any(axis=1))[:, None]
        result["ids"] = Misses(wrong, np.where(wrong, np.inf, 0.0), Ball(right), choice)
    if "weights" in names:
        clipped = np.where(rows[:, None], right, ids)
        ball = routing.weigh(clipped)
        known = None
        if "weights" in expected and (np.sort(clipped, axis=1) == np.sort(right, axis=1)).all():
            order, back = np.argsort(right, axis=1, kind="stable"), np.argsort(np.argsort(clipped, axis=1), axis=1)
            known = np.take_along_axis(np.take_along_axis(expected["weights"], order, 1), back, 1)
        judged = misses_of(found["weights"], ball, known)
        judged.wrong[rows] = False  # weights of the wrong experts say nothing
        judged.load[rows] = 0.0
        result["weights"] = judged
    return result


def evaluations(question: Question) -> Iterator[tuple[Arithmetic, Real]]:
    """The op in every arithmetic that the profile allows."""
    with np.errstate(all="ignore"):
        for arithmetic in arithmetics(question.profile, question.stored):
            yield arithmetic, question.evaluate(arithmetic)


def _best(question: Question, names: set[str]) -> dict[str, Misses]:
    """The first evaluation with nothing wrong, or that with the least wrong."""
    best: tuple[int, dict[str, Misses]] | None = None
    for _, real in evaluations(question):
        with np.errstate(all="ignore"):
            result = misses(question, real, names)
        count = sum(int(miss.wrong.sum()) for miss in result.values())
        if best is None or count < best[0]:
            best = count, result
        if not count:
            break
    if best is None:
        raise UsageError(f"{question.op}: no evaluation")
    return best[1]


def _fill(output: Output, miss: Misses, question: Question) -> None:
    output.wrong = int(miss.wrong.sum())
    output.status = WRONG if output.wrong else WITHIN
    output.unclaimed = int(np.isposinf(miss.ball.e).sum())
    output.load = float(miss.load.max(initial=0.0))
    expected = question.expected.get(output.name, miss.ball.v)
    found = question.found[output.name]
    if miss.choice:
        output.excused, output.reordered = miss.choice.excused, miss.choice.reordered
        output.reason = "; ".join(f"row {t}: {reason}" for t, reason in miss.choice.bad[:2])
    if expected.dtype.kind == "f":
        output.histogram = histogram(found, expected.astype(np.float32))
    if found.size:
        at = np.unravel_index(int(np.argmax(np.where(miss.wrong, miss.load + 1, miss.load))), found.shape)
        output.worst = place(tuple(int(i) for i in at), expected, found, miss.ball)


def place(at: tuple[int, ...], expected: np.ndarray, found: np.ndarray, ball: Ball | None) -> Place:
    """The facts of one element."""
    e, f = float(expected[at]), float(found[at])
    ulp = None
    if expected.dtype.kind == "f" and np.isfinite(e) and np.isfinite(f):
        ulp = int(abs(_order(np.float32(e)) - _order(np.float32(f))))
    return Place(at, e, f, ulp, abs(f - e), float(ball.e[at]) if ball is not None else 0.0)


def _order(values):
    """Integers in the order of binary32 values; neighbours differ by one."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def histogram(found: np.ndarray, expected: np.ndarray) -> dict[str, int]:
    """How many elements lie how many units in the last place of binary32 apart."""
    narrow = found.astype(np.float32)
    finite = np.isfinite(narrow) & np.isfinite(expected)
    apart = abs(_order(narrow) - _order(expected))[finite]
    edges = np.searchsorted([0, 1, 3, 15, 255, 65535], apart, side="left")
    counts = np.bincount(edges, minlength=len(BINS) - 1)
    odd = int((~finite & ~((narrow == expected) | (np.isnan(narrow) & np.isnan(expected)))).sum())
    counts[0] += found.size - int(finite.sum()) - odd
    return {name: int(n) for name, n in zip(BINS, [*counts, odd], strict=True) if n}


def _by_bits(question: Question, outputs: dict[str, Output], names: set[str]) -> None:
    """Nothing but equal bits counts."""
    from refmoe.verifier.signatures import of as signatures_of

    for name in names:
        expected, found, output = question.expected.get(name), question.found[name], outputs[name]
        if expected is None:
            output.status, output.reason = MISSING, "no expected bits to compare with"
            continue
        wrong = ~((found == expected) & (np.signbit(found) == np.signbit(expected)) if expected.dtype.kind == "f"
                  else found == expected)  # fmt: skip
        if expected.dtype.kind == "f":
            wrong &= ~(np.isnan(found) & np.isnan(expected))
            output.histogram = histogram(found, expected)
        miss = Misses(wrong, wrong.astype(float), Ball(expected))
        output.status, output.wrong = WRONG, int(wrong.sum())
        at = np.unravel_index(int(np.argmax(wrong)), found.shape)
        output.worst = place(tuple(int(i) for i in at), expected, found, None)
        output.signatures = signatures_of(question, name, miss)
