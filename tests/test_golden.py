"""The golden folder: its manifest, its reader and what the reader refuses, its generator."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refmoe import NUMERICS_VERSION, formats, golden, ops
from refmoe.checkpoint import read_header, write
from refmoe.errors import ProgramError, TraceError, UsageError

ROOT = Path(__file__).parent.parent
LINEAR = ("linear", "partial_lanes")
CATALOGUED = (
    "A01 A02 A03 A04 A05 A07 A08 A09 A10 A11 A12 A14 A16 E01 E03 E05 E06 E08 E10 N01 N02 N03 N04 N05 "
    "Q01 Q02 Q03 Q04 Q05 Q06 Q07 Q08 Q09 Q12 Q13 Q15 Q16 Q17 Q18 Q19 R01 R02 R03 "
    "R04 R05 R06 R07 R08 R09 R10 R11 R12 R13 R14 R15 R16 R17 R18 R19 R20 R21 R22 R23 W01 W02"
)


def path_of(op, name):
    return golden.root() / "ops" / op / f"{name}.safetensors"


def vector(**changes):
    """(tensors for write, metadata) of a good vector, some metadata replaced; None leaves a key out."""
    case = golden.load(path_of(*LINEAR))
    tensors = {name: ("F32", array.shape, array) for name, array in case.tensors.items()}
    metadata = read_header(path_of(*LINEAR)).metadata | changes
    return tensors, {key: value for key, value in metadata.items() if value is not None}


def test_every_file_is_listed_and_every_entry_exists():
    found = {path.relative_to(golden.root()).as_posix() for path in golden.root().rglob("*") if path.is_file()}
    assert found - {"MANIFEST.json", "README.md"} == set(golden.manifest())
    for name, entry in golden.manifest().items():
        content = (golden.root() / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"]), name


def test_every_op_and_format_has_vectors_that_load():
    loaded = [golden.load(path) for path in golden.cases()]
    assert {case.op for case in loaded if case.op} == set(ops.names())
    assert {case.format for case in loaded if case.format} == set(formats.names())
    assert all(case.hunts and case.name == path.stem for case, path in zip(loaded, golden.cases(), strict=True))
    assert sum(path.stat().st_size for path in golden.cases() if "/ops/" in path.as_posix()) < 1_500_000


def test_selection():
    assert golden.cases(op="linear") == sorted((golden.root() / "ops" / "linear").glob("*.safetensors"))
    assert golden.cases(format="bf16") == sorted((golden.root() / "formats" / "bf16").glob("*.safetensors"))
    assert {path.stem for path in golden.cases(bug="A16")} == {"grouped_heads"}
    assert golden.cases(op="linear", bug="A16") == []
    with pytest.raises(ProgramError, match="op: expected one of"):
        golden.cases(op="no_op")


def test_catalogued_bugs_with_a_vector():
    """Each id is also proved to be killed, in tests/ops and tests/formats."""
    found = {bug for path in golden.cases() for bug in golden.load(path).bugs}
    assert found >= set(CATALOGUED.split()) and all(re.fullmatch(r"[A-Z]\d\d", bug) for bug in found)


def test_attributes_are_exact():
    case = golden.load(path_of("rms_norm", "eps_dominates"))
    assert np.float32(case.attrs["eps"]) == case.attrs["eps"] and case.attrs["eps"] == float(np.float32(1e-5))


def test_a_rebuilt_input():
    """What the metadata says of a random input is enough to make it again."""
    from refmoe.numerics import counter

    case = golden.load(path_of(*LINEAR))
    sources = json.loads(read_header(path_of(*LINEAR)).metadata["generator"])
    assert sources["x"] == "normal(seed=1, stream='ops/linear/partial_lanes/x', scale=1.0)"
    values = counter.fill_normal(1, counter.stream_of("ops/linear/partial_lanes/x"), case.tensors["x"].size, 1.0)
    assert np.array_equal(values.reshape(case.tensors["x"].shape), case.tensors["x"])


def test_same():
    a = np.array([1.0, np.nan, 0.0], np.float32)
    other_nan = np.array([1.0, np.uint32(0xFFC00001).view(np.float32), 0.0], np.float32)
    assert golden.same(a, other_nan)
    assert not golden.same(a, np.array([1.0, np.nan, -0.0], np.float32))
    assert not golden.same(a, np.array([np.nan, np.nan, 0.0], np.float32))
    assert not golden.same(a, a.astype(np.float64)) and not golden.same(a, a[:2])


def test_unknown_path_is_refused():
    with pytest.raises(UsageError, match="path: expected plain or fast, found 'quick'"):
        golden.run(golden.load(path_of(*LINEAR)), "quick")


@pytest.mark.parametrize(("changes", "message"), [
    ({"numerics": "99"}, "numerics '99', expected 1"),
    ({"numerics": None}, "numerics"),
    ({"case": None}, "case"),
    ({"attrs": "{"}, "expected the keys of a vector"),
    ({"attrs": "[]"}, "attrs, outputs or bugs"),
    ({"outputs": '["z"]'}, "linear: expected tensors x, w, y"),
    ({"op": None}, "op and format, expected one of them"),
    ({"format": "bf16"}, "op and format, expected one of them"),
    ({"op": "no_op"}, "no_op"),
    ({"op": "../linear"}, "linear"),
    ({"op": "linear_bias"}, "linear_bias: expected tensors x, w, b, y"),
    ({"attrs": '{"eps": 0.1}', "attrs_bits": '{"eps": "3dcccccc"}'}, "eps: expected the binary32 3dcccccc, found 0.1"),
    ({"attrs_bits": None}, "attrs_bits"),
    ({"op": None, "format": "bf16"}, "bf16: expected one result decoded"),
    ({"op": None, "format": "no_format", "outputs": '["decoded"]'}, "no_format"),
])  # fmt: skip
def test_bad_metadata_is_refused_in_one_line(tmp_path, changes, message):
    path = tmp_path / "case.safetensors"
    write(path, *vector(**changes))
    with pytest.raises(TraceError) as caught:
        golden.load(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "replacement", "message"), [
    ("x", ("F64", (2, 37), np.zeros((2, 37))), "x: dtype: expected F32"),
    ("x", ("I64", (2, 37), np.zeros((2, 37), np.int64)), "x: expected f32, found int64"),
    ("x", ("F32", (2, 36), np.zeros((2, 36), np.float32)), "axis K"),
    ("y", ("F32", (2, 4), np.zeros((2, 4), np.float32)), "y: expected shape [2, 5], found [2, 4]"),
    ("z", ("F32", (1,), np.zeros(1, np.float32)), "expected tensors x, w, y"),
])  # fmt: skip
def test_bad_tensors_are_refused_in_one_line(tmp_path, name, replacement, message):
    path, (tensors, metadata) = tmp_path / "case.safetensors", vector()
    write(path, tensors | {name: replacement}, metadata)
    with pytest.raises(TraceError) as caught:
        golden.load(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    path = tmp_path / "case.safetensors"
    for content in (b"", b"\x80\x04pickle", b"{}" * 100):
        path.write_bytes(content)
        with pytest.raises(TraceError):
            golden.load(path)
    with pytest.raises(TraceError):
        golden.load(tmp_path / "absent.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A golden folder of one good vector with its manifest."""
    path = tmp_path / "ops" / "linear" / "case.safetensors"
    path.parent.mkdir(parents=True)
    write(path, *vector())
    content = path.read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest = {"numerics": NUMERICS_VERSION, "files": {"ops/linear/case.safetensors": entry}}
    (tmp_path / "MANIFEST.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(golden, "root", lambda: tmp_path)
    golden.manifest.cache_clear()
    yield tmp_path
    golden.manifest.cache_clear()


def test_a_file_with_other_bytes_than_the_manifest_is_refused(folder):
    path = folder / "ops" / "linear" / "case.safetensors"
    golden.load(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"sha256: expected .*, found"):
        golden.load(path)


def test_a_file_that_is_not_listed_is_refused(folder):
    listed = folder / "ops" / "linear" / "case.safetensors"
    (folder / "ops" / "linear" / "other.safetensors").write_bytes(listed.read_bytes())
    with pytest.raises(TraceError, match=r"expected an entry in MANIFEST.json, found none"):
        golden.cases(bug="N03")


@pytest.mark.parametrize("content", [
    "", "[]", "{}", '{"numerics": 99, "files": {}}', '{"numerics": 1, "files": []}',
    '{"numerics": 1, "files": {"ops/linear/case.safetensors": 3}}',
])  # fmt: skip
def test_a_bad_manifest_is_refused(folder, content):
    (folder / "MANIFEST.json").write_text(content)
    golden.manifest.cache_clear()
    with pytest.raises(TraceError, match="MANIFEST"):
        golden.load(folder / "ops" / "linear" / "case.safetensors")


def generator(*arguments):
    return subprocess.run([sys.executable, str(ROOT / "scripts" / "make_golden.py"), *arguments], capture_output=True,
                          text=True, timeout=300)


def test_the_generator_makes_the_same_bits_again():
    done = generator("check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_generator_refuses_to_change_bits(monkeypatch, tmp_path, capsys):
    """A changed result, a changed word; a new case is fine; --new-version needs another version in the file."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import make_golden

    monkeypatch.setattr(make_golden, "GOLDEN", tmp_path)
    arrays = {"x": np.ones(3, np.float32)}
    case = {"ops/add/new.safetensors": (arrays, {"numerics": str(NUMERICS_VERSION)})}
    changed = {"ops/add/new.safetensors": ({"x": -arrays["x"]}, {"numerics": str(NUMERICS_VERSION)})}
    assert make_golden.save(case, False) == 0 and make_golden.save(case, False) == 0
    before = (tmp_path / "ops/add/new.safetensors").read_bytes()
    assert make_golden.save(changed, False) == 1 and make_golden.save(changed, True) == 1
    assert "refused: x would change under numerics" in capsys.readouterr().out
    assert (tmp_path / "ops/add/new.safetensors").read_bytes() == before
    old = {"ops/add/new.safetensors": (arrays, {"numerics": "0"})}
    (tmp_path / "ops/add/new.safetensors").unlink()
    assert make_golden.save(old, False) == 0
    assert make_golden.save(changed, False) == 1 and make_golden.save(changed, True) == 0
