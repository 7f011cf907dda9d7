"""diagnose - which known mistake computes what the port computed?

Every mutation of the failing op is evaluated on the same inputs, in the arithmetic that the port declares; one whose
result the port's output cannot be told from is a suspect. A mutation that explains only the wrong elements, while the
others are right, is one too (a wrong tile, a fallback above some number of rows), but ranks lower.
"""

import numpy as np

from refmoe.errors import RefmoeError
from refmoe.verifier.arithmetic import PLACES, Arithmetic
from refmoe.verifier.catalogue import bugs
from refmoe.verifier.misses import Misses
from refmoe.verifier.misses import misses as compare
from refmoe.verifier.mutations import of, symptoms
from refmoe.verifier.question import Question
from refmoe.verifier.rows import few_rows
from refmoe.verifier.verdict import Suspect

MOST = 4  # suspects that are shown


def explain(question: Question, misses: dict[str, Misses]) -> list[Suspect]:
    """The mutations that explain what was found, best first."""
    question, misses = few_rows(question, misses)
    suspects: dict[str, Suspect] = {}
    with np.errstate(all="ignore"):
        for suspect in symptoms(question, misses):
            suspects.setdefault(suspect.id, suspect)
        for arithmetic in _ways(question):
            for mutant in of(question, arithmetic):
                known = suspects.get(mutant.id)
                if known is not None and known.whole:
                    continue
                tried = _try(question, misses, mutant)
                if tried and (known is None or tried.whole > known.whole):
                    suspects[mutant.id] = tried
            if any(suspect.whole for suspect in suspects.values()):
                break
        if not suspects:
            suspects = {suspect.id: suspect for suspect in symptoms(question, misses, last=True)}
    return _ranked(list(suspects.values()))


def named(id: str, detail: str) -> Suspect:
    """A suspect of the catalogue."""
    return Suspect(id, bugs()[id].title, detail)


def _ways(question: Question) -> list[Arithmetic]:
    """All operands held in the input type, and none: those that hold some of them are not tried."""
    first = Arithmetic(question.profile, stored=question.stored)
    if question.profile.input == "f32" == question.profile.intermediate:
        return [first]
    places = [place for place in PLACES if place != first.scaled] if "attention" in question.op else []
    return [first, Arithmetic(question.profile, ("angle",), question.stored),
            *(Arithmetic(question.profile, stored=question.stored, scaled=place) for place in places)]  # fmt: skip


def _try(question: Question, misses: dict[str, Misses], mutant) -> Suspect | None:
    """A suspect if every wrong element is as the mutant has it."""
    changed = Question(question.op, question.inputs, question.found, {}, question.profile, question.case)
    try:
        real = mutant.make()
        mine = compare(changed, real, set(misses))
    except (ValueError, IndexError, KeyError, ZeroDivisionError, RefmoeError):
        return None  # this mutation has no meaning for these shapes
    wrong = sum(int(miss.wrong.sum()) for miss in misses.values())
    explained = sum(_explained(miss, mine[name]) for name, miss in misses.items())
    vacuous = sum(int((miss.wrong & _silent(mine[name], question.found[name])).sum()) for name, miss in misses.items())
    if not wrong or explained < wrong or vacuous == wrong:
        return None
    whole = not any(mine[name].wrong.any() for name in misses)
    if mutant.whole and not whole:
        return None
    load = max(float(miss.load.max(initial=0.0)) for miss in mine.values()) if whole else 0.0
    return Suspect(mutant.id, mutant.title, mutant.detail, 1.0, load, whole)


def _silent(mine: Misses, found: np.ndarray) -> np.ndarray:
    """Where a mutant makes no claim; nan where it has nan is one."""
    return np.isposinf(mine.ball.e) & ~(np.isnan(mine.ball.v) & np.isnan(found))


def _explained(theirs: Misses, mine: Misses) -> int:
    """How many of the wrong elements are right for a mutant."""
    right = theirs.wrong & ~mine.wrong
    if mine.skipped is not None:
        right[mine.skipped] = False
    return int(right.sum())


def _ranked(suspects: list[Suspect]) -> list[Suspect]:
    """Whole explanations first, catalogued bugs before others, the closest first."""
    if any(suspect.whole for suspect in suspects):
        suspects = [suspect for suspect in suspects if suspect.whole]
    return sorted(suspects, key=lambda s: (not s.whole, s.id.islower(), s.load > 1, s.load))[:MOST]
