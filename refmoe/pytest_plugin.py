"""pytest_plugin - golden vectors as test cases of other people's suites; installed with the package (entry point).

    from refmoe.pytest_plugin import assert_conformant

    def test_kernels(refmoe_case):                       # one test for each vector
        results = my_port(refmoe_case.op, refmoe_case.inputs, refmoe_case.attrs)
        assert_conformant(results, refmoe_case, profile="bf16")

    @pytest.mark.refmoe("rms_norm", "bf16")              # those of some ops or formats
    @pytest.mark.refmoe(bug="R09")                       # those that hunt one catalogued bug

`refmoe_case` is a refmoe.golden.Case: op or format, name, inputs, attrs, expected, hunts, bugs. Every test bears the
ids of the bugs it hunts as markers, so that `pytest -m R09` runs them. Options: `--refmoe-op`, `--refmoe-bug` narrow
every such test; `--refmoe-profile` is the profile of assertions that name none; `--refmoe-xfail FILE` lists known
failures, a JSON or TOML object case -> reason (an entry that passes is a failure: the list must shrink);
`--refmoe-report FILE` writes all verdicts as JSON in the schema of `refmoe check --json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

_REPORT = pytest.StashKey[list]()
_KNOWN = pytest.StashKey[dict]()
_MARKS = pytest.StashKey[set[str]]()
_active: list[Any] = []  # the configurations of running sessions: assertions tell them their verdicts


def assert_conformant(actual: Any, case: Any, profile: Any = None) -> Any:
    """Fail with the whole verdict unless `actual` conforms to a vector; returns the verdict.

    actual: an array (of a case with one result) or a mapping of results by name; anything numpy.asarray takes.
    profile: a name, a file or a refmoe.verifier.Profile; by default that of --refmoe-profile, else f32-any-order.
    """
    __tracebackhide__ = True
    import numpy as np

    from refmoe import verifier
    from refmoe.verifier import foreign, text
    from refmoe.verifier.check import place

    options = _active[-1].option.refmoe_profile if _active else None
    given = actual if isinstance(actual, Mapping) else dict.fromkeys(case.outputs[:1], actual)
    results = {name: foreign.plain(np.asarray(value), case.expected[name]) for name, value in given.items()
               if name in case.expected}  # fmt: skip
    verdict = verifier.judge(place(case), case.inputs, case.attrs, results, case.expected,
                             profile or options or "f32-any-order", case.name)  # fmt: skip
    if _active:
        _active[-1].stash[_REPORT].append(verdict)
    if verdict.status not in (verifier.EXACT, verifier.WITHIN):
        pytest.fail("\n".join(text.case(verdict)) + f"\nhunts: {case.hunts}", pytrace=False)
    return verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options above."""
    group = parser.getgroup("refmoe", "golden vectors of refmoe")
    group.addoption("--refmoe-op", action="append", default=[], metavar="NAME", help="only those of this op or format")
    group.addoption("--refmoe-bug", metavar="ID", help="only vectors that hunt this catalogued bug, like R09")
    group.addoption("--refmoe-profile", metavar="NAME|FILE", help="arithmetic of the port (see refmoe check --help)")
    group.addoption("--refmoe-xfail", metavar="FILE", help="known failures: JSON or TOML, case -> reason")
    group.addoption("--refmoe-report", metavar="FILE", help="write the verdicts as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Markers, known failures, a list for the verdicts."""
    config.addinivalue_line("markers", "refmoe(*names, bug=None): which golden vectors `refmoe_case` runs over")
    config.stash[_REPORT] = []
    config.stash[_MARKS] = set()
    config.stash[_KNOWN] = _known(config.option.refmoe_xfail)
    _active.append(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The session is over."""
    if config in _active:
        _active.remove(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each vector."""
    if "refmoe_case" not in metafunc.fixturenames:
        return
    from refmoe.errors import UsageError
    from refmoe.verifier import vectors

    option, marks = metafunc.config.option, list(metafunc.definition.iter_markers("refmoe"))
    names = [name for mark in marks for name in mark.args]
    bug = next((mark.kwargs["bug"] for mark in marks if "bug" in mark.kwargs), option.refmoe_bug)
    try:
        chosen = vectors.select(names, bug=bug)
        if option.refmoe_op:
            wanted = {vectors.name_of(case) for case in vectors.select(option.refmoe_op, bug=bug)}
            chosen = [case for case in chosen if vectors.name_of(case) in wanted]
    except UsageError as problem:
        raise pytest.UsageError(str(problem)) from None
    _register(metafunc.config, {bug for case in chosen for bug in case.bugs})
    known = metafunc.config.stash[_KNOWN]
    parameters = []
    for case in chosen:
        name = vectors.name_of(case)
        marked = [getattr(pytest.mark, id) for id in case.bugs]
        if name in known:
            marked.append(pytest.mark.xfail(reason=known[name], strict=True))
        parameters.append(pytest.param(case, id=name, marks=marked))
    metafunc.parametrize("refmoe_case", parameters)


def _register(config: pytest.Config, bugs: set[str]) -> None:
    """Make markers of bug ids known. Not at start: it would import the vectors into sessions that do not use them."""
    marks: set[str] = config.stash[_MARKS]
    for bug in sorted(bugs - marks):
        config.addinivalue_line("markers", f"{bug}: golden vectors that hunt this bug of refmoe's catalogue")
    marks |= bugs


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report."""
    path = session.config.option.refmoe_report
    if not path:
        return
    from refmoe import verifier
    from refmoe.verifier.check import Report

    profile = verifier.profile(session.config.option.refmoe_profile or "f32-any-order")
    report = Report("golden", "pytest", profile, session.config.stash[_REPORT])
    Path(path).write_text(json.dumps(report.facts(), indent=1) + "\n", "utf-8")


def _known(path: str | None) -> dict[str, str]:
    """The known failures; a pytest.UsageError names the file and what is wrong with it."""
    if path is None:
        return {}
    import tomllib

    try:
        raw = Path(path).read_text("utf-8")
        found = tomllib.loads(raw) if path.endswith(".toml") else json.loads(raw)
    except (OSError, ValueError) as problem:
        raise pytest.UsageError(f"--refmoe-xfail {path}: {problem}") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) and v.strip() for v in found.values()):
        raise pytest.UsageError(f"--refmoe-xfail {path}: expected an object of cases with a reason each")
    return found
