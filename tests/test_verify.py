"""verify install: exact here, and every kind of damage is found, named and changes digest and exit code."""

import json
import shutil

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

import refmoe
from refmoe import checkpoint, formats, golden, ops, trace, verify
from refmoe.cli import main
from refmoe.errors import TraceError

FEW = ("add", "argmax")  # ops in the copies that are damaged


@pytest.fixture(scope="module")
def report():
    return verify.install()


def test_this_installation_is_exact(report):
    assert report.exact, [line for family in report.families for line in family.failures]
    names = [family.name for family in report.families]
    expected = ["arithmetic", "files", *(f"ops/{n}" for n in ops.names())]
    expected += [f"formats/{n}" for n in formats.names()]
    assert names == [*expected, *(f"tiny/{n}" for n in tiny.NAMES)]
    counts = {family.name: family.cases for family in report.families}
    assert counts["ops/add"] == len(golden.cases(op="add")) and counts["files"] == len(golden.manifest())
    assert counts["tiny/mixtral"] == 3 * len(trace.names(tiny.model("mixtral").program))
    assert report.environment["numerics"] == 1 and report.environment["threads"] >= 1


def test_the_readme_shows_this_digest(report):
    assert f"\nEXACT {report.digest}\n" in (tiny.ROOT / "README.md").read_text("utf-8")


def test_digest_does_not_depend_on_threads(report):
    code = "from refmoe import verify; r = verify.install(); print(r.exact, r.digest, r.environment['threads'])"
    assert tiny.python(code, NUMBA_NUM_THREADS="3").split() == ["True", report.digest, "3"]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A small golden folder of its own: two ops, one model; `golden.root` points to it."""
    source = golden.root()
    root = tmp_path / "golden"
    for name in FEW:
        shutil.copytree(source / "ops" / name, root / "ops" / name)
    shutil.copytree(source / "tiny" / "mixtral", root / "tiny" / "mixtral")
    monkeypatch.setattr(golden, "root", lambda: root)
    monkeypatch.setattr(ops, "names", lambda: FEW)
    monkeypatch.setattr(verify.formats, "names", lambda: ())
    seal(root)
    yield root
    golden.manifest.cache_clear()


def seal(root):
    """Write the manifest of what is there now."""
    import hashlib

    files = {
        path.relative_to(root).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "MANIFEST.json"
    }
    (root / "MANIFEST.json").write_text(json.dumps({"numerics": 1, "files": files}), "utf-8")
    golden.manifest.cache_clear()


def failures() -> list[str]:
    found = verify.install()
    lines = [line for family in found.families for line in family.failures]
    assert found.exact == (not lines)
    assert all("\n" not in line for line in lines)
    return lines


def test_the_copy_itself_is_exact(copy):
    assert failures() == []


def test_another_bit_in_a_trace(copy):
    path = copy / "tiny" / "mixtral" / "trace.safetensors"
    stored = trace.read(path)
    model = tiny.model("mixtral")
    changed = stored["layers.1.attn"]
    changed.view(np.uint32)[3, 7] ^= 1
    trace.write(path, model, stored)
    seal(copy)
    (line,) = failures()
    bits = changed.view(np.uint32)[3, 7]
    assert line.startswith("tiny/mixtral/trace.safetensors: layers.1.attn[3, 7]: expected ")
    assert f"(bits {bits:08x}, {bits ^ 1:08x}); 1 of {changed.size} values differ" in line


def test_a_changed_file(copy):
    path = copy / "ops" / "add" / "residual_first.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    lines = failures()
    assert len(lines) == 2 and all("residual_first.safetensors: sha256: expected" in line for line in lines)
    seal(copy)
    lines = failures()  # the manifest agrees now, the bits do not: both paths
    assert lines and all("ops/add/residual_first.safetensors" in line and "values differ" in line for line in lines)


def test_missing_and_foreign_files(copy):
    (copy / "ops" / "add" / "more.safetensors").write_bytes(b"")
    (copy / "tiny" / "mixtral" / "config.json").rename(copy / "tiny" / "mixtral" / "config.txt")
    lines = failures()
    assert any("more.safetensors: expected an entry in MANIFEST.json" in line for line in lines)
    assert any("config.json: cannot be read: No such file" in line for line in lines)


def test_an_empty_family(copy):
    shutil.rmtree(copy / "ops" / "argmax")
    seal(copy)
    assert failures() == ["golden/ops/argmax: expected at least one case, found none"]


def test_other_weights(copy):
    """A model whose weights were swapped for others: the digest of the checkpoint tells, and so do the bits."""
    file = next((copy / "tiny" / "mixtral").glob("model-*.safetensors"))
    header = checkpoint.read_header(file)
    infos = list(header.tensors.values())
    arrays = dict(zip(header.tensors, checkpoint.read(infos), strict=True))
    arrays["model.embed_tokens.weight"][0] ^= 1
    tensors = {info.name: (info.dtype, info.shape, arrays[info.name]) for info in infos}
    checkpoint.write(file, tensors, header.metadata)
    seal(copy)
    lines = failures()
    assert any(line.startswith("tiny/mixtral/trace.safetensors: checkpoint_digest: expected") for line in lines)


def test_a_wrong_kernel(copy, monkeypatch):
    right = verify.install().digest
    plain = ops.get("add").plain
    monkeypatch.setattr(ops.get("add"), "plain", lambda a, b: np.nextafter(plain(a, b), np.float32(np.inf)))
    found = verify.install()
    broken = [family.name for family in found.families if family.failures]
    assert not found.exact and found.digest != right and "ops/add" in broken and "ops/argmax" not in broken
    assert "(plain): y[0, 0]: expected" in next(f for f in found.families if f.name == "ops/add").failures[0]


def test_without_golden_data(tmp_path, monkeypatch):
    def nothing():
        raise TraceError("golden vectors: expected a folder, found none")

    monkeypatch.setattr(golden, "root", nothing)
    result = CliRunner().invoke(main, ["verify", "install"])
    assert result.exit_code == 1 and result.stderr.strip().splitlines()[-1].startswith("refmoe: error: golden vectors")


def test_command(copy):
    result = CliRunner().invoke(main, ["verify", "install"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"refmoe {refmoe.__version__}, numerics 1, python ") and lines[-1].startswith("EXACT ")
    assert [line.split()[0] for line in lines[2:-1]] == ["family", "arithmetic", "files", "ops/add", "ops/argmax",
                                                        "tiny/mixtral", "all"]  # fmt: skip
    assert "refmoe: tiny/mixtral" in result.stderr.splitlines()


def test_command_with_json_and_damage(copy):
    result = CliRunner().invoke(main, ["verify", "install", "--json"])
    facts = json.loads(result.stdout)
    assert result.exit_code == 0 and facts["exact"] and facts["failures"] == [] and len(facts["digest"]) == 64
    (copy / "ops" / "add" / "residual_first.safetensors").unlink()
    result = CliRunner().invoke(main, ["verify", "install", "--json"])
    facts = json.loads(result.stdout)
    assert result.exit_code == 1 and not facts["exact"] and "residual_first" in facts["failures"][0]
    text = CliRunner().invoke(main, ["verify", "install"])
    assert text.exit_code == 1 and text.stdout.splitlines()[-1].startswith("NOT EXACT ")
