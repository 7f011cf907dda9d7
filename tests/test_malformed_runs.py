"""Recorded runs that are broken: one line each, and what can be judged still is."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import test_comparison as runs
import tiny

from refmoe import comparison
from refmoe.comparison import text
from refmoe.errors import RefmoeError


@pytest.fixture(scope="module")
def good():
    return runs.port("mixtral", narrow=False)


def judged(path, **options):
    """(verdicts by point, reasons by point) or the one line."""
    try:
        report = comparison.compare(path, model=tiny.model("mixtral"), **options)
    except RefmoeError as problem:
        assert "\n" not in str(problem) and len(str(problem)) < 500
        return str(problem)
    for entry in report.entries:
        assert "\n" not in entry.reason
    return report


def changed(tmp_path, good, **arrays):
    found, ids = good
    return runs.write(tmp_path / "a.safetensors", found | {key.replace("__", "."): a for key, a in arrays.items()}, ids)


@pytest.mark.parametrize("keep", [0, 4, 8, 40, 400, 4000, -1, -400])
def test_a_truncated_file(tmp_path, good, keep):
    path = changed(tmp_path, good)
    path.write_bytes(path.read_bytes()[:keep])
    assert isinstance(judged(path), str)


def test_a_header_that_promises_too_much(tmp_path):
    header = json.dumps({"layers.0.o": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert isinstance(judged(tmp_path / "a.safetensors"), str)


def test_other_shapes_and_types_are_named_and_the_rest_is_judged(tmp_path, good):
    arrays, _ = good
    report = judged(changed(tmp_path, good, layers__0__o=arrays["layers.0.o"][:, :-1],
                            layers__0__k=np.zeros(arrays["layers.0.k"].shape, np.int64)))  # fmt: skip
    reasons = {entry.point: entry.reason for entry in report.entries if entry.verdict is None}
    assert report.code == 3 and "layers.0.o: shape: expected" in reasons["layers.0.o"]
    assert "expected floating-point numbers" in reasons["layers.0.k"] and report.count("EXACT") > 20


@pytest.mark.parametrize("value", [np.nan, 1.5, np.inf])
def test_experts_that_are_no_numbers(tmp_path, good, value):
    ids = good[0]["layers.0.route_ids"].astype(np.float32)
    ids[1, 0] = value
    report = judged(changed(tmp_path, good, layers__0__route_ids=ids))
    reasons = {entry.point: entry.reason for entry in report.entries if entry.verdict is None}
    assert "expected expert ids" in reasons["layers.0.route_ids"] and report.code == 3


@pytest.mark.parametrize("value", [-1, 8, 10**12])
def test_experts_that_do_not_exist(tmp_path, good, value):
    ids = good[0]["layers.0.route_ids"].copy()
    ids[1, 0] = value
    report = judged(changed(tmp_path, good, layers__0__route_ids=ids))
    assert [entry.point for entry in report.wrong] == ["layers.0.route_ids"]
    assert all("existing experts" in e.reason for e in report.entries if e.verdict is None) and report.code == 1


@pytest.mark.parametrize("ids", [[1, 2], [-1] * 19, [10**9] * 19, ["a"], [1.5] * 19, [None], [True], "text", []])
def test_prompts_that_are_none(tmp_path, good, ids):
    found, _ = good
    path = runs.write(tmp_path / "a.safetensors", found, ids)
    result = judged(path)
    assert isinstance(result, str) or result.code in (0, 3)


def test_values_that_are_not_finite(tmp_path, good):
    rows = good[0]["layers.1.o"].copy()
    rows[2, 3], rows[4, 5] = np.nan, np.inf
    report = judged(changed(tmp_path, good, layers__1__o=rows))
    assert [entry.point for entry in report.wrong][:1] == ["layers.1.o"]
    json.dumps(report.facts(), allow_nan=False)
    assert "layers.1.o" in text.report(report)


def test_a_bomb_is_not_read(tmp_path):
    """Ten gigabytes of zeros in a small archive."""
    raw = io.BytesIO()
    np.lib.format.write_array_header_1_0(raw, {"descr": "<f4", "fortran_order": False, "shape": (5 << 28, 2)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("layers.0.o.npy", "w", force_zip64=True) as file:
            file.write(raw.getvalue())
            file.write(bytes(1 << 20))
        archive.writestr("ids.npy", b"not an array")
    assert isinstance(judged(tmp_path / "a.npz"), str)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("layers.0.o.npy", raw.getvalue())
    result = judged(tmp_path / "b.npz", ids=tiny.facts("mixtral")["prompt"])
    assert isinstance(result, str) or "shape: expected" in result.entries[0].reason


@pytest.mark.parametrize("note", [
    "", "[", "{}", '{"dtype": "f32", "shape": [-1]}', '{"dtype": 3, "shape": [1]}',
    '{"dtype": "f99", "shape": [19, 40]}', '{"dtype": "f32", "shape": [19, 4000000]}',
])  # fmt: skip
def test_raw_files(tmp_path, note):
    (tmp_path / "layers.0.o.bin").write_bytes(bytes(19 * 40 * 4))
    (tmp_path / "layers.0.o.json").write_text(note)
    result = judged(tmp_path, ids=tiny.facts("mixtral")["prompt"])
    assert isinstance(result, str) or result.code == 3


def test_one_array_under_two_names(tmp_path, good):
    changed(tmp_path, good)
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    assert "once" in judged(tmp_path)
