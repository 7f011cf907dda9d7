"""The command line: results on stdout, one line on stderr, exit codes; a tiny checkpoint where a model is needed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

import refmoe
from refmoe.cli import main
from tests import fakes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny Mixtral with the byte-fallback tokenizer."""
    folder = fakes.write_checkpoint(tmp_path_factory.mktemp("tiny"))
    return str(fakes.write_tokenizer(folder, fakes.fallback()))


def call(*args, stdin=None):
    return CliRunner().invoke(main, [str(a) for a in args], input=stdin)


def only_line(stderr):
    """The one line on stderr, besides what a first run says."""
    lines = [line for line in stderr.splitlines() if not line.startswith("refmoe: compiling kernels")]
    assert len(lines) == 1, stderr
    return lines[0]


def fails(code, message, *args, stdin=None):
    """The call ends with this exit code, one line on stderr that holds the message, and nothing on stdout."""
    result = call(*args, stdin=stdin)
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    line = only_line(result.stderr)
    assert line.startswith("refmoe: error: ") and message in line and result.stdout == ""


def process(*args, **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-m", "refmoe", *map(str, args)], capture_output=True, env=environment,
                          timeout=120, **options)  # fmt: skip


def test_version_and_help():
    assert call("--version").stdout == f"refmoe {refmoe.__version__}\n"
    for args in ((), ("-h",), ("--help",)):
        result = call(*args)
        assert result.exit_code == 0 and "generate" in result.stdout and "Shell completion" in result.stdout
    for command in main.list_commands(None):
        assert call(command, "-h").exit_code == 0


def test_help_and_import_need_no_numba():
    code = (
        "import sys, refmoe\n"
        "from refmoe.cli import main\n"
        "try: main(['generate', '-h'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numba', 'numpy', 'tokenizers') if m in sys.modules], file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=60)
    assert result.stderr.decode().strip() == "[]"


def test_lazy_names():
    assert callable(refmoe.load) and "load" in dir(refmoe)
    with pytest.raises(AttributeError, match="no attribute 'nix'"):
        refmoe.nix  # noqa: B018


def test_generate_text_and_json_agree(tiny):
    plain = call("generate", "-m", tiny, "once", "--max-tokens", 8)
    assert plain.exit_code == 0, plain.output
    result = json.loads(call("generate", "-m", tiny, "once", "--max-tokens", 8, "--json").stdout)
    assert set(result) == {"ids", "text", "finish_reason", "prompt_ids", "logprobs", "timings", "digest"}
    assert result["logprobs"] is None and len(result["ids"]) <= 8 and result["finish_reason"] in ("length", "eos")
    assert plain.stdout == result["text"] + "\n"
    assert result["digest"][:16] in only_line(plain.stderr)
    again = call("generate", "-m", tiny, "--ids", ",".join(map(str, result["prompt_ids"])), "--max-tokens", 8, "--json")
    assert json.loads(again.stdout)["digest"] == result["digest"]
    model = refmoe.load(tiny)
    assert [step.id for step in model.generate(model.encode("once"), max_tokens=8)] == result["ids"]


def test_generate_logprobs(tiny):
    args = ("generate", "-m", tiny, "--ids", "1,5", "--max-tokens", 3, "--logprobs", 2)
    tokens = json.loads(call(*args, "--json").stdout)["logprobs"]
    assert len(tokens) == 3 and set(tokens[0]) == {"id", "text", "logprob", "top"}
    assert tokens[0]["top"][0]["id"] == tokens[0]["id"] and len(tokens[0]["top"]) == 2
    lines = call(*args).stdout.splitlines()
    assert len(lines) == 3 and lines[0].split()[0] == str(tokens[0]["id"]) and lines[0].count("\t") == 2


def test_generate_from_stdin(tiny):
    args = ("generate", "-m", tiny, "-", "--max-tokens", 1, "--json")
    for stdin in (b"once", b"once\n", b"once\r\n"):
        expected = [1, 259, *(260 + ord(c) - 97 for c in "once")]
        assert json.loads(call(*args, stdin=stdin).stdout)["prompt_ids"] == expected
    assert json.loads(call(*args, stdin=b"").stdout)["prompt_ids"] == [1]
    assert len(json.loads(call(*args, stdin=b"a\0b\n\n").stdout)["prompt_ids"]) == 5
    fails(1, "stdin: not UTF-8 at byte 2", *args, stdin=b"ab\xff")


def test_special_tokens_of_the_prompt(tiny):
    def ids(*extra):
        args = ("generate", "-m", tiny, "a</s>", "--max-tokens", 1, "--json", *extra)
        return json.loads(call(*args).stdout)["prompt_ids"]

    assert 2 not in ids() and ids("--special")[-1] == 2


def test_sampling_options_reach_the_sampler(tiny):
    def ids(*extra):
        args = ("generate", "-m", tiny, "--ids", "1", "--max-tokens", 4, "--json", *extra)
        return json.loads(call(*args).stdout)["ids"]

    hot = ("--temperature", 5)
    assert ids(*hot, "--seed", 1) == ids(*hot, "--seed", 1) != ids(*hot, "--seed", 2)
    assert ids(*hot, "--top-k", 1) == ids(*hot, "--top-p", 1e-9) == ids(*hot, "--min-p", 1) == ids()
    assert ids("--kv-dtype", "bf16") and ids("--threads", 1) == ids()


def test_usage_errors(tiny):
    fails(2, "give PROMPT (- for stdin) or --ids", "generate", "-m", tiny)
    fails(2, "give PROMPT (- for stdin) or --ids", "generate", "-m", tiny, "x", "--ids", "1")
    fails(2, "give --prompt or --ids", "trace", "-m", tiny)
    fails(2, "expected token ids like 1,2,3", "generate", "-m", tiny, "--ids", "1,x")
    fails(2, "expected token ids like 1,2,3", "generate", "-m", tiny, "--ids", "")
    fails(2, "ids[1]: expected an integer from 0 to 289, found 290", "generate", "-m", tiny, "--ids", "1,290")
    fails(2, "No such command 'nix'", "nix")
    fails(2, "Missing command", "verify")
    fails(2, "--synthetic: expected one of ", "bench", "--synthetic", "nix")
    fails(2, "No such option", "generate", "x", "--nix")
    fails(2, "prompt has 100 tokens, the model's context is 64", "generate", "-m", tiny, "--ids", "1," * 99 + "1")
    for option, value in (("temperature", "-1"), ("temperature", "nan"), ("temperature", "inf"), ("top-p", "0"),
                          ("top-p", "2"), ("top-k", "-1"), ("min-p", "-1"), ("seed", "-1"), ("seed", str(2**70)),
                          ("max-tokens", "0"), ("max-tokens", "1000000000000"), ("stop", ""), ("logprobs", "-1"),
                          ("repetition-penalty", "0"), ("threads", "0"), ("kv-dtype", "f64")):  # fmt: skip
        name = option if option in ("threads", "kv-dtype") else option.replace("-", "_")
        fails(2, name, "generate", "-m", "not-looked-at", "x", f"--{option}={value}")


def test_errors_are_one_line(tiny, tmp_path):
    fails(1, "error: '': no such directory", "info", "-m", "")
    fails(1, "no such directory", "generate", "-m", tmp_path / "nix" / "nix", "x")
    bare = fakes.write_checkpoint(tmp_path / "bare", bos_token_id=None)
    fails(1, "no tokenizer.json, so text cannot be used; give token ids", "generate", "-m", bare, "x")
    fakes.write_tokenizer(bare, fakes.byte_level())
    fails(2, "the prompt is empty and the model has no bos_token_id", "generate", "-m", bare, "")
    fails(1, "is a lone surrogate", "generate", "-m", tiny, "a\udcff")
    (bare / "tokenizer.json").write_text("{}")
    fails(1, "tokenizer.json", "generate", "-m", bare, "--ids", "1")


def test_a_tokenizer_panic_is_one_line(tmp_path):
    split = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
    folder = fakes.write_checkpoint(tmp_path / "panic")
    fakes.write_tokenizer(folder, fakes.byte_level() | {"pre_tokenizer": split})
    result = process("generate", "-m", folder, "x" * 28 + "z")
    assert result.returncode == 1 and result.stdout == b""
    assert "retry-limit" in only_line(result.stderr.decode())


def test_internal_errors_and_debug(tiny, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("first\nsecond")

    monkeypatch.setattr("refmoe.load", broken, raising=False)
    result = call("generate", "-m", tiny, "x")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("refmoe: internal error: ValueError: first second (")
    assert isinstance(call("--debug", "generate", "-m", tiny, "x").exception, ValueError)
    for error, code, line in ((KeyboardInterrupt(), 130, ""), (BrokenPipeError(), 141, ""),
                              (MemoryError("no room"), 1, "refmoe: error: not enough memory: no room\n"),
                              (OSError(28, "No space left on device"), 1,
                               "refmoe: error: input or output: No space left on device\n")):  # fmt: skip
        monkeypatch.setattr("refmoe.load", lambda *a, error=error, **k: (_ for _ in ()).throw(error), raising=False)
        result = call("generate", "-m", tiny, "x")
        assert result.exit_code == code and result.stderr.lstrip("\n") == line and result.stdout == ""


def test_info(tiny, tmp_path):
    facts = json.loads(call("info", "-m", tiny, "--json").stdout)
    assert facts["architecture"] == "mixtral" and facts["dims"]["E"] == 4
    weights = facts["weights"]
    assert weights["bytes"]["f32"] == sum(r["bytes"] for n, r in weights["roles"].items() if "norm" not in n)
    counts = facts["parameters"]
    assert weights["bytes_per_token"] == 4 * (counts["multiplied"] + 24 + counts["vectors"])
    text = call("info", "-m", tiny).stdout
    assert f"{counts['total']:,} total" in text and "config keys ignored" in text and "top-2" in text
    (tmp_path / "config.json").write_text(json.dumps(fakes.TINY))
    assert "only the config was checked" in call("info", "-m", tmp_path).stdout
    assert json.loads(call("info", "-m", tmp_path, "--json").stdout)["weights"] is None
    fails(1, "config.json", "info", "-m", fakes.write_tokenizer(tmp_path / "none", {}))


def test_program(tiny):
    text = call("program", "-m", tiny).stdout
    assert "block" in text and "route_softmax_topk_renorm" in text
    program = json.loads(call("program", "-m", tiny, "--json").stdout)
    assert program["digest"] in text


def test_spec_clause():
    assert call("spec", "sampler").stdout.startswith("### 6.1 sampler\n")
    assert call("spec", "rms_norm").stdout.startswith("### 4.2 rms_norm\n")
    fails(2, "clause: expected one of ", "spec", "nix")
    fails(2, "leave NAME out", "spec", "rms_norm", "--check")


def test_trace(tiny, tmp_path):
    listing = call("trace", "-m", tiny, "--ids", "1,5", "--points", "layers.*.route_ids", "--steps", 1).stdout
    assert "layers.1.route_ids int64 [2, 2]" in listing and "steps.0.layers.0.route_ids" in listing
    file = tmp_path / "t.safetensors"
    assert call("trace", "-m", tiny, "--prompt", "a", "-o", file).exit_code == 0 and file.stat().st_size > 1000
    fails(2, "--output: expected a file name", "trace", "-m", tiny, "--ids", "1", "-o", "")


@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
def test_interrupt_and_broken_pipe(tiny):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import time, refmoe\nfrom refmoe.cli import main\nrefmoe.load = lambda *a, **k: time.sleep(60)\nmain()"
    child = subprocess.Popen([sys.executable, "-c", code, "generate", "-m", tiny, "x"], env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    time.sleep(3)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130 and err.strip() == b""
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run([sys.executable, "-m", "refmoe", "spec", "rms_norm"], env=environment, stdout=writer,
                           stderr=subprocess.PIPE, timeout=60)  # fmt: skip
    os.close(writer)
    assert child.returncode == 141 and child.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("args", [("spec", "rms_norm"), ("--version",)])
def test_full_disk_on_stdout(args):
    with open("/dev/full", "w") as full:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.run([sys.executable, "-m", "refmoe", *args], env=environment, stdout=full,
                               stderr=subprocess.PIPE, timeout=60)  # fmt: skip
    assert child.returncode == 1
    assert child.stderr.decode() == "refmoe: error: input or output: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_closed_streams_and_full_disk_on_stderr(tiny):
    def run(args, redirection):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = f'"$0" -m refmoe {args} {redirection}'
        done = subprocess.run(["sh", "-c", command, sys.executable], env=environment, capture_output=True, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    refused = (1, "", "refmoe: error: input or output: Bad file descriptor\n")
    assert run("spec rms_norm", ">&-") == run("--version", ">&-") == run("generate -", "<&-") == refused
    version = (0, f"refmoe {refmoe.__version__}\n", "")
    assert run("--version", "<&-") == run("--version", "2>&-") == version
    for redirection in ("2>&-", "2>/dev/full")[: 1 + os.path.exists("/dev/full")]:
        code, out, _ = run(f"generate -m '{tiny}' a --max-tokens 2", redirection)
        assert code == 0 and out
        assert run("info -m nowhere/at/all", redirection) == (1, "", "")


def test_more_threads_than_processors(tiny):
    result = process("generate", "-m", tiny, "--ids", "1", "--max-tokens", "2", "--threads", "7", "--json")
    assert result.returncode == 0, result.stderr
    single = process("generate", "-m", tiny, "--ids", "1", "--max-tokens", "2", "--threads", "1", "--json")
    assert json.loads(result.stdout)["digest"] == json.loads(single.stdout)["digest"]


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "99999"])
def test_number_of_threads_in_the_environment(tiny, value):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_NUM_THREADS": value}
    child = subprocess.run([sys.executable, "-m", "refmoe", "generate", "-m", tiny, "x"], env=environment,
                           capture_output=True, timeout=60)  # fmt: skip
    line = f"refmoe: error: NUMBA_NUM_THREADS: expected a number from 1 to 4096, found {value!r}\n"
    assert (child.returncode, child.stdout, child.stderr.decode()) == (2, b"", line)


def test_loading_progress(monkeypatch, capsys):
    from refmoe.cli import _shared

    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = _shared._Progress()
    for second in (0, 0.5, 2, 3, 4):
        now[0] = second
        progress(int(25e6 * second), int(1e8))
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "refmoe: loading 0.1 GB...",
    ]
    progress = _shared._Progress()
    progress._terminal = True
    for now[0] in (4, 6, 7):
        progress(int(10e6 * now[0]), int(1e8))
    progress.close()
    assert capsys.readouterr().err.split("\r")[1:3] == ["loading 0.1 GB: 60 %", "loading 0.1 GB: 70 %"]


INTERRUPTED = """
import importlib.abc, os, signal, sys
wanted = sys.argv.pop(1)
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from refmoe.__main__ import main
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    "module", ["refmoe.cli", "click", "refmoe.cli.generate", "numba", "refmoe.engine", "tokenizers"]
)
def test_interrupt_while_modules_are_imported(module, tiny):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", INTERRUPTED, module, "generate", "-m", tiny, "a", "--max-tokens", "1"]
    child = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert (child.returncode, child.stdout, child.stderr.strip()) == (130, b"", b"")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_interrupts_that_the_caller_switched_off_stay_off(tiny):
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + INTERRUPTED
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, "click", "--version"]
    assert subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode == 0
