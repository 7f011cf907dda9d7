"""page - a report as one static page, made from its facts: no script, nothing from elsewhere, light and dark."""

import re
from collections.abc import Iterable
from typing import Any

from refmoe import __version__
from refmoe.comparison import heat
from refmoe.comparison.html import number, page, pairs, section, table, text, write
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN, WRONG

__all__ = ["of_check", "of_compare", "write"]
WORDS = {0: "CONFORMING", 1: "NOT CONFORMING", 3: "INCOMPLETE", 4: "INCONCLUSIVE"}
MOST = 60  # of a kind that are listed
Facts = dict[str, Any]


def of_compare(facts: Facts) -> str:
    """The page of `refmoe compare`, from Report.facts()."""
    judged = [step["verdict"] for step in facts["steps"] if step["verdict"]]
    wrong = [step for step in facts["steps"] if step["verdict"] and step["verdict"]["status"] == WRONG]
    return page(
        f"{WORDS[facts['code']]}: {facts['left']}",
        _head(facts, "recorded run", facts["left"], "reference", facts["right"]),
        _first(wrong),
        section("Heat map: error as a share of its budget", heat.steps(facts)),
        section("Operations", _ops(facts["steps"])),
        section("All wrong steps", _wrong(wrong)) if len(wrong) > 1 else "",
        section("Routers", _routers(facts, judged)),
        section("Whole runs side by side", heat.free(facts["free"])),
        section("Logits", _logits(facts["logits"])),
        section("Token ids", _tokens(facts["tokens"])),
        section("What was not judged", _blind(facts)),
        _foot(facts),
    )


def of_check(facts: Facts) -> str:
    """The page of `refmoe check`, from its report's facts()."""
    steps = [{"point": f"{v['op']}/{v['case']}", "op": v["op"], "verdict": v, "reason": "", "fused": []}
             for v in facts["cases"]]  # fmt: skip
    wrong = [step for step in steps if step["verdict"]["status"] == WRONG]
    return page(
        f"{WORDS[facts['code']]}: {facts['port']}",
        _head(facts, "port", facts["port"], "vectors", facts["reference"]),
        _first(wrong, "First wrong case"),
        section("Cases: error as a share of its budget", heat.cases(facts["cases"])),
        section("Operations", _ops(steps, "cases")),
        section("All wrong cases", _wrong(wrong)) if len(wrong) > 1 else "",
        section("What was not judged", _unused(facts)),
        _foot(facts),
    )


def _head(facts: Facts, one: str, left: str, two: str, right: str) -> str:
    counts = ", ".join(f'{facts["counts"].get(status.lower(), 0)} <span class="{status}">{status}</span>'
                       for status in (EXACT, WITHIN, WRONG, MISSING))  # fmt: skip
    rows = [(one, f"<code>{text(left)}</code>"), (two, f"<code>{text(right)}</code>"),
            ("arithmetic", f"<b>{text(facts['profile']['name'])}</b>: {_arithmetic(facts['profile'])}"),
            ("verdicts", counts)]  # fmt: skip
    code = facts["code"]
    return f'<header class="code{code}"><h1>{WORDS[code]}</h1><p>{_sentence(facts)}</p>{pairs(rows)}</header>'


def _sentence(facts: Facts) -> str:
    if facts["kind"] == "check" or facts["steps"]:
        return {
            0: "Every result that was judged has equal bits or lies within what the declared arithmetic may do.",
            1: "Something cannot be explained by the declared arithmetic.",
            3: "Nothing is wrong in what was recorded, but not everything was recorded or could be judged.",
            4: "The bounds of the declared arithmetic are too wide to tell.",
        }[facts["code"]]
    return {0: "Both are equal.", 1: "They differ.", 3: "Equal where both were recorded.",
            4: "They differ; without the steps nothing can be told about why."}[facts["code"]]  # fmt: skip


def _arithmetic(profile: Facts) -> str:
    if profile["exact"]:
        return "equal bits only"
    names = ("input", "accumulate", "intermediate", "output")
    words = ", ".join(f"{name} {text(profile[name])}" for name in names)
    return words + (f"; other rules for {text(', '.join(profile['at']))}" if profile["at"] else "")


def _first(wrong: list[Facts], title: str = "First wrong step") -> str:
    if not wrong:
        return ""
    step = wrong[0]
    name = f"<p><code>{text(step['point'])}</code> computed by <code>{text(step['op'])}</code></p>"
    fused = [text(point) for point in step["fused"]]
    note = f'<p class="soft">Not recorded, so part of this verdict: {", ".join(fused)}</p>' if fused else ""
    return section(title, name, _suspects(step["verdict"]), _elements([step]), _signs(step["verdict"]), note,
                   kind="first")  # fmt: skip


def _suspects(verdict: Facts) -> str:
    lines = []
    for suspect in verdict["diagnosis"]:
        detail = f" ({text(suspect['detail'])})" if suspect["detail"] else ""
        share = "" if suspect["whole"] else " <span class='soft'>explains only the wrong elements</span>"
        lines.append(f'<p>looks like <span class="suspect">{text(suspect["id"])}: {text(suspect["title"])}</span>'
                     f"{detail}{share}</p>")  # fmt: skip
    return "".join(lines)


def _signs(verdict: Facts) -> str:
    lines = [f"<p>{text(output['name'])}: {text(sign)}</p>" for output in verdict["outputs"]
             for sign in output["signatures"]]  # fmt: skip
    for output in verdict["outputs"]:
        if output["ulp_histogram"] and output["status"] == WRONG:
            rows = [[text(key), str(count)] for key, count in output["ulp_histogram"].items()]
            lines.append(table([f"ulp ({text(output['name'])})", "elements"], rows, range(1, 2)))
    return "".join(lines) + "".join(f'<p class="soft">{text(note)}</p>' for note in verdict["notes"])


def _elements(steps: Iterable[Facts]) -> str:
    """The worst elements of every wrong output."""
    rows = []
    for step in steps:
        for output in step["verdict"]["outputs"]:
            worst = output["worst"]
            if output["status"] == WRONG and worst is None:
                rows.append([text(step["point"]), text(output["name"]), str(output["wrong"]), "", "", "", "", "",
                             text(output["reason"])])  # fmt: skip
            elif output["status"] == WRONG:
                first = [text(step["point"]), text(output["name"]), f"{output['wrong']} of {output['size']}"]
                for n, one in enumerate([worst, *output["others"]]):
                    rows.append([
                        *(("", "", "") if n else first), str(one["index"]), number(one["expected"], 9),
                        number(one["found"], 9), number(one["error"], 3), number(one["budget"], 3),
                        "" if n else text(output["reason"]),
                    ])  # fmt: skip
    head = ["at", "result", "wrong", "worst at", "expected", "found", "apart", "allowed", ""]
    return table(head, rows, range(2, 8)) if rows else ""


def _ops(steps: list[Facts], what: str = "steps") -> str:
    rows = []
    for op in dict.fromkeys(step["op"] for step in steps):
        mine = [step["verdict"] for step in steps if step["op"] == op]
        known = [verdict for verdict in mine if verdict]
        counts = [sum(v["status"] == status for v in known) for status in (EXACT, WITHIN, WRONG)]
        loads = [heat.load(v) for v in known if v["status"] == WITHIN]
        names = {s["id"]: s["title"] for v in known for s in v["diagnosis"]}
        cells = [f'<span class="{WRONG}">{counts[2]}</span>' if counts[2] else "0", str(len(mine) - sum(counts)),
                 f"{100 * max(loads):.0f} %" if loads else "-",
                 text("; ".join(f"{key}: {title}" for key, title in list(names.items())[:2]))]  # fmt: skip
        rows.append([f"<code>{text(op)}</code>", str(len(mine)), str(counts[0]), str(counts[1]), *cells])
    head = ["op", what, "exact", "within", "wrong", "not judged", "largest error / budget", "looks like"]
    return table(head, rows, range(1, 7)) if rows else ""


def _wrong(wrong: list[Facts]) -> str:
    shown = wrong[:MOST]
    more = f'<p class="soft">and {len(wrong) - MOST} more</p>' if len(wrong) > MOST else ""
    named = [[f"<code>{text(step['point'])}</code>", _suspects(step["verdict"])] for step in shown
             if step["verdict"]["diagnosis"]]  # fmt: skip
    return _elements(shown) + more + (table(["at", "diagnosis"], named) if named else "")


def _routers(facts: Facts, judged: list[Facts]) -> str:
    rows = []
    for router in (facts["free"] or {}).get("routers", [])[: 4 * MOST]:
        total, agree, explained = router["rows"], router["agree"], router["explained_by_margin"]
        parts = ((agree, "--exact"), (explained, "--h2"), (total - agree - explained, "--wrong"))
        inside = "".join(f'<i style="width:{100 * n / max(total, 1):.2f}%;background:var({tone})"></i>'
                         for n, tone in parts)  # fmt: skip
        rows.append([f"<code>{text(router['point'])}</code>", f'<span class="bar">{inside}</span>',
                     *map(str, (total, agree, explained, total - agree - explained))])  # fmt: skip
    head = ["router, whole runs", "", "rows", "same experts", "explained by the margin", "others"]
    excused = sum(len(output["excused_rows"]) for verdict in judged for output in verdict["outputs"])
    note = (f"<p>{excused} rows chose other experts than the reference on their own logits, which the declared "
            "arithmetic cannot tell apart: excused.</p>" if excused else "")  # fmt: skip
    return note + (table(head, rows, range(2, 6)) if rows else "")


def _logits(logits: Facts | None) -> str:
    if not logits:
        return ""
    rows = [
        ("positions", str(logits["positions"])),
        ("KL divergence", f"{logits['kl_mean']:.3g} ± {logits['kl_error']:.2g}, largest {logits['kl_largest']:.3g}"),
        ("best token", f"the same in {100 * logits['top1_agreement']:.1f} %, {logits['top1_ties']} near ties, "
                       f"{logits['top1_differs']} others"),
        ("five best in both", f"{logits['top5_overlap']:.3f}"),
    ]  # fmt: skip
    if "perplexity" in logits:
        rows.append(("perplexity", f"{logits['perplexity']:.5g}, other {logits['other_perplexity']:.5g}"))
        rows.append(("difference of their logs", f"{logits['log_perplexity_difference']:.3g} ± "
                                                 f"{logits['log_perplexity_error']:.2g}"))  # fmt: skip
    return pairs(rows)


def _tokens(tokens: list[Facts] | None) -> str:
    rows = [[str(one["entry"]), str(one.get("expected_tokens", "")), str(one.get("found_tokens", "")),
             text(one.get("problem") or f"at {one['position']}: {one['found']}, expected {one['expected']}")]
            for one in tokens or () if not one["equal"]]  # fmt: skip
    same = f"<p>{len(tokens) - len(rows)} of {len(tokens)} prompts have the same ids.</p>" if tokens else ""
    return same + (table(["entry", "expected tokens", "found", "first difference"], rows[:MOST]) if rows else "")


def _blind(facts: Facts) -> str:
    lines = [[f"<code>{text(step['point'])}</code>", text(step["reason"])] for step in facts["steps"]
             if step["verdict"] is None]  # fmt: skip
    content = table(["recorded, but", "why"], lines[:MOST]) if lines else ""
    groups: dict[str, int] = {}
    for name in facts["not_judged"]:
        word = re.sub(r"^(steps\.\d+\.)?(layers\.\d+\.)?", "", name)
        groups[word] = groups.get(word, 0) + 1
    if groups:
        words = "".join(f"<div><code>{text(word)}</code> × {count}</div>" for word, count in groups.items())
        content += (f"<details><summary>{len(facts['not_judged'])} points of the program were not recorded and have no "
                    f'verdict</summary><div class="cols">{words}</div></details>')  # fmt: skip
    return content + _names(facts["unknown_names"], "recorded arrays have names that no map knows")


def _unused(facts: Facts) -> str:
    missing = [f"{v['op']}/{v['case']}" for v in facts["cases"] if v["status"] == MISSING]
    ops = facts["inconclusive"]
    return (_names(missing, "cases have no result") + _names(ops, "ops about which the profile tells nothing")
            + _names(facts["unused"], "files of the port belong to no case"))  # fmt: skip


def _names(names: list[str], words: str) -> str:
    if not names:
        return ""
    inside = "".join(f"<div><code>{text(name)}</code></div>" for name in names[: 10 * MOST])
    return f'<details><summary>{len(names)} {words}</summary><div class="cols">{inside}</div></details>'


def _foot(facts: Facts) -> str:
    fields = ", ".join(f"{key} {value}" for key, value in facts["profile"].items() if key not in ("at", "name"))
    took = f", {facts['seconds']} s" if "seconds" in facts else ""
    name = text(facts["profile"]["name"])
    return f"<footer>refmoe {text(__version__)}{took}. Profile {name}: {text(fields)}.</footer>"
