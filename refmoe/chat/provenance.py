"""Which control tokens of a rendered chat did the template write, and which stood in the messages?

A user may type "<|im_end|>". In the prompt it must not end the message, so it has to be told from the template's own
"<|im_end|>", although templates cut, strip, join and inspect what they are given.

Method. The text is always what the messages give as they are. To find out where it comes from, the messages are changed
a little and rendered again: first characters of control tokens ("<", "[") become private characters that occur nowhere
else. If the second text is the first one but for these characters, the template treated them as mere content, and each
private character shows a place that came from a message: a control token that begins there is `foreign`.
Three changes are tried, the strongest first:
1. all such first characters, so that tokens which only arise by joining pieces of messages are found too;
2. only those that begin a control token, or the last characters of a string that could;
3. each token of each string by itself, when the template looks at such tokens ("</think>" in a message). Those that
   change what the template writes are part of its language and keep their meaning; all others are foreign.
Assistant messages are the model's own words. There, tokens that only the template makes special ("<think>",
"<tool_call>", see `marks`) keep their meaning; control tokens do not.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MAX_RENDERINGS = 64
Render = Callable[[Any, Any], str]


class Refused(Exception):
    """A template or messages beyond a limit of ours, in one line."""


def foreign(render: Render, messages: list[dict[str, Any]], tools: Any, control: Sequence[str],
            marks: Sequence[str]) -> tuple[str, list[int]]:  # fmt: skip
    """(text, positions in it where a control token or mark begins that came from the messages or tools). Refused
    when the template looks at too many of them."""
    text = render(messages, tools)
    tokens = [token for token in dict.fromkeys([*control, *marks]) if token.strip()]
    find = _pattern(tokens)
    strings = set(_strings([messages, tools]))
    firsts = sorted({token[0] for token in tokens})
    if not tokens or not find.search(text) or not any(set(firsts) & set(string) for string in strings):
        return text, []
    trial = _Trial(render, messages, tools, text, firsts, strings)
    places = trial.changed(lambda string: re.sub(_any(firsts), trial.hide, string))
    if places is None:
        places = trial.changed(lambda string: _cut(string, find, tokens, trial.hide))
    if places is None:
        places = _one_by_one(trial, strings, find, tokens)
    own_words, others = places
    named = _pattern(list(control))
    found = [i for i in others if find.match(text, i)] + [i for i in own_words if control and named.match(text, i)]
    return text, sorted(found)


class _Trial:
    """Renders changed messages and compares."""

    def __init__(self, render: Render, messages: list[dict[str, Any]], tools: Any, text: str, firsts: list[str],
                 strings: set[str]):  # fmt: skip
        self._render, self._messages, self._tools, self._text, self._firsts = render, messages, tools, text, firsts
        used = set(text).union(*strings)
        count = len(firsts)
        base = next(b for b in range(0xE000, 0xF8FF - 2 * count) if not any(
            chr(c) in used or f"\\u{c:04x}" in text for c in range(b, b + 2 * count)))  # fmt: skip
        self._hidden = {first: chr(base + n) for n, first in enumerate(firsts)}
        self._own = {hidden: chr(ord(hidden) + count) for hidden in self._hidden.values()}  # of assistant messages
        self._back = {ord(h): first for first, h in self._hidden.items()}
        self._back |= {ord(own): self._back[ord(hidden)] for hidden, own in self._own.items()}

    def hide(self, match: re.Match[str]) -> str:
        """The match with its first character made private."""
        return self._hidden[match[0][0]] + match[0][1:]

    def changed(self, change: Callable[[str], str]) -> tuple[list[int], list[int]] | None:
        """Places of private characters (from assistant messages, from others) when all strings are changed; None if
        the template wrote something else."""
        own = str.maketrans(self._own)
        messages = []
        for message in self._messages:
            words = message.get("role") == "assistant"
            messages.append(_mapped(message, (lambda s: change(s).translate(own)) if words else change))
        try:
            text = self._render(messages, _mapped(self._tools, change))
        except Exception:  # whatever the template raises when it looks at what was changed
            return None
        for private in [*self._hidden.values(), *self._own.values()]:
            text = text.replace(f"\\u{ord(private):04x}", private)  # tojson(ensure_ascii=true)
        if text.translate(self._back) != self._text:
            return None
        return tuple([i.start() for i in re.finditer(_any(list(kind.values())), text)]
                     for kind in (self._own, self._hidden))  # type: ignore[return-value]  # fmt: skip


def _one_by_one(trial: _Trial, strings: set[str], find: re.Pattern[str], tokens: Sequence[str],
                ) -> tuple[list[int], list[int]]:  # fmt: skip
    """What is left when tokens that the template looks at keep their meaning."""
    pairs = {(string, token) for string in sorted(strings) for token in _parts(string, find, tokens)}
    if len(pairs) > MAX_RENDERINGS:
        raise Refused(f"the messages hold {len(pairs)} control tokens and the template looks at some of them; at "
                      f"most {MAX_RENDERINGS} are told apart")  # fmt: skip

    def only(kept: set[tuple[str, str]]) -> tuple[list[int], list[int]] | None:
        return trial.changed(lambda string: _cut(
            string, find, tokens, lambda m: trial.hide(m) if (string, m[0]) in kept else m[0]))  # fmt: skip

    harmless = {pair for pair in sorted(pairs) if only({pair}) is not None}
    places = only(harmless)
    if places is None:
        raise Refused("the template mixes control tokens of several messages in a way that cannot be told apart")
    return places


def _parts(string: str, find: re.Pattern[str], tokens: Sequence[str]) -> list[str]:
    found: list[str] = []

    def note(match: re.Match[str]) -> str:
        found.append(match[0])
        return match[0]

    _cut(string, find, tokens, note)
    return found


def _cut(string: str, find: re.Pattern[str], tokens: Sequence[str], hide: Callable[[re.Match[str]], str]) -> str:
    """`hide` applied to every token of a string, and to the longest beginning of a token at its end."""
    string = find.sub(hide, string)
    longest = max(map(len, tokens)) - 1
    for i in range(max(len(string) - longest, 0), len(string)):
        if any(token.startswith(string[i:]) for token in tokens):
            tail = re.compile(re.escape(string[i:]) + r"\Z").search(string, i)
            return string[:i] + (hide(tail) if tail else string[i:])
    return string


def _pattern(tokens: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)")


def _any(characters: Sequence[str]) -> str:
    return "[" + "".join(map(re.escape, characters)) + "]"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    return [_mapped(item, change) for item in value] if isinstance(value, list) else value
