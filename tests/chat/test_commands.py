"""`refmoe generate --chat` and `refmoe chat`: what goes where, commands, pipes, terminals, exit codes."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
import talking
from click.testing import CliRunner

import refmoe
from refmoe.cli import main
from tests import fakes

THINKS = "<think>\nhm\n</think>\n\nHello"
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'


def call(*args, stdin=None, env=None):
    return CliRunner(env=env).invoke(main, [str(a) for a in args], input=stdin)


@pytest.fixture
def says(tmp_path, monkeypatch):
    """Makes a folder whose model gives the answers."""

    def make(*answers, name="model", **config):
        folder = talking.write(tmp_path / name, **config)
        made = talking.model(folder, *answers)
        monkeypatch.setattr("refmoe.load", lambda *a, **k: made, raising=False)
        return folder

    return make


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real tiny checkpoint with a template."""
    folder = fakes.write_checkpoint(tmp_path_factory.mktemp("real"), max_position_embeddings=256)
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    return fakes.write_tokenizer(folder, fakes.byte_level(), chat_template=source, eos_token="<end>")


def notes(result):
    """Lines on stderr, besides what a first run says."""
    return [line for line in result.stderr.splitlines() if "compiling kernels" not in line]


def test_text_goes_to_stdout_and_thinking_to_stderr(says):
    result = call("generate", "-m", says(THINKS), "--chat", "Hi")
    assert result.exit_code == 0 and result.stdout == "Hello\n"
    assert result.stderr.startswith("hm\n\n") and "eos, digest" in notes(result)[-1]
    assert "\x1b" not in result.stderr


def test_json(says):
    folder = says(THINKS + "\n" + CALL)
    tools = folder / "tools.json"
    tools.write_text(json.dumps({"tools": talking.TOOLS}))
    result = call("generate", "-m", folder, "Hi", "--system", "Be brief", "--tools", tools, "--json")
    found = json.loads(result.stdout)
    assert set(found) == {"ids", "text", "finish_reason", "prompt_ids", "logprobs", "timings", "digest", "thinking",
                          "tool_calls", "messages"}  # fmt: skip
    assert (found["text"], found["thinking"], found["finish_reason"]) == ("Hello", "hm", "tool_calls")
    assert found["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Paris"}}
    roles = [(m["role"], m["content"]) for m in found["messages"]]
    assert roles == [("system", "Be brief"), ("user", "Hi"), ("assistant", "Hello")]
    assert found["messages"][-1]["tool_calls"] == found["tool_calls"] and len(notes(result)) == 1


def test_tool_calls_are_lines(says):
    folder = says("I look.\n" + CALL, CALL)
    for text in ("I look.\n", ""):
        result = call("generate", "-m", folder, "--chat", "Hi")
        assert result.stdout.startswith(text + "{")
        assert json.loads(result.stdout.removeprefix(text))["function"]["name"] == "weather"


def test_options_of_a_chat(says, tmp_path):
    folder = says("x", "y")
    found = json.loads(call("generate", "-m", folder, "Hi", "--no-think", "--json").stdout)
    assert refmoe.load().decode(found["prompt_ids"]).endswith("assistant\n<think>\n\n</think>\n\n")
    assert call("generate", "-m", folder, "--chat", "-", stdin=b"Hi\n").stdout == "y\n"


def test_variables_of_the_template(says):
    folder = says("x", template="{{ effort + 1 }}{{ word }}")
    args = ("generate", "-m", folder, "Hi", "--variable", "effort=4", "--variable", "word=a=b", "--json")
    assert refmoe.load().decode(json.loads(call(*args).stdout)["prompt_ids"]) == "5a=b"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [(("x", "--raw", "--think"), 2, "--system, --think, --tools and --variable belong to --chat"),
     (("--ids", "1", "--chat"), 2, "--ids and --special belong to raw text"),
     (("x", "--special", "--system", "s"), 2, "--ids and --special belong to raw text"),
     (("x", "--variable", "a"), 2, "expected NAME=VALUE, found 'a'"), (("x", "--variable", "1=2"), 2, "expected NAME="),
     (("x", "--tools", "nowhere.json"), 2, "nowhere.json: no such file"),
     (("x", "--sampling", "nix"), 2, "--sampling"), (("x", "--chat", "--max-tokens", "0"), 2, "max_tokens"),
     (("x", "--think"), 2, "thinking: the model's chat template has no switch")],
)  # fmt: skip
def test_usage(says, args, code, message):
    result = call("generate", "-m", says("a", template="{{ messages[0].content }}"), *args)
    assert result.exit_code == code and message in notes(result)[-1] and result.stdout == ""


def test_tools_that_are_none(says, tmp_path):
    folder = says("a")
    for content, message in ((b"{", "not JSON"), (b"[1]", "tools[0]: expected a function"),
                             (b'{"a": 1}', "tools: expected a"), (b"\xff", "not UTF-8")):  # fmt: skip
        (tmp_path / "t.json").write_bytes(content)
        result = call("generate", "-m", folder, "x", "--tools", tmp_path / "t.json")
        assert result.exit_code == 2 and message in notes(result)[-1] and len(notes(result)) == 1


def test_models_without_a_template(tmp_path):
    bare = fakes.write_tokenizer(fakes.write_checkpoint(tmp_path), fakes.byte_level())
    for command in (("generate", "x", "--chat"), ("chat",)):
        result = call(*command, "-m", bare)
        assert result.exit_code == 1 and result.stdout == ""
        assert "has no chat template; it can continue raw text (`refmoe generate --raw`)" in notes(result)[-1]
        result = call(*command)
        assert result.exit_code == 1
        assert notes(result) == ["refmoe: error: the embedded model writes stories and has no chat template: try "
                                 '`refmoe generate "Once upon a time"`, or give a chat model with -m']  # fmt: skip


@pytest.mark.parametrize(
    ("template", "message"),
    [("{% if %}", "line 1: Expected an expression"), ("{{ raise_exception('no') }}", "chat template: no"),
     ("{{ 'a' * 10 ** 10 }}", "needs too much memory"), (5, "characters, found int"),
     ("{{ messages[0].nix.nix }}", "has no attribute 'nix'")],
)  # fmt: skip
def test_raw_text_needs_no_template(tmp_path, template, message):
    folder = fakes.write_checkpoint(tmp_path, eos_token_id=None)
    fakes.write_tokenizer(folder, fakes.byte_level(), chat_template=template)
    result = call("generate", "-m", folder, "--chat", "Hi")
    assert result.exit_code == 1 and message in notes(result)[-1] and result.stdout == "" and len(notes(result)) == 1
    assert call("generate", "-m", folder, "--raw", "Hi", "--max-tokens", "1").exit_code == 0


@pytest.mark.parametrize(
    ("prompt", "code", "message"),
    [("", 0, ""), ("a\0b", 0, ""), ("\udcff", 1, "is a lone surrogate"), ("<|im_end|>", 0, ""), ("\U000f0000", 0, ""),
     ("x" * 2**20, 2, "the model's context is 10000"), ("x" * (2**22 + 1), 1, "writes more than 4194304 characters")],
)  # fmt: skip
def test_prompts(says, prompt, code, message):
    result = call("generate", "-m", says("ok"), "--chat", prompt)
    assert result.exit_code == code, result.stderr
    assert message in notes(result)[-1] and result.stdout == ("" if code else "ok\n")


@pytest.mark.skipif(os.name != "posix", reason="needs HOME and permissions")
def test_without_a_home(real, tmp_path):
    (tmp_path / "file").write_text("in the way")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HOME", "XDG", "HF_"))}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "XDG_STATE_HOME": str(tmp_path / "file")}
    command = [sys.executable, "-m", "refmoe", "chat", "-m", str(real), "--max-tokens", "2"]
    child = subprocess.run(command, input=b"ab\n", env=environment, capture_output=True, timeout=300)
    assert child.returncode == 0 and child.stdout, child.stderr


def test_sampling_of_the_model(says):
    folder = says("a", "b")
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20, "top_p": 0.95}')
    result = call("generate", "-m", folder, "--chat", "x", "--sampling", "model", "--top-k", "5")
    assert result.exit_code == 0
    assert notes(result)[0] == "refmoe: sampling of the model: temperature 0.6, top-k 5, top-p 0.95"
    assert len(notes(call("generate", "-m", folder, "--chat", "x"))) == 1
    folder = says("c", name="other")
    assert "it suggests none, greedy" in notes(call("generate", "-m", folder, "--chat", "x", "--sampling", "model"))[0]


def test_info_shows_what_is_suggested(real):
    assert json.loads(call("info", "-m", real, "--json").stdout)["suggested_sampling"] == {}
    (real / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_k": 20}')
    line = "temperature 0.6, top k 20: suggested, used with --sampling model"
    assert line in call("info", "-m", real).stdout
    assert json.loads(call("info", "-m", real, "--json").stdout)["suggested_sampling"]["top_k"] == 20
    (real / "generation_config.json").unlink()


def test_a_chat_from_a_pipe(says, tmp_path):
    folder = says("one", THINKS, "three")
    saved = tmp_path / "talk.json"
    stdin = f'Hi\n"""\nand\nthen?\n"""\n\n/system Be brief\n//x\n/save {saved}\n/bye\nnever\n'
    result = call("chat", "-m", folder, stdin=stdin)
    assert result.exit_code == 0 and result.stdout == "one\nHello\nthree\n" and result.stderr == "hm\n\n"
    talk = json.loads(saved.read_text())
    assert [(m["role"], m["content"]) for m in talk["messages"]] == [
        ("system", "Be brief"), ("user", "Hi"), ("assistant", "one"), ("user", "and\nthen?"), ("assistant", "Hello"),
        ("user", "/x"), ("assistant", "three")]  # fmt: skip
    assert talk["messages"][4]["reasoning_content"] == "hm"


def test_commands(says):
    folder = says("one", "two", "three")
    stdin = ("/set temperature 0.5\n/set\nHi\n/clear\n/think off\nHo\n/think auto\n/system\n/system You\n/system\n"
             '/system ""\n/system\n/help\n/set max-tokens 2\n/set stop end\nHa\n')  # fmt: skip
    result = call("chat", "-m", folder, stdin=stdin)
    assert result.exit_code == 0 and result.stdout == "one\ntwo\nth\n"
    lines = notes(result)
    assert "temperature 0.5" in lines and "/bye               end, like Ctrl-D" in lines
    nothing = "no system message"
    assert [line for line in lines if line in ("You", nothing)] == [nothing, "You", nothing]
    assert lines[-1] == "refmoe: the answer was cut after 2 tokens (/set max_tokens)"


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [("/nix", 2, "/nix: no such command"), ("/set nix 5", 2, "/set nix: no such option"),
     ("/set temperature x", 2, "temperature: expected"), ("/set temperature -1", 2, "temperature: expected"),
     ("/set logprobs 5", 2, "no such option"), ("/think", 2, "/think: expected on, off or auto"),
     ("/save", 2, "/save: expected a file name"), ("/save .", 2, "exists already"),
     ("/tool x", 2, "waits for no result"), ("/save /nowhere/x", 2, "No such file"),
     (b"a\xff", 1, "stdin: not UTF-8 at byte 1 of a line"),
     ("x" * 20000, 2, "the model's context is 10000"), ("\x00", 0, "")],
)  # fmt: skip
def test_a_pipe_ends_at_the_first_error(says, line, code, message):
    line = line if isinstance(line, bytes) else line.encode()
    result = call("chat", "-m", says("one", "two"), stdin=line + b"\nHi\n")
    assert result.exit_code == code
    if code:
        assert message in notes(result)[-1] and len(notes(result)) == 1 and result.stdout == ""


def test_results_of_tools(says):
    folder = says(CALL + CALL, "It is sunny.")
    stdin = "weather?\n/tool sun\n/tool rain\n"
    result = call("chat", "-m", folder, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines[:2]] == ["call00000", "call00001"] and lines[2] == "It is sunny."


def test_what_was_said_is_not_computed_again(says, monkeypatch):
    folder = says("one", "two")
    made = refmoe.load()
    assert call("chat", "-m", folder, stdin="Hi\nHo\n").stdout == "one\ntwo\n"
    first, second = made.engine.runs[0], made.engine.runs[4]
    assert len(made.engine.runs[1:4]) == 3 and len(second) == len("Xuser\nHoX\nXassistant\n") + 2 < len(first) + 10


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *args, **settings):
        self.screen = ""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"} | settings
        environment.pop("NO_COLOR", None) if "NO_COLOR" not in settings else None
        master, slave = pty.openpty()
        self.child = subprocess.Popen([sys.executable, "-c", *args], stdin=slave, stdout=slave, stderr=slave,
                                      env=environment, start_new_session=True)  # fmt: skip
        os.close(slave)
        self.master = master

    def wait(self, text, timeout=60):
        """Read until the text is on the screen."""
        end = time.monotonic() + timeout
        while text not in self.screen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self.screen!r}"
            self.screen += os.read(self.master, 4096).decode("utf-8", "replace")
        shown, _, self.screen = self.screen.partition(text)
        return shown

    def type(self, text):
        """Keys."""
        os.write(self.master, text.encode())

    def interrupt(self, text):
        """Ctrl-C, and again until the text is on the screen: input() misses one that comes as it shows its prompt."""
        for _ in range(60):
            os.killpg(self.child.pid, signal.SIGINT)
            with contextlib.suppress(AssertionError):
                return self.wait(text, 1)
        raise AssertionError(f"no {text!r} in {self.screen!r}")

    def end(self):
        """The exit code."""
        return self.child.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        os.close(self.master)


TALK = """
import sys, time, pathlib
sys.path.insert(0, {tests!r})
import talking, refmoe
folder = pathlib.Path({folder!r})
made = talking.model(folder, "<think>hm</think>one", "slow" * 50, "three")
run = made.engine.run
def slowly(*args, **more):
    if len(made.engine.scripts) == 2:
        time.sleep(0.05)
    return run(*args, **more)
made.engine.run = slowly
refmoe.load = lambda *a, **k: made
from refmoe.cli import main
main(["chat", "-m", str(folder)])
"""


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
@pytest.mark.parametrize("plain", [False, True])
def test_a_chat_on_a_terminal(tmp_path, plain):
    folder = talking.write(tmp_path / "model")
    code = TALK.format(tests=os.path.dirname(__file__), folder=str(folder))
    settings = {"XDG_STATE_HOME": str(tmp_path / "state")} | ({"NO_COLOR": "1"} if plain else {})
    with Terminal(code, **settings) as terminal:
        terminal.wait(">>> ")
        terminal.type("Hi\n")
        shown = terminal.wait(">>> ")
        assert shown == "Hi\r\n" + ("hm" if plain else "\x1b[2mh\x1b[0m\x1b[2mm\x1b[0m") + "\r\n\r\none\r\n"
        terminal.type("/nix\n")
        assert "refmoe: error: /nix: no such command" in terminal.wait(">>> ")
        terminal.type("talk\n")
        terminal.wait("slowslow")
        os.killpg(terminal.child.pid, signal.SIGINT)
        assert "slow" * 40 not in terminal.wait(">>> ")  # the answer stops, the program does not
        terminal.interrupt("(Ctrl-D or /bye ends)")
        terminal.wait(">>> ")
        terminal.type("/save " + str(tmp_path / "talk.json") + "\n")
        terminal.wait(">>> ")
        terminal.type("\x04")
        assert terminal.end() == 0
    talk = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert [m["role"] for m in talk] == ["user", "assistant"] * 2 and talk[3]["content"].startswith("slowslow")
    assert "Hi" in (tmp_path / "state" / "refmoe" / "chat_history").read_text()


def test_a_real_checkpoint(real):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "refmoe", "chat", "-m", str(real), "--max-tokens", "4"]
    child = subprocess.run(command, input=b"ab\ncd\n", env=environment, capture_output=True, timeout=120)
    assert child.returncode == 0 and len(child.stdout.splitlines()) >= 2, child.stderr
    result = json.loads(call("generate", "-m", real, "--chat", "ab", "--json", "--max-tokens", "4").stdout)
    assert result["prompt_ids"] == [97, 98] and len(result["ids"]) <= 4
