"""scripts/example_port/port.c, a port in C99 written from the specification: equal bits on every vector of its ops."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from refmoe import cli, formats, golden, verifier

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "scripts" / "example_port" / "port.c"
OPS = ("add", "argmax", "attention", "combine", "embedding", "expert_linear", "head_norm", "linear", "linear_bias",
       "logits", "rms_norm", "rope_half", "route_softmax_topk", "route_softmax_topk_renorm", "swiglu")  # fmt: skip
FORMATS = ("f32", "bf16", "f16", *(("int_packed",) if "int_packed" in formats.names() else ()))
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")


def build(source: Path, binary: Path) -> Path:
    """The port, compiled as its header says; warnings are errors."""
    flags = ["-std=c99", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run([COMPILER, *flags, "-o", str(binary), str(source), "-lm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return binary


def run(binary: Path, paths: list[Path], folder: Path) -> None:
    """Every case through the port, results under `folder`."""
    for path in paths:
        target = folder / path.relative_to(golden.root())
        target.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([str(binary), str(path), str(target)], capture_output=True, text=True)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"


def cases(ops=OPS, formats=FORMATS) -> list[Path]:
    """The vectors the port must know."""
    return [path for op in ops for path in golden.cases(op=op)] + [
        path for name in formats for path in golden.cases(format=name)]


def statuses(folder: Path, profile: str) -> dict[str, str]:
    """case -> verdict, of the cases that have results."""
    verdicts = verifier.check("golden", folder, profile).verdicts
    return {f"{v.op}/{v.case}": v.status for v in verdicts if v.status != verifier.MISSING}


def verify_port(*arguments):
    """`refmoe verify port`."""
    return CliRunner().invoke(cli.main, ["verify", "port", *map(str, arguments)])


def test_equal_bits_on_every_vector(tmp_path):
    """Without the results at hand: the port sees the inputs only."""
    done = verify_port("--profile", "exact", "--json", build(SOURCE, tmp_path / "port"))
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    found = {f"{case['op']}/{case['case']}": case["status"] for case in report["cases"]}
    assert len(found) == len(cases()) > 120 and set(found.values()) == {verifier.EXACT}
    assert "0 cases failed" in done.stderr and report["reference"] == "golden"


def test_programs_that_fail(tmp_path):
    """One line each: no program, one that has nothing, one that breaks, one that writes nothing, one that hangs."""
    for words, code, line in (
        (["/no/such"], 2, "/no/such: cannot be started: No such file or directory"),
        (["sh", "-c", "exit 3"], 2, "expected a port of some of the 3 cases, found exit code 3 for each"),
        (["sh", "-c", "echo lost >&2; exit 7"], 3, "expected exit code 0, found 7: lost"),
        (["true"], 3, ""),
        (["sh", "-c", "sleep 9"], 3, "expected a result within 0.2 s, found none"),
    ):
        done = verify_port("--op", "add", "--timeout", "0.2", "--", *words)
        assert done.exit_code == code and line in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_another_arithmetic_is_noticed(tmp_path):
    """The same port without fused multiply-add: other bits, and within the bound of another order."""
    text = SOURCE.read_text("utf-8")
    fused, apart = "fmaf(a[k], b[k], lane[k % 16])", "lane[k % 16] + a[k] * b[k]"
    assert fused in text
    (tmp_path / "port.c").write_text(text.replace(fused, apart), "utf-8")
    run(build(tmp_path / "port.c", tmp_path / "port"), cases(("linear",), ()), tmp_path / "mine")
    assert verifier.WRONG in statuses(tmp_path / "mine", "exact").values()
    assert set(statuses(tmp_path / "mine", "f32-any-order").values()) <= {verifier.EXACT, verifier.WITHIN}


def test_what_it_does_not_know_it_says(tmp_path):
    binary = build(SOURCE, tmp_path / "port")
    (path, *_) = golden.cases(op="latent_attention")
    for arguments, code in (([path, tmp_path / "out"], 3), ([SOURCE, tmp_path / "out"], 2), ([path], 2)):
        done = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == code and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
