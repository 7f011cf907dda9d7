"""The pytest plugin: vectors as test cases of another suite, run as that suite would run them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SUITE = '''
import numpy as np
import pytest
from refmoe.pytest_plugin import assert_conformant

def norm(case, eps=None):
    x, w = case.inputs["x"], case.inputs["w"]
    eps = np.float32(case.attrs["eps"] if eps is None else eps)
    with np.errstate(all="ignore"):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w

@pytest.mark.refmoe("rms_norm")
def test_right(refmoe_case):
    assert_conformant(norm(refmoe_case), refmoe_case)

@pytest.mark.refmoe("rms_norm/eps_dominates")
def test_wrong(refmoe_case):
    assert_conformant({"y": norm(refmoe_case, 0.0)}, refmoe_case, profile="bf16")

@pytest.mark.refmoe(bug="R22")
def test_names(refmoe_case):
    assert "R22" in refmoe_case.bugs
'''


def run(folder, *arguments):
    """pytest in a folder with that suite; (exit code, output)."""
    (folder / "test_port.py").write_text(SUITE)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "refmoe.pytest_plugin", "-rA", "--strict-markers", "-p",
               "no:cacheprovider", *arguments]  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_verdicts_and_report(tmp_path):
    code, text = run(tmp_path, "-k", "right or wrong", "--refmoe-report", "report.json")
    assert code == 1, text
    assert "PASSED test_port.py::test_right[rms_norm/wide_row]" in text
    assert "FAILED test_port.py::test_wrong[rms_norm/eps_dominates]" in text
    assert "WRONG rms_norm/eps_dominates" in text and "worst at" in text and "hunts: eps left at" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["kind"] == "check" and report["counts"]["wrong"] == 1 and report["code"] == 1
    assert {case["op"] for case in report["cases"]} == {"rms_norm"}


def test_selection_by_bug_and_op(tmp_path):
    code, text = run(tmp_path, "-k", "names", "-m", "R22")
    assert code == 0 and "route_softmax_topk/one_choice" in text
    code, text = run(tmp_path, "-k", "names", "--refmoe-op", "route_softmax_topk_renorm")
    assert code == 0 and "1 passed" in text
    code, text = run(tmp_path, "-k", "right", "--refmoe-bug", "A14", "-m", "A14")
    assert code == 0 and "passed" in text and "eps_dominates" in text


@pytest.mark.parametrize("name", ["known.json", "known.toml"])
def test_known_failures_must_fail(tmp_path, name):
    entry = {"rms_norm/eps_dominates": "eps is fixed in hardware"}
    (tmp_path / name).write_text(json.dumps(entry) if name.endswith("json") else
                                 '"rms_norm/eps_dominates" = "eps is fixed in hardware"')
    code, text = run(tmp_path, "-k", "wrong", "--refmoe-xfail", name)
    assert code == 0 and "1 xfailed" in text and "eps is fixed in hardware" in text
    code, text = run(tmp_path, "-k", "right and eps_dominates", "--refmoe-xfail", name)
    assert code == 1 and "XPASS(strict)" in text


@pytest.mark.parametrize("content", ["[1]", '{"a": ""}', "{"])
def test_a_bad_list_of_failures_is_a_usage_error(tmp_path, content):
    (tmp_path / "known.json").write_text(content)
    code, text = run(tmp_path, "--refmoe-xfail", "known.json")
    assert code == 4 and "known.json" in text and "Traceback" not in text


def test_sessions_without_vectors_import_nothing_heavy(tmp_path):
    lines = "import sys\ndef test():\n    assert not {'numba', 'numpy'} & set(sys.modules)\n"
    (tmp_path / "test_other.py").write_text(lines)
    code, text = run(tmp_path, "test_other.py")
    assert code == 0, text


def test_unknown_names_are_usage_errors(tmp_path):
    code, text = run(tmp_path, "-k", "right", "--refmoe-op", "no_such_op")
    assert code != 0 and "no_such_op" in text and "expected an op or a format" in text
