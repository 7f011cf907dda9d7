"""refmoe vectors and refmoe check from the command line: exported folders, results in every form, exit codes."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from refmoe import golden
from refmoe.checkpoint import read_header, write
from refmoe.cli import main
from refmoe.numerics import codecs
from tests.ports import bf16
from tests.verifier import schema

OP = "rms_norm"


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def one_line(result):
    lines = [line for line in result.stderr.splitlines() if not line.startswith("refmoe: compiling")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Vectors of two ops and a format."""
    folder = tmp_path_factory.mktemp("vectors") / "v"
    result = call("vectors", "export", OP, "route_softmax_topk_renorm", "bf16", "-o", folder)
    assert result.exit_code == 0 and result.stdout == "", result.output
    return folder


@pytest.fixture(scope="module")
def cases(exported):
    return {case["path"]: golden.load(exported / case["path"]) for case in
            json.loads((exported / "MANIFEST.json").read_text())["cases"]}  # fmt: skip


@pytest.fixture
def port(tmp_path, exported, cases):
    """A folder of results that are all right; the function in `change` may exchange those of a path."""
    def make(change=lambda path, outputs: outputs, only=""):
        folder = tmp_path / "mine"
        for path, case in cases.items():
            with np.errstate(all="ignore"):
                outputs = change(path, {name: array.copy() for name, array in case.expected.items()})
            if outputs is None or only not in path:
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            kinds = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}
            write(folder / path, {n: (kinds[a.dtype], a.shape, np.ascontiguousarray(a)) for n, a in outputs.items()})
        return folder

    return make


def test_list():
    result = call("vectors", "list", "--bug", "r15")
    assert result.exit_code == 0 and "route_softmax_topk/tie_at_cut" in result.stdout
    listed = json.loads(call("vectors", "list", OP, "--json").stdout)
    assert {entry["case"] for entry in listed} == {path.stem for path in golden.cases(op=OP)}
    assert all(entry["hunts"] and entry["outputs"] for entry in listed)
    assert call("vectors", "list").stdout.count("\n") == len(golden.cases())


@pytest.mark.parametrize(("args", "message"), [
    (("list", "no_op"), "expected an op or a format, found 'no_op'"),
    (("list", "--bug", "R99"), "expected an id like R01"),
    (("list", "rms_norm/no_case"), "expected a case of rms_norm"),
    (("list", "rms_norm", "--op", "linear"), "only one of them"),
    (("export", "-o", "x"), "give an op"),
    (("export", OP, "-o", ""), "expected a folder"),
    (("export", OP), "Missing option '-o'"),
])  # fmt: skip
def test_usage_of_vectors(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("vectors", *args)
    assert result.exit_code == 2 and message in one_line(result) and not list(tmp_path.iterdir())


def test_export_has_what_a_stranger_needs(exported, cases):
    manifest = json.loads((exported / "MANIFEST.json").read_text())
    rules = json.loads((exported / "schemas" / "vectors.schema.json").read_text())
    assert schema.problems(manifest, rules) == []
    assert schema.problems(manifest | {"blind": 1}, rules)
    assert (exported / "README.md").is_file() and (exported / "catalogue.json").is_file()
    for entry in manifest["cases"]:
        assert (exported / entry["path"]).stat().st_size == entry["bytes"]
    sums = read_header(exported / "bounds" / "ops" / OP / "wide_row.safetensors")
    assert {"y.value", "y.within.bf16", "y.within.f32-any-order"} == set(sums.tensors)


def test_export_refuses_a_folder_with_other_things(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    result = call("vectors", "export", OP, "-o", tmp_path)
    assert result.exit_code == 2 and "expected an empty or new folder" in one_line(result)


def test_all_exact(exported, port):
    result = call("check", exported, port())
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("CONFORMING under f32-any-order:")
    assert call("check", exported, exported).exit_code == 0


def test_blind_export_is_judged_by_the_package(tmp_path, port):
    folder = tmp_path / "blind"
    assert call("vectors", "export", OP, "--blind", "-o", folder).exit_code == 0
    for path in (folder / "ops" / OP).iterdir():
        assert "y" not in read_header(path).tensors and "x" in read_header(path).tensors
    assert not (folder / "bounds").exists()
    assert call("check", folder, port(only=OP)).exit_code == 0
    wrong = port(lambda path, outputs: {name: array * 2 for name, array in outputs.items()}, only=OP)
    assert call("check", folder, wrong).exit_code == 1


def test_wrong_results_are_described_and_named(exported, cases, port):
    def change(path, outputs):
        if OP in path:
            case = cases[path]
            scale = 1 / np.sqrt((case.inputs["x"].astype(float) ** 2).mean(axis=1, keepdims=True) + 1e-6)
            with np.errstate(all="ignore"):
                outputs["y"] = (case.inputs["x"] * scale * case.inputs["w"]).astype(np.float32)
        return outputs

    result = call("check", exported, port(change))
    assert result.exit_code == 1
    assert "WRONG rms_norm/eps_dominates" in result.stdout and "looks like A14" in result.stdout
    assert "WRONG rms_norm/wide_row" not in result.stdout  # there eps makes no difference
    assert result.stdout.splitlines()[-1].startswith("NOT CONFORMING")


def test_json_fits_its_schema(exported, port):
    def change(path, outputs):
        return {name: array + array.dtype.type(1) for name, array in outputs.items()}

    rules = json.loads((golden.root() / "schemas" / "check.schema.json").read_text())
    for folder in (port(), port(change)):
        facts = json.loads(call("check", exported, folder, "--json").stdout)
        assert schema.problems(facts, rules) == []
    assert facts["code"] == 1 and facts["counts"]["wrong"] > 20
    assert schema.problems(facts | {"code": 2}, rules)


def test_missing_results(exported, port):
    result = call("check", exported, port(only=OP))
    assert result.exit_code == 3 and "no result for" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("INCOMPLETE")
    wrong = port(lambda path, outputs: {n: a + 1 for n, a in outputs.items()}, only="wide_row")
    assert call("check", exported, wrong).exit_code == 1  # wrong weighs more than missing


def test_weights_without_ids_are_incomplete(exported, port):
    """V03: weights alone may look right although other experts were chosen."""
    folder = port(lambda path, outputs: {"weights": outputs["weights"]} if "route" in path else outputs)
    result = call("check", exported, folder)
    assert result.exit_code == 3 and "route_softmax_topk_renorm: no result for" in result.stdout


@pytest.mark.parametrize("form", ["npz", "npy", "bin", "bin16", "folder", "flat", "unnamed"])
def test_every_form_of_results(tmp_path, exported, cases, form):
    mine = tmp_path / "mine"
    for path, case in cases.items():
        if OP not in path or "wide" not in path:
            continue
        base = mine / (path if form != "flat" else path.partition("/")[2])
        base = base.with_suffix("")
        base.parent.mkdir(parents=True, exist_ok=True)
        y = case.expected["y"]
        if form in ("npz", "flat"):
            np.savez(f"{base}.npz", y=y.astype(np.float64))
        elif form == "npy":
            np.save(f"{base}.y.npy", np.asfortranarray(y))
        elif form == "bin":
            y.tofile(f"{base}.y.bin")
        elif form == "bin16":
            codecs.f32_to_bf16(y).tofile(f"{base}.y.bin")
            (base.parent / f"{base.name}.y.json").write_text('{"dtype": "bf16", "shape": [3, 1000]}')
        elif form == "folder":
            base.mkdir()
            np.save(base / "y.npy", y)
        else:
            write(base.with_suffix(".safetensors"), {"out": ("F32", y.shape, y)})
    args = ("--profile", "bf16") if form == "bin16" else ()
    facts = json.loads(call("check", exported, mine, "--json", *args).stdout)
    found = {f"{case['op']}/{case['case']}": case["status"] for case in facts["cases"]}
    assert found["rms_norm/wide_row"] == ("WITHIN" if form == "bin16" else "EXACT")


@pytest.mark.parametrize("broken", [b"", b"\x00" * 40, b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00 no array",
                                    b"\xff" * 64])  # fmt: skip
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".y.npy", ".y.bin"])
def test_broken_results_are_one_line(exported, port, broken, suffix):
    folder = port()
    path = folder / "ops" / OP / "wide_row"
    path.with_suffix(".safetensors").unlink()
    (path.parent / f"wide_row{suffix}").write_bytes(broken)
    result = call("check", exported, folder)
    assert result.exit_code == 1 and "Traceback" not in result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("  y: ")]
    assert f"wide_row{suffix}" in line


def test_a_huge_shape_takes_no_memory(exported, port):
    folder = port()
    path = folder / "ops" / OP / "wide_row.safetensors"
    path.unlink()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"
    raw = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    (path.parent / "wide_row.y.npy").write_bytes(raw)
    result = call("check", exported, folder)
    assert result.exit_code == 1 and "expected numbers" in result.stdout


def test_shapes_and_types(exported, port):
    def change(path, outputs):
        if "wide_row" in path:
            outputs["y"] = outputs["y"].T.copy()
        return outputs

    result = call("check", exported, port(change))
    assert result.exit_code == 1 and "shape: expected [3, 1000], found [1000, 3]" in result.stdout


def test_profiles_of_the_port(exported, port):
    """A bf16 port is within bf16, not within binary32; profile.toml beside the results counts."""
    folder = port(lambda path, outputs: {n: bf16(a) if a.dtype == np.float32 else a for n, a in outputs.items()})
    assert call("check", exported, folder).exit_code == 1
    assert call("check", exported, folder, "--profile", "exact").exit_code == 1
    result = call("check", exported, folder, "--profile", "bf16")
    assert result.exit_code == 0 and "CONFORMING under bf16" in result.stdout
    (folder / "profile.toml").write_text('based_on = "bf16"\nname = "mine"\n')
    result = call("check", exported, folder)
    assert result.exit_code == 0 and "CONFORMING under mine" in result.stdout


@pytest.mark.parametrize(("text", "message"), [
    ('based_on = "fp64"', "based_on: expected one of exact"),
    ('output = "bf17"', "output: expected one of f32"),
    ("exp_ulp = 1e9", "exp_ulp: expected a number from 0.5"),
    ("tolerance = 1e-3", "tolerance: expected one of input"),
    ("[at.linear]\nspeed = 1", "at.linear: speed: expected one of"),
    ("exact = 1", "exact: expected true or false"),
    ("input_group = -1", "input_group: expected a number"),
    ('name = ""', "name: expected a short text"),
    ("output = ", "expected TOML"),
])  # fmt: skip
def test_bad_profiles(tmp_path, exported, text, message):
    path = tmp_path / "port.toml"
    path.write_text(text)
    result = call("check", exported, exported, "--profile", path)
    assert result.exit_code == 2 and message in one_line(result)


def test_usage(tmp_path, exported):
    for args, message in (((tmp_path / "none", exported), "expected golden or a folder"),
                          ((exported, tmp_path / "none"), "expected a folder of results"),
                          ((tmp_path, exported), "found no .safetensors file"),
                          ((exported, exported, "--profile", "fp1"), "expected a file or one of exact")):  # fmt: skip
        result = call("check", *args)
        assert result.exit_code == 2 and message in one_line(result)


def test_unused_files_are_mentioned(exported, port):
    folder = port()
    shutil.copy(folder / "ops" / OP / "wide_row.safetensors", folder / "extra.safetensors")
    result = call("check", exported, folder)
    assert result.exit_code == 0 and "extra.safetensors" in result.stderr


def test_golden_is_a_reference(port):
    assert call("check", "golden", port()).exit_code == 3
