"""Answers with marked regions: thinking and tool calls inside text, as most families write them.

A region goes from its opening to its closing marker (or to the end). Which regions a model has is told by its template
and its tokenizer: those whose opening marker one of them knows. White space around regions is not text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from refmoe.chat import calls
from refmoe.chat.calls import Call


@dataclass(frozen=True)
class Region:
    """`read` turns what is inside into calls; a region without it is thinking."""

    open: str
    close: str | None
    read: Callable[[str, list[dict[str, Any]]], list[Call]] | None = None
    inner: bool = False  # the opening marker belongs to what `read` takes


REGIONS = (
    Region("<think>", "</think>"),
    Region("[THINK]", "[/THINK]"),
    Region("<tool_call>", "</tool_call>", calls.tagged),
    Region("<function=", "</function>", calls.functions, inner=True),
    Region("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", calls.kimi),
    Region("[TOOL_CALLS]", None, calls.mistral),
    Region("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", calls.deepseek),
)


class Reader:
    """Takes the text of an answer piece by piece and tells thinking, text and calls apart; `calls` grows. `ended` says
    that nothing after this belongs to the answer."""

    def __init__(self, known: Callable[[str], bool], prompt: str, tools: Sequence[dict[str, Any]]):
        """known: whether template or tokenizer know a marker. An answer can begin inside a region that the prompt
        opened."""
        self.calls: list[Call] = []
        self.ended = False
        self._tools = list(tools)
        self._regions = [region for region in REGIONS if known(region.open)]
        self._opens = [region.open for region in self._regions]
        begun = [one for one in self._regions if one.read is None and prompt.rstrip().endswith(one.open)]
        self._region: Region | None = begun[0] if begun else None
        self._held = ""  # not yet decided
        self._thinking, self._text = Trimmed(), Trimmed()

    def push(self, piece: str) -> tuple[str, str]:
        """(thinking, text) that is certain now."""
        self._held += piece
        thinking, text = "", ""
        while True:
            region = self._region
            if region is None:
                found = [(at, one) for one in self._regions if (at := self._held.find(one.open)) >= 0]
                if not found:
                    return thinking, text + self._text.push(self._release(self._opens))
                at, self._region = min(found, key=lambda pair: pair[0])
                text += self._text.push(self._held[:at])
                self._held = self._held[at + len(self._region.open) :]
                continue
            at = self._held.find(region.close) if region.close else -1
            if at < 0:
                shown = self._release([region.close or ""]) if region.read is None else ""
                return thinking + self._thinking.push(shown), text
            inside, close = self._held[:at], region.close or ""
            self._held, self._region = self._held[at + len(close) :], None
            if region.read is None:
                thinking += self._thinking.push(inside)
            else:
                text += self._text.push(self._call(region, inside, close))

    def finish(self) -> tuple[str, str]:
        """What is left when nothing follows."""
        region, rest = self._region, self._held
        self._held, self._region = "", None
        if region is None:
            text = self._text.push(rest)
            return "", text if self.calls else text + self._text.white
        if region.read is None:
            return self._thinking.push(rest), ""
        return "", self._text.push(self._call(region, rest, ""))

    def _call(self, region: Region, inside: str, close: str) -> str:
        """Read calls; what cannot be read is text as it was written."""
        try:
            self.calls += region.read(region.open + inside if region.inner else inside, self._tools)  # type: ignore[misc]
        except ValueError:
            return region.open + inside + close
        return ""

    def _release(self, markers: list[str]) -> str:
        """What is held, without an end that could begin a marker."""
        longest = max((len(marker) for marker in markers), default=1) - 1
        for i in range(max(len(self._held) - longest, 0), len(self._held)):
            if any(marker.startswith(self._held[i:]) for marker in markers):
                break
        else:
            i = len(self._held)
        shown, self._held = self._held[:i], self._held[i:]
        return shown


class Trimmed:
    """Text without white space in front; white space at the end is kept in `white` until more follows."""

    def __init__(self) -> None:
        self.white, self._begun = "", False

    def push(self, text: str) -> str:
        """What can be shown now."""
        if not self._begun:
            text = text.lstrip()
        if not text:
            return ""
        self._begun = True
        text = self.white + text
        body = text.rstrip()
        self.white = text[len(body) :]
        return body
