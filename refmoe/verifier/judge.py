"""judge - one op, its inputs, what a port made of them: EXACT, WITHIN(profile) or WRONG, and where, and why.

    verdict = judge("rms_norm", {"x": x, "w": w}, {"eps": 1e-6}, {"y": theirs}, profile="bf16")
    verdict.status; verdict.outputs[0].worst; verdict.diagnosis

Inputs and attributes are named as in the Signature of the op's clause. `expected` holds the bits of the reference; if
it is not given nothing can be EXACT. An op without bounds, and a profile that says exact, are judged by bits alone.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refmoe.errors import UsageError
from refmoe.verifier.arithmetic import Arithmetic, arithmetics
from refmoe.verifier.balls import Ball
from refmoe.verifier.distance import between, histogram
from refmoe.verifier.misses import Misses, misses, place, same
from refmoe.verifier.profiles import PROFILES, TYPES, load
from refmoe.verifier.question import Question, Real
from refmoe.verifier.rows import Seen, differences
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN, WRONG, Output, Suspect, Verdict

Arrays = Mapping[str, np.ndarray]
MANY = 512  # elements whose errors of rounding surely cancel
SHOWN = 4  # elements with their numbers
SMALL = 4 << 20  # bytes of inputs; above, equal rows are only looked for if the profile says that it matters


def judge(
    op: str, inputs: Arrays, attrs: Mapping[str, Any], found: Arrays, expected: Arrays | None = None,
    profile: Any = "f32-any-order", case: str = "", names: tuple[str, ...] = (), diagnosis: bool = True,
) -> Verdict:  # fmt: skip
    """The verdict about `found`. `names` are further names of this place that a profile's `at` may match."""
    place = load(profile).where(op, f"{op}/{case}", *names)
    question = Question(op, {**inputs, **attrs}, dict(found), dict(expected or {}), place, case)
    return answer(question, diagnosis)


def answer(question: Question, diagnosis: bool = True, seen: Seen | None = None) -> Verdict:
    """Judge a question; see `judge`. `seen` holds the rows of other cases, for verifier.rows."""
    with np.errstate(all="ignore"):  # inf and nan are values like any other here
        verdict = _answer(question, diagnosis)
    look = question.profile.batch_invariant or question.size <= SMALL
    if look and verdict.status in (EXACT, WITHIN) and (odd := differences(question, seen)):
        verdict.notes.append(f"equal inputs, other results: {odd[0]}" + f" and {len(odd) - 1} more" * (len(odd) > 1))
        if question.profile.batch_invariant:
            verdict.outputs[0].status, verdict.outputs[0].reason = WRONG, verdict.notes.pop()
            verdict.diagnosis = of_order(question)
    return verdict


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
            _borrow(question, verdict, loose)
    elif open_ones:
        result = _best(question, usable)
        for name in open_ones:
            _fill(outputs[name], result[name], question)
            if result[name].wrong.any():
                outputs[name].signatures = signatures_of(question, name, result[name])
            elif (factor := _factor(question, name, result[name])) is not None:
                verdict.notes.append(f"{name}: within its bounds, but on average the reference x {factor:.4f}")
        if diagnosis and any(result[name].wrong.any() for name in open_ones):
            verdict.diagnosis = explain(question, {name: result[name] for name in usable})
    return verdict


def _factor(question: Question, name: str, miss: Misses) -> float | None:
    """The factor between a result in a narrow type and the reference, if it is none that rounding to nearest makes:
    errors of single elements may have any sign, so that over MANY of them they cancel. No verdict, since a port whose
    elements are all alike errs alike."""
    profile = question.profile
    if profile.output == "f32" or profile.output_rounding != "nearest" or miss.ball.v.size < MANY:
        return None
    use = np.isfinite(miss.ball.v) & np.isfinite(miss.ball.e) & (miss.ball.v != 0)
    v, found = miss.ball.v[use], question.found[name].astype(np.float64)[use]
    apart = found / v - 1
    kept = abs(apart) < 8 * TYPES[profile.output].unit  # where terms cancel, errors are as large as the value
    if kept.sum() < MANY:
        return None
    mean, spread = apart[kept].mean(), apart[kept].std() / np.sqrt(kept.sum())
    return 1 + mean if abs(mean) > max(TYPES[profile.output].unit / 4, 8 * spread) else None


def of_order(question: Question) -> list[Suspect]:
    """What another order of the sums may be: results that depend on the batch, or on ranks."""
    from refmoe.verifier.diagnose import named

    ids = {"combine": ("N04",), "expert_linear": ("N05", "N03"), "expert_linear_bias": ("N05", "N03")}
    return [named(id, "or just another order") for id in ids.get(question.op, ("N03",))]


def _borrow(question: Question, verdict: Verdict, loose: Verdict) -> None:
    """What f32 in any order says about outputs whose bits differ."""
    verdict.diagnosis = loose.diagnosis or of_order(question)
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
        output.histogram = histogram(between(found, expected))
    _worst(output, expected, found, np.where(miss.wrong, miss.load + 1, miss.load), miss.ball)


def _worst(output: Output, expected: np.ndarray, found: np.ndarray, load: np.ndarray, ball: Ball | None) -> None:
    """The worst element, and the worst wrong ones of some other rows: `load` is above 1 where something is wrong."""
    if not found.size:
        return
    rows = load.reshape(len(load), -1)
    columns = rows.argmax(axis=1)
    top = rows[np.arange(len(rows)), columns]
    order = np.argsort(-top, kind="stable")[:SHOWN]
    at = [(int(t), *(int(i) for i in np.unravel_index(columns[t], load.shape[1:]))) for t in order]
    output.worst = place(at[0], expected, found, ball)
    output.others = [place(one, expected, found, ball) for one, t in zip(at[1:], order[1:], strict=True) if top[t] > 1]


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
            output.histogram = histogram(between(found, expected))
        miss = Misses(wrong, wrong.astype(float), Ball(expected))
        output.status, output.wrong = WRONG, int(wrong.sum())
        _worst(output, expected, found, miss.load + wrong, None)
        output.signatures = signatures_of(question, name, miss)
