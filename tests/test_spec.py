"""SPEC.md: equal to what the docstrings say, complete, its digest true, built without importing what it describes."""

import hashlib
import re

import pytest
import tiny

from refmoe import NUMERICS_VERSION, spec
from refmoe.errors import UsageError

STORED = (spec.PACKAGE / "SPEC.md").read_text("utf-8")


def test_committed_text_is_what_the_sources_say():
    assert spec.build() == STORED, "run python scripts/write_spec.py"


def test_digest_covers_everything_below_it():
    found = re.match(r"# .*\n\nDigest of the text below: `([0-9a-f]{64})`\n", STORED)
    assert hashlib.sha256(STORED[found.end() :].encode()).hexdigest() == found[1]


@pytest.mark.parametrize("name", [name for title, _, names in spec.CHAPTERS if title == "Operations" for name in names])
def test_every_op_has_all_sections_in_order(name):
    words = spec.sections(spec._docstring(spec.PACKAGE / "ops" / f"{name}.py"))
    assert words == [word for word in spec.SECTIONS if word != "Ties" or "Ties" in words]
    chooses = name.startswith("route_") or name == "argmax"
    assert ("Ties" in words) == chooses


def test_every_op_docstring_begins_with_its_name():
    for path in (spec.PACKAGE / "ops").glob("[!_]*.py"):
        assert spec._docstring(path).startswith(f"{path.stem} - ")


def test_numbers_are_those_of_the_list_and_rise():
    headings = re.findall(r"^### (\d+)\.(\d+) (\w+)$", STORED, re.MULTILINE)
    assert [name for _, _, name in headings] == spec.names() and len(set(spec.names())) == len(spec.names())
    assert headings == sorted(headings, key=lambda entry: (int(entry[0]), int(entry[1])))
    assert ("4", "1", "embedding") in headings and ("2", "2", "reduce") in headings  # published numbers stay
    chapters = re.findall(r"^## (.+)$", STORED, re.MULTILINE)
    expected = [f"{n} {title}" for n, (title, _, _) in enumerate(spec.CHAPTERS, start=2)]
    assert chapters == ["1 Introduction", *expected, "Versions"]


def test_one_clause():
    text = spec.clause("rms_norm")
    assert text.startswith("### 4.2 rms_norm\n") and text in STORED and "R7" in text
    for name in spec.names():
        assert spec.clause(name) in STORED
    for name in ("vec", "", "../errors", "x" * 1000):
        with pytest.raises(UsageError, match=r"clause: expected one of fma, .*golden, .*found") as problem:
            spec.clause(name)
        assert len(str(problem.value)) < len(", ".join(spec.names())) + 120


def test_a_file_without_a_clause_is_noticed(monkeypatch):
    chapters = tuple((title, folder, names[:-1]) for title, folder, names in spec.CHAPTERS)
    monkeypatch.setattr(spec, "CHAPTERS", chapters)
    with pytest.raises(spec.RefmoeError, match="one clause for each file"):
        spec.build()


def test_built_without_numba():
    code = "import sys; from refmoe import spec; print(len(spec.build()), {'numba', 'numpy'} & sys.modules.keys())"
    assert tiny.python(code).split() == [str(len(STORED)), "set()"]


def test_the_version_is_stated():
    assert STORED.startswith(f"# The refmoe specification, numerics {NUMERICS_VERSION}\n")
    assert f"Numerics {NUMERICS_VERSION}:" in STORED.split("## Versions")[1]
