"""The proof of the verifier: does it find every catalogued bug, and does it leave correct ports alone?

    mutation_score.py                 the score table as Markdown
    mutation_score.py --seeds 100     correct ports of 100 seeds for each arithmetic
    mutation_score.py --rows          one line for each row of the catalogue
    mutation_score.py --bug R09       only this row, and what the verifier says

Mutant ports are the MUTANTS of tests/oracles: slow implementations of each op and format with one bug, written for the
tests of the ops, independent of the verifier and of its mutations; tests/verifier/mutants.py has some more. A row is
killed if some vector of the op is WRONG, and named if its id is among what the verifier suspects. Each is tried as a
binary32 port (profile f32-any-order), as a bfloat16 port (operands and results rounded; profile bf16), and bit by bit
(profile exact). Correct ports are those of tests/ports.py. Exit code 1 if a row that vectors show survives, or a
correct port is called wrong.
"""

import argparse
import importlib
import json
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from refmoe import formats, golden, ops, verifier  # noqa: E402
from refmoe.verifier import catalogue  # noqa: E402
from tests import ports  # noqa: E402
from tests.verifier.mutants import MORE  # noqa: E402

WIDE = (*golden.TABLES, "scale", "minimum")
PROFILES = ("f32-any-order", "bf16", "exact")
CLASSES = {"R": "router", "E": "experts, shared expert", "A": "attention, positions", "Q": "quantised weights",
           "N": "arithmetic, order, batch", "W": "loading", "T": "tokens, templates", "V": "verifiers themselves",
           "OK": "no bugs: must not be reported"}  # fmt: skip


@dataclass
class Row:
    """What happened to the mutants of one catalogued bug: {profile: count of (mutant, op) pairs}."""

    tried: int = 0
    killed: Counter = field(default_factory=Counter)
    named: Counter = field(default_factory=Counter)
    first: Counter = field(default_factory=Counter)
    places: set = field(default_factory=set)  # ops with a mutant


def cases_of(place):
    """The vectors of an op or of formats/<name>."""
    kind = {"format": place.partition("/")[2]} if "/" in place else {"op": place}
    return [golden.load(path) for path in golden.cases(**kind)]


def places():
    """All ops and formats."""
    return [*ops.names(), *(f"formats/{name}" for name in formats.names())]


def mutants_of(place):
    """{id: functions} of an op or format; an id in lower case is a bug outside the catalogue."""
    found = dict(MORE.get(place, {}))
    try:
        oracle = importlib.import_module(f"tests.oracles.{place.rpartition('/')[2]}")
        found |= getattr(oracle, "MUTANTS", {})
    except ModuleNotFoundError:
        pass
    return {key: value if isinstance(value, tuple) else (value,) for key, value in found.items()}


def run(place, mutant, case, profile):
    """The outputs of a mutant port, or None if the bug cannot be made with these shapes."""
    narrow = profile == "bf16"
    try:
        if "/" in place:
            found = {"decoded": mutant(*case.tensors["decoded"].shape, case.attrs, **case.inputs)}
        else:
            found = mutant(**_held(place, case, narrow), **case.attrs)
    except Exception:
        return None
    found = {name: np.asarray(array) for name, array in found.items()}
    return {name: _stored(array, narrow) for name, array in found.items()}


def _held(place, case, narrow):
    """Inputs as a bfloat16 port holds them: routers, tables and scales of codes keep binary32."""
    if not narrow or place.startswith("route") or place == "argmax":
        return case.inputs
    return {name: ports.bf16(array) if array.dtype == np.float32 and name not in WIDE else array
            for name, array in case.inputs.items()}  # fmt: skip


def _stored(array, narrow):
    if array.dtype.kind != "f":
        return array
    array = array.astype(np.float32)
    return ports.bf16(array) if narrow else array


def judged(place, mutant, case, profile):
    """The verdict about a mutant port on one vector, or None."""
    found = run(place, mutant, case, profile)
    if found is None:
        return None
    return verifier.judge(place, case.inputs, case.attrs, found, case.expected, profile, case.name)


def score(only=None, profiles=PROFILES):
    """{id: Row} over all ops and formats."""
    rows: dict[str, Row] = {}
    for place in places():
        loaded = cases_of(place)
        for key, mutants in mutants_of(place).items():
            if only and key != only:
                continue
            row = rows.setdefault(key if key[0].isupper() else f"{place}: {key}", Row())
            for mutant in mutants:
                row.tried += 1
                row.places.add(place)
                for profile in profiles:
                    _try(row, place, mutant, key, loaded, profile)
    return rows


def _try(row, place, mutant, key, loaded, profile):
    verdicts = [verdict for case in loaded if (verdict := judged(place, mutant, case, profile))]
    wrong = [verdict for verdict in verdicts if verdict.status == verifier.WRONG]
    names = [[suspect.id for suspect in verdict.diagnosis] for verdict in wrong]
    row.killed[profile] += bool(wrong)
    row.named[profile] += any(key in found for found in names)
    row.first[profile] += any(found[:1] == [key] for found in names)


def alarms(seeds):
    """(judgements, what was called wrong) over correct ports of every arithmetic."""
    count, wrong = 0, []
    loaded = [case for place in places() for case in cases_of(place)]
    for seed in seeds:
        for kind in ports.KINDS:
            for case in loaded:
                place = case.op or f"formats/{case.format}"
                found = ports.Port(kind, seed).run(case)
                if found is None:
                    continue
                count += 1
                verdict = verifier.judge(place, case.inputs, case.attrs, found, case.expected, kind, case.name,
                                         diagnosis=False)  # fmt: skip
                if verdict.status != verifier.EXACT and verdict.status != verifier.WITHIN:
                    wrong.append(f"{kind} seed {seed}: {place}/{case.name}")
    return count, wrong


def table(rows, counted, wrong):
    """The score for README."""
    lines = ["| class | rows | killed | named | not by vectors |", "|---|---|---|---|---|"]
    total = Counter()
    for letter, words in CLASSES.items():
        mine = [bug for bug in catalogue.bugs().values() if bug.id.rstrip("0123456789") == letter]
        killed = sum(_killed(rows.get(bug.id)) for bug in mine)
        named = sum(bool(rows.get(bug.id) and any(rows[bug.id].named.values())) for bug in mine)
        rest = [bug.id for bug in mine if not _killed(rows.get(bug.id))]
        lines.append(f"| {letter} {words} | {len(mine)} | {killed} | {named} | {' '.join(rest)} |")
        total.update(rows=len(mine), killed=killed, named=named)
    lines.append(f"| all | {total['rows']} | {total['killed']} | {total['named']} | |")
    other = {key: row for key, row in rows.items() if ": " in key}
    killed, bits = sum(map(_killed, other.values())), sum(_only_bits(row) for row in other.values())
    lines += ["", f"Mutants outside the catalogue: {len(other)}, killed {killed}, of these {bits} only bit by bit "
              "(rounding and order).", f"Correct ports: {counted} judgements, {len(wrong)} called wrong."]  # fmt: skip
    return "\n".join(lines)


def _only_bits(row):
    return _killed(row) and not (row.killed["f32-any-order"] or row.killed["bf16"])


def _killed(row):
    return bool(row and any(row.killed.values()))


def listing(rows):
    """One line for each row of the catalogue."""
    for bug in catalogue.bugs().values():
        row = rows.get(bug.id)
        if row:
            facts = " ".join(f"{p}: {row.killed[p]}/{row.tried} killed {row.named[p]} named {row.first[p]} first,"
                             for p in PROFILES)  # fmt: skip
            yield f"{bug.id:<4} {facts} {' '.join(sorted(row.places))}"
        else:
            yield f"{bug.id:<4} {bug.shown_by}: {bug.reason or 'no mutant'}"


def survivors(rows):
    """Rows that vectors should show and do not."""
    return [bug.id for bug in catalogue.bugs().values() if bug.shown_by == "vectors" and not _killed(rows.get(bug.id))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="correct ports of each arithmetic")
    parser.add_argument("--rows", action="store_true", help="one line for each row")
    parser.add_argument("--bug", help="one row only, with the verdicts")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    if args.bug:
        return show(args.bug)
    rows = score()
    counted, wrong = alarms(range(args.seeds))
    if args.json:
        print(json.dumps({key: {"tried": row.tried, "killed": row.killed, "named": row.named,
                                "places": sorted(row.places)} for key, row in rows.items()}, indent=1))  # fmt: skip
    else:
        print(table(rows, counted, wrong))
    if args.rows:
        print("\n".join(listing(rows)))
    bad = survivors(rows)
    for line in [*(f"survives: {id}" for id in bad), *(f"alarm: {line}" for line in wrong)]:
        print(line, file=sys.stderr)
    return int(bool(bad or wrong))


def show(key):
    """What the verifier says about the mutants of one row."""
    from refmoe.verifier import text

    for place in places():
        for mutant in mutants_of(place).get(key, ()):
            for case in cases_of(place):
                verdict = judged(place, mutant, case, "f32-any-order")
                if verdict and verdict.status == verifier.WRONG:
                    print("\n".join(text.case(verdict)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
