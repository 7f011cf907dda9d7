"""The loop of `refmoe chat`: lines in, answers out, commands that begin with "/"."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from refmoe.cli import _lines, _options, _shared
from refmoe.errors import RefmoeError, UsageError
from refmoe.generate import Memory, Options

HELP = """\
/help              this list
/set [NAME VALUE]  options of the sampler, or one of them: temperature 0.7
/system [TEXT]     the system message, or a new one (without it: /system "")
/think MODE        whether the model thinks before it answers: on, off, auto
/tool TEXT         the result of the next tool call
/clear             forget the conversation
/save FILE         the conversation as JSON
/bye               end, like Ctrl-D
Ctrl-C stops an answer. \"\"\" begins and ends a message of several lines; //x is a message that begins with /x."""


class Repl:
    """A conversation. On a terminal errors are shown and the talk goes on; from a pipe the first one ends it."""

    def __init__(self, model, options, system, thinking, tools, variables):
        self._model, self._options, self._thinking, self._tools = model, options, thinking, tools
        self._variables = variables
        self._system, self._messages, self._memory = system, [], Memory()
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._saved: set[Path] = set()

    def run(self) -> None:
        """Until the input ends or /bye."""
        if self._terminal:
            _shared.note("type a message, /help for help, Ctrl-D to end")
        for message in _lines.messages(self._terminal):
            try:
                if self._handle(message):
                    return
            except (RefmoeError, KeyboardInterrupt) as problem:
                if not self._terminal:
                    raise
                _shared.show("\n" if isinstance(problem, KeyboardInterrupt) else f"refmoe: error: {problem}\n")

    def _handle(self, text: str) -> bool:
        """One message or command; true ends the talk."""
        command = re.fullmatch(r"/([a-z?]+)(?:\s+(.*?))?\s*", text, re.DOTALL)
        if command is None:
            if text.strip():
                self._answer({"role": "user", "content": text.removeprefix("/") if text.startswith("//") else text})
            return False
        name, argument = command[1], command[2] or ""
        if name in ("bye", "exit", "quit"):
            return True
        known = {"help": self._help, "?": self._help, "set": self._set, "system": self._set_system,
                 "think": self._think, "tool": self._tool, "clear": self._clear, "save": self._save}  # fmt: skip
        if name not in known:
            raise UsageError(f"/{name}: no such command, /help lists them")
        known[name](argument)
        return False

    def _answer(self, message) -> None:
        before = len(self._messages)
        self._messages.append(message)
        system = [{"role": "system", "content": self._system}] if self._system else []
        try:
            with _shared.quiet_panics():
                answer = self._model.chat([*system, *self._messages], self._tools, self._thinking, self._variables,
                                          self._memory, **self._options)  # fmt: skip
            screen = _options.Screen()
            try:
                for step in answer:
                    screen.show(step)
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
            screen.close(answer)
        except BaseException:
            del self._messages[before:]
            raise
        if answer.text or answer.tool_calls:
            self._messages.append(answer.message)
        else:  # templates refuse answers without words
            del self._messages[before:]
            _shared.note("nothing was answered; the message is forgotten")
        if answer.finish_reason == "length":
            _shared.note(f"the answer was cut after {len(answer.ids)} tokens (/set max_tokens)")

    def _help(self, _) -> None:
        _shared.show(HELP + "\n")

    def _set(self, argument: str) -> None:
        name, _, value = argument.partition(" ")
        name = name.replace("-", "_")
        if not argument:
            values = {key: self._options.get(key) for key in Options.__dataclass_fields__ if key != "logprobs"}
            _shared.show("".join(f"{key} {value}\n" for key, value in values.items()))
            return
        if name not in Options.__dataclass_fields__ or name == "logprobs":
            raise UsageError(f"/set {name}: no such option, /set lists them")
        try:
            converted = (value,) if name == "stop" and value else () if name == "stop" else json.loads(value)
        except ValueError:
            converted = value
        changed = self._options | {name: converted}
        Options(**changed)
        self._options = changed

    def _set_system(self, argument: str) -> None:
        if argument:
            self._system = None if argument == '""' else argument
        else:
            _shared.show(f"{self._system or 'no system message'}\n")

    def _think(self, argument: str) -> None:
        choices = {"on": True, "off": False, "auto": None}
        if argument not in choices:
            raise UsageError(f"/think: expected on, off or auto, found {argument[:40]!r}")
        self._thinking = choices[argument]

    def _tool(self, argument: str) -> None:
        answers = [message for message in self._messages if message["role"] == "assistant"]
        calls: list[Any] = answers[-1].get("tool_calls", []) if answers else []
        results = [m for m in self._messages[-len(calls) - 1:] if m["role"] == "tool"]
        if len(results) >= len(calls):
            raise UsageError("/tool: the model waits for no result")
        call = calls[len(results)]
        message = {"role": "tool", "name": call["function"]["name"], "tool_call_id": call["id"], "content": argument}
        if len(results) + 1 < len(calls):
            self._messages.append(message)
        else:
            self._answer(message)

    def _clear(self, _) -> None:
        self._messages = []

    def _save(self, argument: str) -> None:
        if not argument:
            raise UsageError("/save: expected a file name")
        path = Path(argument).expanduser()
        if path.exists() and path not in self._saved:
            raise UsageError(f"/save: {path} exists already")
        system = [{"role": "system", "content": self._system}] if self._system else []
        content = {"model": str(self._model.checkpoint.path), "options": self._options, "thinking": self._thinking,
                   "messages": [*system, *self._messages]}  # fmt: skip
        try:
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as problem:
            raise UsageError(f"/save: {path}: {problem.strerror}") from None
        self._saved.add(path)
