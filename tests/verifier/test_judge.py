"""judge: the reference lies within its own bounds, equal bits are EXACT, one wrong element is WRONG and is found."""

import numpy as np
import pytest

from refmoe import golden, ops, verifier
from refmoe.verifier import bounds
from refmoe.verifier.judge import _best
from refmoe.verifier.question import Question

CASES = [golden.load(path) for path in golden.cases()]
BOUNDED = [case for case in CASES if case.op in bounds.names()]
NARROW = [name for name in verifier.PROFILES if name != "exact"]


def name(case):
    return f"{case.op or case.format}/{case.name}"


def place(case):
    return case.op or f"formats/{case.format}"


def judged(case, found, profile="f32-any-order"):
    return verifier.judge(place(case), case.inputs, case.attrs, found, case.expected, profile, case.name)


def test_every_op_has_bounds():
    assert set(bounds.names()) >= set(ops.names()), set(ops.names()) - set(bounds.names())


@pytest.mark.parametrize("case", BOUNDED, ids=name)
def test_the_clause_lies_within_the_bounds(case):
    """Without the bits of the reference at hand: nothing is inside because it was declared to be."""
    question = Question(place(case), {**case.inputs, **case.attrs}, case.expected, {},
                        verifier.profile("f32-any-order"), case.name)  # fmt: skip
    for output, miss in _best(question, set(case.outputs)).items():
        assert not miss.wrong.any(), (output, np.argwhere(miss.wrong)[:3])


@pytest.mark.parametrize("case", CASES, ids=name)
def test_equal_bits_are_exact(case):
    for profile in ("exact", "bf16"):
        assert judged(case, {key: array.copy() for key, array in case.expected.items()}, profile).status == "EXACT"


# overflow on the way, subnormals that may be flushed, cancellation of sums that are larger by eight digits
NO_CLAIM = {("rms_norm", "one_large"), ("rms_norm", "subnormal_row"), ("add", "special_values"),
            ("combine", "cancellation")}  # fmt: skip


def sizes(case):
    """Of the finite elements of the only output."""
    expected = case.expected[case.outputs[0]]
    return np.where(abs(expected) < 1e37, abs(expected), 0)


@pytest.mark.parametrize("case", [case for case in CASES if case.outputs in (("y",), ("decoded",)) and sizes(case).any()
                                  and (case.op, case.name) not in NO_CLAIM], ids=name)  # fmt: skip
def test_one_wrong_element_is_found(case):
    """The largest finite element, changed by an eighth of itself."""
    (output,) = case.outputs
    expected = case.expected[output]
    at = np.unravel_index(int(np.argmax(sizes(case))), expected.shape)
    found = {output: expected.copy()}
    found[output][at] *= np.float32(1.125)
    verdict = judged(case, found)
    assert verdict.status == "WRONG" and verdict.outputs[0].wrong == 1
    assert verdict.outputs[0].worst.index == tuple(int(i) for i in at)


def test_a_missing_output_and_a_wrong_shape():
    case = next(case for case in CASES if case.op == "linear")
    assert judged(case, {}).status == "MISSING"
    verdict = judged(case, {"y": case.expected["y"].T})
    assert verdict.status == "WRONG" and verdict.outputs[0].reason.startswith("shape: expected")
