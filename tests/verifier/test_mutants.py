"""The score in small: every catalogued bug is killed by the vectors that hunt it, and named; the full table is made by
scripts/mutation_score.py. Mutants come from the oracles of the ops and formats, which know nothing of the verifier."""

import subprocess
import sys

import numpy as np
import pytest

from refmoe import golden, verifier
from refmoe.verifier import catalogue, mutations
from scripts import mutation_score
from tests import tiny

ONLY_BITS = {"N03", "N04", "N05"}  # order of sums: rounding, unless a port claims equal bits
PAIRS = [(place, key) for place in mutation_score.places() for key in mutation_score.mutants_of(place)
         if key in catalogue.bugs()]  # fmt: skip


def hunted(place, key):
    """The vectors that list the bug, at most three; else all of the op."""
    cases = mutation_score.cases_of(place)
    return [case for case in cases if key in case.bugs][:3] or cases


@pytest.mark.parametrize(("place", "key"), PAIRS, ids=[f"{place}-{key}" for place, key in PAIRS])
def test_killed_and_named(place, key):
    for mutant in mutation_score.mutants_of(place)[key]:
        profile = "exact" if key in ONLY_BITS else "f32-any-order"
        with np.errstate(all="ignore"):
            single = len(mutation_score.mutants_of(place)[key]) == 1
            cases = hunted(place, key) if single else mutation_score.cases_of(place)
            verdicts = [mutation_score.judged(place, mutant, case, profile) for case in cases]
        wrong = [verdict for verdict in verdicts if verdict and verdict.status == verifier.WRONG]
        assert wrong, f"{place}: {key} survives"
        if (place, key) not in UNNAMED:
            assert any(key in [suspect.id for suspect in verdict.diagnosis] for verdict in wrong), [
                suspect.id for verdict in wrong for suspect in verdict.diagnosis]  # fmt: skip


# killed, but explained by nothing or by its twin: the reason
UNNAMED = {
    ("absorb_query", "E06"): "blocks that are not square have no transposed reading",
    ("route_sigmoid_groups", "R17"): "one of two forms is named",
    ("route_sigmoid_groups_renorm", "R17"): "one of two forms is named",
}


def test_every_row_that_vectors_show_has_a_mutant():
    with_mutant = {key for _, key in PAIRS}
    shown = {bug.id for bug in catalogue.bugs().values() if bug.shown_by == "vectors"}
    assert shown - with_mutant == set(), "no mutant port"
    assert all(bug.reason for bug in catalogue.bugs().values() if bug.shown_by != "vectors")


def test_the_catalogue_names_the_ops():
    """The ops of a row are such as have a mutant; every id that a vector lists is in the catalogue."""
    for bug in catalogue.bugs().values():
        if bug.shown_by == "vectors":
            assert bug.ops and set(bug.ops) <= {place for place, key in PAIRS if key == bug.id}, bug.id
    listed = {bug for path in golden.cases() for bug in golden.load(path).bugs}
    assert listed <= set(catalogue.bugs())
    assert len(catalogue.bugs()) == 102


def test_every_mutation_is_of_the_catalogue_or_has_a_title():
    for place in mutation_score.places():
        for id in mutations.ids(place):
            assert (id in catalogue.bugs()) == id[0].isupper(), id


def test_nothing_looks_like_a_bug_when_it_is_none():
    """A mutation never explains the right result: judged against a wrong formula, the right one is WRONG there too."""
    case = golden.load(golden.root() / "ops" / "rms_norm" / "eps_dominates.safetensors")
    verdict = verifier.judge("rms_norm", case.inputs, case.attrs | {"eps": 1e-4}, case.expected)
    assert verdict.status == verifier.WRONG
    assert [suspect.id for suspect in verdict.diagnosis] == ["A14"]


def test_the_script_scores_one_row():
    done = subprocess.run([sys.executable, str(tiny.ROOT / "scripts" / "mutation_score.py"), "--bug", "R09"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "R09" in done.stdout
