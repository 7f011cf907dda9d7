"""junit - verdicts as a JUnit XML file, which every CI system shows: a suite for each op, a test case for each case."""

import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from refmoe.errors import TraceError
from refmoe.verifier import text
from refmoe.verifier.check import Report
from refmoe.verifier.verdict import EXACT, MISSING, WITHIN


class Entry(NamedTuple):
    """One test case. `failure` and `skipped` are texts, empty if neither."""

    suite: str
    name: str
    failure: str = ""
    skipped: str = ""
    note: str = ""


def of_check(report: Report) -> list[Entry]:
    """Wrong is a failure, a missing result a skip."""
    entries = []
    for verdict in report.verdicts:
        lines = "" if verdict.status in (EXACT, WITHIN, MISSING) else "\n".join(text.case(verdict))
        skipped = "no result" if verdict.status == MISSING else ""
        entries.append(Entry(verdict.op, verdict.case, lines, skipped, verdict.status))
    return entries


def of_compare(report: Any) -> list[Entry]:
    """One for each replayed step, a suite for each op; without replay one for each result of the whole runs."""
    entries = []
    for step in report.entries:
        status = step.verdict.status if step.verdict else MISSING
        lines = "" if status in (EXACT, WITHIN, MISSING) or not step.verdict else "\n".join(text.case(step.verdict))
        entries.append(Entry(step.op, step.point, lines, step.reason if status == MISSING else "", status))
    for point in report.free.points if report.free and not report.entries else ():
        words = point.problem or f"largest difference {point.largest:.3g}"
        entries.append(Entry("free", point.name, "" if point.equal else words, note="equal bits"))
    for prompt in report.tokens or ():
        entries.append(Entry("tokens", f"entry {prompt['entry']}", "" if prompt["equal"] else str(prompt)))
    return entries


def build(entries: Iterable[Entry]) -> bytes:
    """The XML."""
    root = ET.Element("testsuites", name="refmoe")
    suites: dict[str, ET.Element] = {}
    for entry in entries:
        suite = suites.get(entry.suite)
        if suite is None:
            suite = suites[entry.suite] = ET.SubElement(root, "testsuite", name=entry.suite)
        case = ET.SubElement(suite, "testcase", classname=f"refmoe.{entry.suite}", name=entry.name)
        if entry.failure:
            first = entry.failure.partition("\n")[0]
            ET.SubElement(case, "failure", message=_clean(first)).text = _clean(entry.failure)
        elif entry.skipped:
            ET.SubElement(case, "skipped", message=_clean(entry.skipped))
        elif entry.note:
            ET.SubElement(case, "system-out").text = _clean(entry.note)
    for element in (root, *suites.values()):
        for key, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
            element.set(key, str(sum(1 for _ in element.iter(tag))))
    ET.indent(root)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="utf-8") + b"\n"


def _clean(words: str) -> str:
    """Characters that XML cannot hold become question marks."""
    return "".join(c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "?"
                   for c in words)


def write(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write the file whole or not at all. TraceError if it cannot be written."""
    target, content = Path(path), build(entries)
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            file.write(content)
        os.replace(file.name, target)
    except OSError as problem:
        raise TraceError(f"{target}: cannot be written: {problem.strerror}") from None
