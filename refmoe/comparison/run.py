"""run - one comparison from its arguments: opened, named, replayed, walked. See refmoe.comparison."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.comparison.free import Free, Walk
from refmoe.comparison.logits import statistics
from refmoe.comparison.names import Named, name_all, read_map
from refmoe.comparison.replay import Replay
from refmoe.comparison.report import MODES, Report
from refmoe.comparison.sources import IDS, executed, natural, open_source
from refmoe.comparison.tokens import compare as compare_tokens
from refmoe.errors import TraceError, UsageError
from refmoe.verifier.profiles import load as load_profile

LOGITS = "logits"
CHUNK = 512  # tokens in one pass of the engine


def compare(
    left: str | Path,
    right: str | Path | None = None,
    model: Any = None,
    map: str | Path | None = None,
    profile: Any = "f32-any-order",
    mode: str = "auto",
    ids: list[int] | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> Report:
    """Compare a recorded run `left` with the reference: another recorded run `right`, or a model.

    model: a refmoe Model, or what refmoe.load takes; with it every recorded step is replayed (mode "replay"), and if
    the token ids are known the whole run is compared with ours too (mode "free"). map: names of the other program (hf,
    llama.cpp, vllm, sglang, or a file); None: ours. profile: its arithmetic. mode: auto, replay, free, logits or tokens
    (then `left` is a JSON list of texts and their ids). ids: tokens of the prompt if the run does not hold them.
    progress(done, total, point). UsageError, TraceError or CheckpointError in one line for what cannot be compared.
    """
    if mode not in MODES:
        raise UsageError(f"mode: expected one of {', '.join(MODES)}, found {str(mode)[:40]!r}")
    if model is None and right is None:
        raise UsageError("compare: expected a model or a second run to compare with, found neither")
    if model is not None and right is not None:
        raise UsageError("compare: expected a model or a second run to compare with, found both")
    begin = time.perf_counter()
    arithmetic = load_profile(profile)
    if right is not None:
        report = _two(left, right, arithmetic, mode)
    else:
        report = _with_model(left, _opened(model), map, arithmetic, mode, ids, progress)
    report.seconds = time.perf_counter() - begin
    return report


def _opened(model: Any) -> Any:
    if hasattr(model, "engine"):
        return model
    from refmoe.model import load

    return load(model)


def _two(left: str | Path, right: str | Path, profile: Any, mode: str) -> Report:
    """Two runs in our names."""
    if mode not in ("auto", "free", LOGITS):
        raise UsageError(f"mode: expected free or logits without a model, found {mode!r}")
    one, two = open_source(left), open_source(right)
    report = Report(str(left), str(right), profile, "free" if mode == "auto" else mode)
    common = [name for name in two.items if name in one.items and name not in IDS]
    if not common:
        raise TraceError(f"{left}: expected arrays with the names of {right}, found none in common")
    if one.ids is not None and two.ids is not None and one.ids != two.ids:
        raise UsageError(f"{left}: ids: expected the prompt of {right} ({len(two.ids)} tokens), found another one")
    report.absent = [name for name in two.items if name not in one.items and name not in IDS]
    if mode != LOGITS:
        walk = Walk(lambda name, rows: _rows(one.items[name].load(), rows) if name in one.items else None)
        for name in sorted(two.items, key=executed):
            if name in one.items and name not in IDS:
                walk.take(name, _rows(two.items[name].load(), None))
        report.free = walk.result
    if LOGITS in common:
        pair = [_rows(source.items[LOGITS].load(), None) for source in (one, two)]
        if pair[0].shape != pair[1].shape:
            raise TraceError(f"{left}: logits: expected shape {list(pair[1].shape)}, found {list(pair[0].shape)}")
        report.logits = statistics(pair[0], pair[1], (two.ids or [])[1:])
    return report


def _rows(array: np.ndarray, rows: int | None) -> np.ndarray:
    """[rows, ...], leading axes of size 1 dropped where there are too many."""
    while array.ndim > 2 and array.shape[0] == 1 and rows != 1:
        array = array[0]
    return array


def _with_model(left: str | Path, model: Any, map: str | Path | None, profile: Any, mode: str,
                ids: list[int] | None, progress: Any) -> Report:  # fmt: skip
    report = Report(str(left), str(model.checkpoint.path), profile, mode)
    if mode == "tokens":
        report.tokens = compare_tokens(model, left)
        return report
    source = open_source(left)
    named = name_all(source, read_map(map), model.program)
    report.unknown = [name for name in named.unknown if name not in IDS]
    if not named.loaders:
        some = ", ".join(sorted(source.items, key=natural)[:4])
        raise TraceError(f"{left}: expected names of {'the map ' + str(map) if map else 'a trace of refmoe'}, found "
                         f"{some[:160]}")  # fmt: skip
    known, step_ids = (ids or source.ids), source.step_ids
    try:
        known = model.check_ids(known) if known else None
        step_ids = model.check_ids(step_ids) if step_ids else []
    except UsageError as problem:
        raise UsageError(str(problem)) if ids else TraceError(f"{left}: {problem}") from None
    if mode in ("auto", "replay") and (set(named.loaders) != {LOGITS} or known is None):
        run = Replay(model, named, profile, known, step_ids)
        total = run.points()
        for done, entry in enumerate(run.run(), start=1):
            report.entries.append(entry)
            if progress:
                progress(done, total, entry.point)
        names_of_all = [prefix[0] + part + out for prefix in run.passes() for part, steps in run.parts
                        for step in steps for out in step.out]  # fmt: skip
        report.absent = [name for name in names_of_all if name not in run.covered]
    if known is not None:
        _beside(report, model, named, known, step_ids, mode)
    elif mode in ("free", LOGITS):
        raise UsageError(f"{left}: ids: expected the tokens of the prompt to run the model (--ids), found none")
    return report


def _beside(report: Report, model: Any, named: Named, ids: list[int], steps: list[int], mode: str) -> None:
    """Run the model on the same tokens; every result is compared when it is made, and forgotten."""
    sequence, found = model.engine.sequence(), []
    whole = Free()
    for prefix, fed in [("", ids), *((f"steps.{n}.", [token]) for n, token in enumerate(steps))]:
        walk = Walk(lambda name, rows: named.load(name, rows) if name in named else None)
        pieces: dict[str, list[np.ndarray]] = {}  # of results that come in several passes of the engine
        single = len(fed) <= CHUNK

        def take(name: str, rows: np.ndarray, prefix=prefix, walk=walk, pieces=pieces, single=single) -> None:
            name = prefix + name
            if name in named and (name == prefix + LOGITS or not single):
                pieces.setdefault(name, []).append(rows.copy())
            elif mode != LOGITS:
                walk.take(name, rows)

        model.engine.run([(sequence, model.check_ids(fed))], every=True, record=take)
        for name, parts in pieces.items():
            if mode != LOGITS:
                walk.take(name, np.concatenate(parts))
        if ours := pieces.get(prefix + LOGITS):
            found.append((named.load(prefix + LOGITS, len(fed)), np.concatenate(ours)))
        whole.points += walk.result.points
        whole.routers += walk.result.routers
    report.free = None if mode == LOGITS else whole
    if found:
        theirs, ours_all = (np.concatenate(column) for column in zip(*found, strict=True))
        report.logits = statistics(theirs, ours_all, (ids + steps)[1:])
