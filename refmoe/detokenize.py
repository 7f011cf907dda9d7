"""Ids to text, token by token, so that text can be shown while it grows and never changes afterwards.

A token gives bytes: with the ByteLevel decoder those its characters stand for; with ByteFallback "<0xNN>" is one byte
and other tokens their UTF-8. The bytes of all tokens together are read as UTF-8: a character appears when its last byte
is there, what cannot become a character becomes U+FFFD (one for each maximal subpart, Unicode 3.9). Then Strip removes
spaces from the beginning of the whole text. This equals the library's decode, except that the library turns every byte
of a run of <0xNN> tokens into U+FFFD when one is invalid.
Other decoders go through the library: a token's text is what decoding gains by it, in a window of the last tokens.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Any

WINDOW = 8  # tokens of context for decoders that are not byte-wise
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class ByteStream:
    """Incremental text of tokens that stand for bytes; holds back at most the bytes of one unfinished character."""

    def __init__(self, piece: Callable[[int], bytes], strip: int):
        self._piece, self._strip = piece, strip
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Text that this token completes."""
        return self._stripped(self._utf8.decode(self._piece(token_id)))

    def flush(self) -> str:
        """What is left when no token follows: U+FFFD for an unfinished character, or nothing."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        while self._strip and text:
            if not text.startswith(" "):
                self._strip = 0
                break
            text, self._strip = text[1:], self._strip - 1
        return text


class WindowStream:
    """Incremental text through a whole-list decoder: decode(shown + new) beyond decode(shown)."""

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int]):
        self._decode = decode
        self._ids = list(prompt)
        self._shown, self._length = len(self._ids), len(decode(self._ids))

    def push(self, token_id: int) -> str:
        """Text that this token completes; a trailing U+FFFD may still become a character and waits."""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        waiting = text.endswith("\ufffd") and len(self._ids) - self._shown < WINDOW
        if waiting or len(text) <= self._length:
            return ""
        new = text[self._length :]
        self._ids = self._ids[self._shown :]  # these make the new text: context enough for the next token
        self._shown, self._length = len(self._ids), len(self._decode(self._ids))
        return new

    def flush(self) -> str:
        """What is left when no token follows."""
        return self._decode(self._ids)[self._length :]


def byte_rule(decoder: dict[str, Any]) -> tuple[Callable[[str], bytes] | None, int]:
    """(token -> bytes, spaces to strip) of a tokenizer.json decoder; (None, 0) when it does not work on bytes."""
    if decoder.get("type") == "ByteLevel":
        table = byte_alphabet()

        def level(token: str) -> bytes:
            try:
                return bytes([table[c] for c in token])
            except KeyError:  # an added token, written as it is
                return token.encode()

        return level, 0
    steps = decoder.get("decoders", [])
    kinds = [step["type"] for step in steps]
    if not re.fullmatch("(Replace )*ByteFallback Fuse( Strip)?", " ".join(kinds)):
        return None, 0
    if any(step["type"] == "Replace" and "String" not in step["pattern"] for step in steps):
        return None, 0
    replacements = [(step["pattern"]["String"], step["content"]) for step in steps if step["type"] == "Replace"]
    strip: dict[str, Any] = steps[-1] if kinds[-1] == "Strip" else {"content": " ", "start": 0, "stop": 0}
    if strip["content"] != " " or strip["stop"]:
        return None, 0

    def fallback(token: str) -> bytes:
        for old, new in replacements:
            token = token.replace(old, new)
        byte = _BYTE_TOKEN.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.encode()

    return fallback, strip["start"]


def byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 onwards in ascending order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}
