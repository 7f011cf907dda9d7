"""Answers of gpt-oss: a sequence of messages, each with a header that names its channel.

  <|channel|>analysis<|message|>...<|end|>                                   thinking
  <|start|>assistant<|channel|>final<|message|>...                           text
  <|start|>assistant<|channel|>commentary to=functions.NAME ...<|message|>{...}<|call|>   a tool call
The prompt ends with <|start|>assistant, so the first header has no beginning. Commentary to nobody is text. <|return|>
and <|call|> end the answer.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from refmoe.chat.calls import Call
from refmoe.chat.regions import Trimmed

MARK = "<|channel|>"
_ENDS = re.compile(re.escape("<|end|>") + "|" + re.escape("<|call|>") + "|" + re.escape("<|return|>") + "|"
                   + re.escape("<|start|>"))  # fmt: skip
_MESSAGE = "<|message|>"
_LONGEST = len("<|message|>") - 1


class Reader:
    """As refmoe.chat.regions.Reader."""

    def __init__(self, tools: Sequence[dict[str, Any]]):
        self.calls: list[Call] = []
        self.ended = False
        self._held, self._kind = "", ""  # kind: "" in a header, else thinking, text, call
        self._header = ""
        self._thinking, self._text = Trimmed(), Trimmed()

    def push(self, piece: str) -> tuple[str, str]:
        """(thinking, text) that is certain now."""
        self._held += piece
        thinking, text = "", ""
        while not self.ended:
            if not self._kind:
                header, found, rest = self._held.partition(_MESSAGE)
                if not found:
                    break
                self._header, self._held, self._kind = header, rest, _kind(header)
            end = _ENDS.search(self._held)
            if end is None:
                body = "" if self._kind == "call" else self._release()
            else:
                body, self._held = self._held[: end.start()], self._held[end.end() :]
                self.ended = end[0] in ("<|call|>", "<|return|>")
            more = self._show(body, end is not None)
            thinking, text = thinking + more[0], text + more[1]
            if end is None:
                break
            self._kind = ""
        return thinking, text

    def finish(self) -> tuple[str, str]:
        """What is left when nothing follows. A header without a message is shown as it was written."""
        kind, rest, self._held = self._kind, self._held, ""
        if not kind:
            return "", "" if self.ended else self._text.push(rest)
        return self._show(rest, True)

    def _show(self, body: str, whole: bool) -> tuple[str, str]:
        if self._kind == "thinking":
            shown = self._thinking.push(body)
            self._thinking.white += "\n" if whole else ""
            return shown, ""
        if self._kind == "text":
            shown = self._text.push(body)
            self._text.white += "\n" if whole else ""
            return "", shown
        if not whole:
            return "", ""
        name = re.findall(r"to=([^\s<]+)", self._header)[-1].removeprefix("functions.")
        try:
            arguments = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            return "", self._text.push(self._header + _MESSAGE + body)
        self.calls.append({"name": name, "arguments": arguments})
        return "", ""

    def _release(self) -> str:
        """What is held, without an end that could begin a marker."""
        at = self._held.rfind("<", max(len(self._held) - _LONGEST, 0))
        shown, self._held = (self._held, "") if at < 0 else (self._held[:at], self._held[at:])
        return shown


def _kind(header: str) -> str:
    channel = re.search(r"<\|channel\|>\s*(\w+)", header)
    if re.search(r"\bto=(?!assistant)[^\s<]+", header):
        return "call"
    return "thinking" if channel is not None and channel[1] == "analysis" else "text"
