"""text - a report of `compare` for people: the verdict first, then what is wrong and where, then the whole runs."""

from refmoe.comparison.report import Report
from refmoe.verifier import text as verdicts
from refmoe.verifier.verdict import EXACT, WITHIN, WRONG

SHOWN = 5
WORDS = {0: "CONFORMING", 1: "NOT CONFORMING", 3: "INCOMPLETE", 4: "INCONCLUSIVE"}


def report(found: Report, every: bool = False) -> str:
    """All of it."""
    lines = [*_steps(found, every), *_free(found), *_logits(found), *_tokens(found)]
    if found.unknown:
        some = ", ".join(found.unknown[:4])
        lines.append(f"{len(found.unknown)} recorded arrays have names that no map knows: {some}")
    return "\n".join([*lines, _last(found)]) + "\n"


def _steps(found: Report, every: bool) -> list[str]:
    if not found.entries:
        return []
    lines = [f"{'op':<30}{'steps':>7}{'exact':>7}{'within':>8}{'wrong':>7}{'not judged':>12}{'budget used':>13}"]
    for op in dict.fromkeys(entry.op for entry in found.entries):
        mine = [entry for entry in found.entries if entry.op == op]
        known = [entry.verdict for entry in mine if entry.verdict is not None]
        n = {status: sum(v.status == status for v in known) for status in (EXACT, WITHIN, WRONG)}
        loads = [output.load for v in known for output in v.outputs if output.status == WITHIN]
        used = f"{100 * max(loads):.0f} %" if loads else "-"
        lines.append(f"{op:<30}{len(mine):>7}{n[EXACT]:>7}{n[WITHIN]:>8}{n[WRONG]:>7}"
                     f"{len(mine) - len(known):>12}{used:>13}")  # fmt: skip
    wrong = found.wrong
    if wrong:
        lines.append(f"first wrong step: {wrong[0].point} ({wrong[0].op})")
    shown = wrong if every else [*wrong[:1], *_others(wrong[1:], {wrong[0].op} if wrong else set())][:SHOWN]
    for entry in shown:
        described = verdicts.case(entry.verdict) if entry.verdict else []
        lines += [f"{WRONG} {entry.point} ({entry.op})", *described[1:]]
        if entry.fused:
            lines.append(f"  not recorded, so part of this verdict: {', '.join(entry.fused)}")
    if len(wrong) > len(shown):
        lines.append(f"{len(wrong) - len(shown)} more wrong steps (--all)")
    notes = [f"note: {entry.point}: {entry.verdict.notes[0]}" for entry in found.entries
             if entry.verdict and entry.verdict.status != WRONG and entry.verdict.notes]  # fmt: skip
    lines += notes[:SHOWN]
    excused = sum(entry.verdict.excused for entry in found.entries if entry.verdict)
    if excused:
        lines.append(f"{excused} rows chose other experts, which the declared arithmetic cannot tell apart")
    blind = [entry for entry in found.entries if entry.verdict is None]
    lines += [f"not judged: {entry.point}: {entry.reason}" for entry in blind[:SHOWN]]
    if found.absent:
        some = ", ".join(found.absent[:SHOWN])
        lines.append(f"no verdict about {len(found.absent)} points, which were not recorded: {some}")
    return lines


def _others(wrong: list, seen: set) -> list:
    """The first wrong step of every further op."""
    found = []
    for entry in wrong:
        if entry.op not in seen:
            seen.add(entry.op)
            found.append(entry)
    return found


def _free(found: Report) -> list[str]:
    if found.free is None:
        return []
    points = found.free.points
    equal = sum(point.equal for point in points)
    lines = [f"whole runs: {equal} of {len(points)} results have equal bits"]
    if found.free.first is not None:
        first = next(point for point in points if not point.equal)
        word = first.problem or f"largest difference {first.largest:.3g}, {first.relative:.2g} of its row"
        lines.append(f"they part at {first.name}: {word}")
    rows = sum(router.rows for router in found.free.routers)
    if rows:
        agree, explained = (sum(getattr(r, key) for r in found.free.routers) for key in ("agree", "explained"))
        lines.append(f"routers: the same experts in {agree} of {rows} rows ({100 * agree / rows:.2f} %), "
                     f"{explained} of the others within the margin")  # fmt: skip
    return lines


def _logits(found: Report) -> list[str]:
    facts = found.logits
    if facts is None:
        return []
    lines = [f"logits of {facts['positions']} positions: KL {facts['kl_mean']:.3g} +- {facts['kl_error']:.2g}, largest "
             f"{facts['kl_largest']:.3g}; best token the same in {100 * facts['top1_agreement']:.1f} %, "
             f"{facts['top1_ties']} near ties, {facts['top1_differs']} others; five best {facts['top5_overlap']:.3f}"]
    if "perplexity" in facts:
        lines.append(f"perplexity {facts['perplexity']:.5g} and {facts['other_perplexity']:.5g}: log difference "
                     f"{facts['log_perplexity_difference']:.3g} +- {facts['log_perplexity_error']:.2g}")  # fmt: skip
    return lines


def _tokens(found: Report) -> list[str]:
    if found.tokens is None:
        return []
    lines = []
    for entry in found.tokens:
        if entry["equal"]:
            continue
        word = entry.get("problem") or (f"{entry['found_tokens']} tokens, expected {entry['expected_tokens']}; at "
                                        f"{entry['position']} {entry['found']}, expected {entry['expected']}")
        lines.append(f"{WRONG} entry {entry['entry']}: {word}")
    same = sum(entry["equal"] for entry in found.tokens)
    return [*lines, f"{same} of {len(found.tokens)} prompts have the same ids"]


def _last(found: Report) -> str:
    counts = ""
    if found.entries:
        counts = ": " + ", ".join(f"{found.count(status)} {status}" for status in (EXACT, WITHIN, WRONG))
    return f"{WORDS[found.code]} under {found.profile.name}{counts} ({found.seconds:.1f} s)"
