"""heat - the coloured tables of a page: layers and points in order of execution, cases of ops, whole runs."""

import math
import re
from typing import Any

from refmoe.comparison.html import number, table, text
from refmoe.comparison.sources import natural
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN, WRONG

_POINT = re.compile(r"(?:steps\.(\d+)\.)?(?:layers\.(\d+)\.)?(.+)", re.DOTALL)
LEGEND = (
    '<ul class="legend"><li><span class="e">=</span>equal bits</li>'
    '<li><span class="w" style="--p:30%">30</span>within, per cent of the budget</li>'
    '<li><span class="x">2.5×</span>wrong, times the budget</li>'
    '<li><span class="s">↦</span>not recorded, judged with a later step</li>'
    '<li><span class="q">?</span>recorded, not judged</li><li><span class="s">·</span>not recorded</li></ul>'
)
WIDE, HIGH = 900, 190  # of the plot
Facts = dict[str, Any]


def load(verdict: Facts) -> float:
    """Largest error as a share of its budget."""
    return max((float(output["load"]) for output in verdict["outputs"]), default=0.0)


def cell(verdict: Facts | None, title: str, mark: str = "") -> str:
    """One square."""
    kind, word, style = "s", mark or "·", ""
    if verdict is not None:
        title, status, worst = f"{title}: {verdict['status']}", verdict["status"], load(verdict)
        if status == EXACT:
            kind, word = "e", "="
        elif status == WITHIN:
            kind, word = "w", f"{100 * worst:.0f}"
            style = f' style="--p:{min(100, round(100 * worst))}%"'
        elif status == WRONG:
            kind, word = "x", _times(worst)
            title += "".join(f"; looks like {s['id']}: {s['title']}" for s in verdict["diagnosis"][:2])
        elif status == MISSING:
            kind, word = "q", "?"
    elif mark == "?":
        kind = "q"
    return f'<td class="{kind}"{style} title="{text(title)}">{word}</td>'


def _times(worst: float) -> str:
    """A factor in a few characters."""
    if not 1.0 < worst < 1e9:  # nothing was allowed, or it is no number
        return "✗"
    return f"{worst:.1f}×" if worst < 10 else f"{worst:.0f}×" if worst < 1000 else f"1e{math.log10(worst):.0f}"


def steps(facts: Facts) -> str:
    """Layers down, points across; decode steps in rows of their own, the worst of all of them."""
    if not facts["steps"]:
        return ""
    grid: dict[tuple[tuple[int, int], str], tuple[Facts | None, str, str]] = {}
    columns: dict[int, list[str]] = {}
    for step in facts["steps"]:
        names = list(dict.fromkeys([*step["steps"], step["point"]]))
        for name in names:
            row, word = _place(name)
            column = columns.setdefault(row[1], [])
            if word not in column:
                column.append(word)
            mark = "?" if step["verdict"] is None else ""
            mine = name not in step["fused"]
            new = (step["verdict"] if mine else None, f"{name} ({step['op']})", mark if mine else "↦")
            if _rank(new) >= _rank(grid.get((row, word))):
                grid[row, word] = new
    order = _order(columns)
    rows = sorted({row for row, _ in grid})
    absent = {_place(name) for name in facts["not_judged"]}
    head = "".join(f"<th><span>{text(word)}</span></th>" for word in order)
    lines = []
    for row in rows:
        cells = "".join(cell(*grid[row, word]) if (row, word) in grid else cell(None, word) if (row, word) in absent
                        else "<td></td>" for word in order)  # fmt: skip
        lines.append(f"<tr><th>{_label(row)}</th>{cells}</tr>")
    return (f'{LEGEND}<div class="scroll tall"><table class="map"><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>")  # fmt: skip


def _place(name: str) -> tuple[tuple[int, int], str]:
    """((0 prompt or 1 decode, layer), word); the head has layer -1, the tail comes behind all layers."""
    step, layer, word = _POINT.fullmatch(name).groups()  # type: ignore[union-attr]
    depth = int(layer) if layer is not None else -1 if word == "embed" else 1 << 30
    return (int(step is not None), depth), word


def _order(columns: dict[int, list[str]]) -> list[str]:
    """One order of all points that keeps the order of every layer where they agree."""
    merged: list[str] = []
    for layer in sorted(columns):
        at = 0
        for word in columns[layer]:
            if word in merged:
                at = merged.index(word) + 1
            else:
                merged.insert(at, word)
                at += 1
    tail = columns.get(1 << 30, [])
    head = columns.get(-1, [])
    return [*head, *(word for word in merged if word not in (*head, *tail)), *tail]


def _rank(entry: tuple[Facts | None, str, str] | None) -> float:
    if entry is None:
        return -1.0
    verdict = entry[0]
    if verdict is None:
        return 0.0
    return {EXACT: 1.0, WITHIN: 2.0, MISSING: 2.0, WRONG: 4.0}[verdict["status"]] + min(load(verdict), 1e9) / 1e10


def _label(row: tuple[int, int]) -> str:
    step, depth = row
    name = "embed" if depth < 0 else "end" if depth == 1 << 30 else f"layer {depth}"
    return f"decode, {name}" if step else name


def cases(verdicts: list[Facts]) -> str:
    """One line of squares for each op."""
    lines = []
    for op in sorted({verdict["op"] for verdict in verdicts}, key=natural):
        mine = [verdict for verdict in verdicts if verdict["op"] == op]
        cells = [cell(verdict, f"{op}/{verdict['case']}") for verdict in mine]
        for first in range(0, len(cells), 24):
            name = text(op) if first == 0 else ""
            lines.append(f"<tr><th>{name}</th>{''.join(cells[first : first + 24])}</tr>")
    body = "".join(lines)
    return f'{LEGEND}<div class="scroll"><table class="map"><tbody>{body}</tbody></table></div>' if lines else ""


def free(found: Facts | None) -> str:
    """The first difference, and how far every result is apart, in order of execution."""
    if not found or not found["points"]:
        return ""
    points = found["points"]
    equal = sum(point["equal"] for point in points)
    words = f"<p>{equal} of {len(points)} results have equal bits."
    if found["first_difference"] is not None:
        first = next(point for point in points if not point["equal"])
        words += f" They part at <code>{text(first['point'])}</code>: " + (
            text(first["problem"]) or f"largest difference {number(first['largest_difference'], 3)}, "
                                      f"{number(first['relative'], 2)} of the largest value of its row")  # fmt: skip
    problems = [[text(p["point"]), text(p["problem"])] for p in points if p["problem"]]
    return words + ".</p>" + _plot(points) + (table(["result", "problem"], problems[:20]) if problems else "")


def _plot(points: list[Facts]) -> str:
    """log10 of the largest difference as a share of its row's largest value."""
    known = [(n, math.log10(float(p["relative"]))) for n, p in enumerate(points)
             if not p["equal"] and not p["problem"] and 0 < float(p["relative"]) < math.inf]  # fmt: skip
    if not known:
        return ""
    low, high = math.floor(min(y for _, y in known)), max(math.ceil(max(y for _, y in known)), 0)
    span = max(high - low, 1)

    def x(n: float) -> float:
        return 50 + n * (WIDE - 60) / max(len(points) - 1, 1)

    def y(value: float) -> float:
        return 10 + (high - value) * (HIGH - 40) / span

    every = max(1, span // 6)
    grid = "".join(f'<line x1="50" x2="{WIDE - 10}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="var(--line)"/>'
                   f'<text x="44" y="{y(v) + 4:.1f}" text-anchor="end">1e{v}</text>'
                   for v in range(low, high + 1, every))  # fmt: skip
    dots = "".join(f'<circle cx="{x(n):.1f}" cy="{y(v):.1f}" r="2.6" fill="var(--accent)">'
                   f"<title>{text(points[n]['point'])}: 1e{v:.1f}</title></circle>"
                   for n, v in known[:4000])  # fmt: skip
    marks, last, marked = "", None, -1e9
    for n, point in enumerate(points):
        row = _place(point["point"])[0]
        if row != last and row[1] >= 0 and x(n) - marked > 46:
            marks += (f'<line x1="{x(n):.1f}" x2="{x(n):.1f}" y1="10" y2="{HIGH - 30}" stroke="var(--line)"/>'
                      f'<text x="{x(n) + 3:.1f}" y="{HIGH - 12}">{_short(row)}</text>')  # fmt: skip
            marked, last = x(n), row
    return (f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="relative differences in order of execution">'
            f'{grid}{marks}{dots}</svg><p class="soft">Largest difference of each result, as a share of the largest '
            "value of its row, in order of execution. This is no verdict: it grows behind the first difference."
            "</p>")  # fmt: skip


def _short(row: tuple[int, int]) -> str:
    return ("step, " if row[0] else "") + ("end" if row[1] == 1 << 30 else f"{row[1]}")
