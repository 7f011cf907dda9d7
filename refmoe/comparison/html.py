"""html - small pieces of the pages: everything that comes from outside is escaped here."""

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from refmoe.errors import TraceError

STYLE = Path(__file__).with_name("page.css")
LONGEST = 400  # characters of one text


def text(value: Any) -> str:
    """Escaped, without characters that a page cannot hold, and cut where it is too long."""
    words = str(value)
    words = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
    return escape("".join(c if c.isprintable() else "�" for c in words))


def number(value: Any, digits: int = 4) -> str:
    """A number of the facts: a float, an integer, or the words nan and inf."""
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return "-" if value is None else text(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: range = range(0)) -> str:
    """Cells are html already; `numeric` columns hold numbers."""
    def line(cells: Sequence[str], tag: str) -> str:
        kind = [' class="n"' if n in numeric else "" for n in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{k}>{c}</{tag}>" for k, c in zip(kind, cells, strict=True)) + "</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return (f'<div class="scroll"><table class="plain"><thead>{line(head, "th")}</thead>'
            f"<tbody>{body}</tbody></table></div>")  # fmt: skip


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, values are html already."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>"


def section(title: str, *content: str, kind: str = "") -> str:
    """Nothing if there is no content."""
    inside = "".join(content)
    mark = f' class="{kind}"' if kind else ""
    return f"<section{mark}><h2>{text(title)}</h2>{inside}</section>" if inside else ""


def page(title: str, *content: str) -> str:
    """A whole page: no script, nothing from elsewhere."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE.read_text('utf-8')}</style></head><body><main>"
        f"{''.join(content)}</main></body></html>\n"
    )


def write(path: str | Path, content: str) -> None:
    """Write the file whole or not at all. TraceError if it cannot be written."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_bytes(content.encode("utf-8"))
        os.replace(part, target)
    except OSError as problem:
        part.unlink(missing_ok=True)
        raise TraceError(f"{target}: cannot be written: {problem.strerror}") from None
