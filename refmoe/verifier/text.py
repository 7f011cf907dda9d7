"""text - a report of `check` for people: a table by op, then what is wrong, where, and what it looks like."""

from refmoe.verifier.check import Report
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN, WRONG, Output, Verdict

SHOWN = 3  # wrong cases that are described, for each op
MOST_ULP = 1 << 20  # larger distances say nothing that the values do not


def report(found: Report, every: bool = False) -> str:
    """All of it."""
    lines = [f"{'op':<28}{'cases':>7}{'exact':>7}{'within':>8}{'wrong':>7}{'missing':>9}{'budget used':>13}"]
    ops = list(dict.fromkeys(verdict.op for verdict in found.verdicts))
    for op in ops:
        mine = [verdict for verdict in found.verdicts if verdict.op == op]
        lines.append(f"{op:<28}{len(mine):>7}" + _counts(mine) + f"{_used(mine):>13}")
    lines += [line for op in ops for line in _details(found, op, every)]
    lines += _excused(found)
    lines += [f"{verdict.op}/{verdict.case}: {note}" for verdict in found.verdicts if verdict.status != WRONG
              for note in verdict.notes][:8]  # fmt: skip
    if found.inconclusive:
        lines.append(f"nothing could be told about {', '.join(found.inconclusive)}: the profile bounds no result")
    lines.append(_last(found))
    return "\n".join(lines) + "\n"


def _counts(verdicts: list[Verdict]) -> str:
    n = {status: sum(v.status == status for v in verdicts) for status in (EXACT, WITHIN, WRONG, MISSING)}
    return f"{n[EXACT]:>7}{n[WITHIN]:>8}{n[WRONG]:>7}{n[MISSING]:>9}"


def _used(verdicts: list[Verdict]) -> str:
    """The largest share of a budget that a conforming case used."""
    loads = [output.load for v in verdicts for output in v.outputs if output.status == WITHIN]
    return f"{100 * max(loads):.0f} %" if loads else "-"


def _details(found: Report, op: str, every: bool) -> list[str]:
    wrong = [verdict for verdict in found.verdicts if verdict.op == op and verdict.status == WRONG]
    shown = wrong if every else sorted(wrong, key=lambda verdict: not verdict.diagnosis)[:SHOWN]
    lines = [line for verdict in shown for line in case(verdict)]
    if len(wrong) > len(shown):
        lines.append(f"{op}: {len(wrong) - len(shown)} more wrong cases (--all)")
    missing = [verdict.case for verdict in found.verdicts if verdict.op == op and verdict.status == MISSING]
    if missing:
        some = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        lines.append(f"{op}: no result for {some}")
    return lines


def case(verdict: Verdict) -> list[str]:
    """A wrong case in a few lines."""
    lines = [f"{verdict.status} {verdict.op}/{verdict.case}"]
    for output in verdict.outputs:
        if output.status == WRONG:
            lines += [f"  {line}" for line in _output(output)]
    lines += [f"  note: {note}" for note in verdict.notes]
    lines += [f"  looks like {suspect.text()}" + ("" if suspect.whole else " [in the wrong elements]")
              for suspect in verdict.diagnosis]  # fmt: skip
    return lines


def _output(output: Output) -> list[str]:
    lines = []
    if output.reason:
        lines.append(f"{output.name}: {output.reason}")
    if output.worst is not None:
        worst = output.worst
        index = ", ".join(str(i) for i in worst.index)
        ulp = "" if worst.ulp is None or worst.ulp > MOST_ULP else f", {worst.ulp} ulp"
        budget = "" if not worst.budget else f", allowed {worst.budget:.2g}"
        lines.append(f"{output.name}: {output.wrong} of {output.size} wrong; worst at [{index}]: expected "
                     f"{worst.expected:.9g}, found {worst.found:.9g}{ulp}{budget}")  # fmt: skip
    if output.others:
        lines.append(f"{output.name}: also " + "; ".join(
            f"[{', '.join(str(i) for i in one.index)}] {one.expected:.6g}, found {one.found:.6g}"
            for one in output.others))  # fmt: skip
    if output.signatures:
        lines.append(f"{output.name}: " + "; ".join(output.signatures))
    if output.histogram:
        lines.append(f"{output.name}: ulp " + ", ".join(f"{name}: {n}" for name, n in output.histogram.items()))
    return lines


def _excused(found: Report) -> list[str]:
    rows = sum(verdict.excused for verdict in found.verdicts)
    if not rows:
        return []
    names = [f"{v.op}/{v.case}" for v in found.verdicts if v.excused]
    return [f"{rows} rows chose other experts, which the declared arithmetic cannot tell apart: {', '.join(names[:4])}"]


def _last(found: Report) -> str:
    word = {0: "CONFORMING", 1: "NOT CONFORMING", 3: "INCOMPLETE", 4: "INCONCLUSIVE"}[found.code]
    counts = ", ".join(f"{found.count(status)} {status}" for status in (EXACT, WITHIN, WRONG, MISSING))
    return f"{word} under {found.profile.name}: {counts}"
