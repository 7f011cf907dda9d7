"""verify checkpoint - is this directory what it claims, and does it give the outputs published for it?

`check` opens a checkpoint (config, headers, claims, tokenizer), reads every byte once for the content digest and to
find nan and inf, recognises which published checkpoint it is, and runs the published outputs that fit. Whatever is not
run is listed with the reason. The verdict:
    conformant      something was run and all of it agrees
    not conformant  a published output disagrees, a weight is nan or inf, or the tokenizer does not fit
    inconclusive    only ties, weak goldens, or several known checkpoints of this shape of which none agrees
    incomplete      no published output could be run
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import refmoe
from refmoe import checkpoint, conformance, info, published, structure, text
from refmoe.conformance import Result
from refmoe.errors import RefmoeError
from refmoe.model import Model, load
from refmoe.published import Candidate, Golden

PLAIN = ("f32", "bf16", "f16")
EXIT = {"conformant": 0, "not conformant": 1, "incomplete": 3, "inconclusive": 4}
Progress = Callable[[str], object]


@dataclass
class Report:
    """What was found; `facts` is for JSON."""

    path: str
    structure: dict[str, Any]
    problems: list[str]
    recognised: list[dict[str, str]]
    notes: list[str]
    results: list[tuple[str, Result]] = field(default_factory=list)  # (checkpoint, result)
    ambiguous: bool = False
    listed: bool = False
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """One of EXIT."""
        outputs = [result for _, result in self.results if result.golden.kind != "tokenizer"]
        ran = {result.verdict for result in outputs if result.golden.status == "good"}
        good = [result for _, result in self.results if result.golden.status == "good"]
        tokens = {result.verdict for result in good if result.golden.kind == "tokenizer"}
        if self.problems or "not conformant" in tokens or ("not conformant" in ran and not self.ambiguous):
            return "not conformant"
        if "conformant" in ran:
            return "conformant"
        return "inconclusive" if any(result.verdict != "not run" for result in outputs) else "incomplete"

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        facts = {
            "verdict": None if self.listed else self.verdict,
            "path": self.path,
            "refmoe": refmoe.__version__,
            "numerics": refmoe.NUMERICS_VERSION,
            "structure": self.structure,
            "problems": self.problems,
            "recognised": self.recognised,
            "notes": self.notes,
            "results": [
                {"checkpoint": name, "golden": r.golden.id, "kind": r.golden.kind, "arithmetic": r.golden.arithmetic,
                 "status": r.golden.status, "verdict": r.verdict, "words": r.words, "source": r.golden.source} | r.facts
                for name, r in self.results
            ],
            "seconds": round(self.seconds, 2),
        }  # fmt: skip
        return {key: _finite(value) for key, value in facts.items()}


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check(location: str | os.PathLike[str], goldens: str | os.PathLike[str] | None = None, name: str | None = None,
          only_list: bool = False, threads: int | None = None, say: Progress | None = None) -> Report:  # fmt: skip
    """Check a model directory or hub id. `goldens`: a file or folder of further published outputs; `name`: which
    checkpoint it is, by the caller's word; `only_list`: say what would be run, read no weights (a config will do)."""
    begin, say = time.perf_counter(), say or (lambda words: None)
    known = published.entries(None if goldens is None else Path(goldens))
    built = info.program_of(location)
    path, weights = info.place(location)
    opened = checkpoint.open(location) if weights or not only_list else None
    facts, problems, tokenizer = structure.of_config(path, built, opened.metadata if opened else None)
    digest = None
    if opened is not None:
        facts |= structure.of_headers(opened, checkpoint.claim(opened, built))
        if (stored := facts["stored_parameters"]) != (count := facts["parameters"]):
            problems.append(f"parameters: expected {count:,}, found {stored:,} stored")
    if opened is not None and not only_list:
        say("reading every tensor once")
        digest, bad = structure.scan(opened)
        facts |= {"content_digest": digest, "not_finite": bad}
        problems += [f"{tensor}: {nans} nan, {infs} inf" for tensor, (nans, infs) in bad.items()]
    found, notes = published.candidates(known, built, facts["quantisation"], os.fspath(location), digest, name)
    report = Report(str(path), facts, problems, [], notes, listed=only_list)
    report.recognised = [{"checkpoint": one.entry.checkpoint, "by": one.why} for one in found]
    report.ambiguous = len(found) > 1 and found[0].why == "config"
    if tokenizer is not None and not only_list:
        _tokenizers(report, found, tokenizer)
    _run(report, found, threads, say)
    report.seconds = time.perf_counter() - begin
    return report


def _tokenizers(report: Report, found: list[Candidate], tokenizer: text.Tokenizer) -> None:
    """The vectors of the tokenizer that the candidates are published with."""
    for name in dict.fromkeys(one.entry.tokenizer for one in found if one.entry.tokenizer):
        if vectors := published.tokenizer_vectors(name):
            of = ", ".join(one.entry.checkpoint for one in found if one.entry.tokenizer == name)
            report.results.append((of, conformance.compare_tokenizer(tokenizer, name, vectors)))


def _run(report: Report, found: list[Candidate], threads: int | None, say: Progress) -> None:
    """Fill in the results of all goldens of the candidates."""
    goldens = [(one.entry.checkpoint, golden) for one in found for golden in one.entry.goldens]
    reasons = [obstacle(golden, report.structure) for _, golden in goldens]
    model: Model | str = "the weights were not read"
    if not report.listed and any(reason is None for reason in reasons):
        say("loading the weights")
        model = _load(threads, report)
    for (name, golden), reason in zip(goldens, reasons, strict=True):
        result = Result(golden, "not run", reason or "would be run")
        if reason is None and not report.listed:
            result = Result(golden, "not run", model) if isinstance(model, str) else _compare(model, golden, say)
        report.results.append((name, result))
    _settle(report)


def _load(threads: int | None, report: Report) -> Model | str:
    """The model, or why there is none."""
    try:
        return load(report.path, threads=threads)
    except RefmoeError as problem:
        return f"the model cannot be loaded: {problem}"


def _compare(model: Model, golden: Golden, say: Progress) -> Result:
    say(f"running {golden.id}")
    try:
        return conformance.compare(model, golden)
    except RefmoeError as problem:
        return Result(golden, "not run", str(problem))


def _settle(report: Report) -> None:
    """Several checkpoints have this shape: the one whose outputs agree is the one it is, and the others are not run."""
    if not report.ambiguous or report.listed:
        return
    ran: dict[str, list[str]] = {}
    for name, result in report.results:
        if result.verdict != "not run" and result.golden.status == "good" and result.golden.kind != "tokenizer":
            ran.setdefault(name, []).append(result.verdict)
    agreeing = [name for name, verdicts in ran.items() if "conformant" in verdicts]
    if not agreeing:
        return
    report.ambiguous = False
    report.notes.append(f"its outputs are those of {', '.join(agreeing)}")
    for name, result in report.results:
        refused = result.verdict not in ("not run", "conformant") and result.golden.kind != "tokenizer"
        if name not in agreeing and refused:
            result.verdict, result.words = "not run", f"not this checkpoint: {result.words}"


def obstacle(golden: Golden, facts: dict[str, Any]) -> str | None:
    """Why a golden cannot be run on a checkpoint, or None."""
    if golden.status == "wrong":
        return f"known to be wrong: {golden.note}"
    if golden.weights:
        return f"made with other weights: {golden.weights}"
    if (formats := [one for one in facts.get("formats", ()) if one not in PLAIN]) and not facts["quantisation"]:
        return f"of the published weights; these are stored as {', '.join(formats)}"
    if golden.kind == "perplexity":
        return f"needs a text that is not part of this package: {golden.data['text']}"
    if golden.arithmetic not in ("float32", *conformance.BITS):
        return f"other arithmetic: {golden.arithmetic}"
    rows = facts["vocabulary_rows"]
    ids = [i for key in ("ids", "prompt_ids", "then") for i in golden.data.get(key, []) if i is not None]
    if any(i >= rows for i in ids):
        return f"not this vocabulary: id {max(ids)} of {rows} rows"
    has_text = facts["tokenizer_ids"] is not None
    if golden.prompt_ids is None and not has_text:
        return "a text, and the checkpoint has no tokenizer that can be used"
    if golden.kind == "greedy" and "ids" not in golden.data and not has_text:
        return "its continuation is a text, and the checkpoint has no tokenizer that can be used"
    return None
