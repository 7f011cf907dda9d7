"""JSON from strangers: bounded before it is parsed, stricter than Python's parser, one line per error.

Python's json accepts NaN and Infinity, keeps the last of two equal keys, turns 1e999 into inf, -0 into 0, lets lone
surrogates through, and raises RecursionError on deep nesting. All of that is refused here.
"""

import contextlib
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from refmoe.errors import ConfigError, RefmoeError

MAX_VALUES, MAX_KEYS = 1_500_000, 800_000  # in one file; 139,644 tensors in one header need 1,117,152 and 558,576
MAX_WIDE = 16 << 20  # bytes of text that is not ASCII: Python may need 4 bytes of memory for each
MAX_DIGITS = 100
MAX_CONFIG = 4 << 20  # bytes; the largest published config.json is below 1 MB
_POINTER = b"version https://git-lfs"


def show(text: object, limit: int = 160) -> str:
    """A name as it may stand in a one-line message: printable, and cut when it is very long (paths are not cut)."""
    try:
        shown = str(text)
    except RecursionError:
        shown = "a deeply nested value"
    if len(shown) > limit and not isinstance(text, Path):
        shown = f"{shown[:limit]}... ({len(shown)} characters)"
    return shown if shown and shown.isprintable() else ascii(shown)


def some(names: Iterable[str], limit: int = 5) -> str:
    """At most `limit` names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(show(name, 300) for name in names[:limit]) + more


def what_else(head: bytes) -> str | None:
    """What a file is, judging by its first bytes, if it is one of the things people have instead of weights or JSON."""
    start = head.lstrip()[:20].lower()
    if head.startswith(_POINTER):
        return "a Git-LFS pointer, not the file itself; fetch it with `git lfs pull` or `hf download`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML or XML page, not the file itself; download it again"
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")) and head[8:9] != b"{":
        return "a zip or pickle file; these are never opened, safetensors is needed"
    if head.startswith(b"GGUF"):
        return "a GGUF file"
    return None


@contextlib.contextmanager
def open_regular(path: Path, error: type[RefmoeError]) -> Iterator[FileIO]:
    """A regular file, unbuffered, for reading; anything else (missing, folder, pipe, device) and every OSError while
    it is open is an `error`."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before opening: a pipe would wait for its writer
            raise error(f"{show(path)}: not a regular file")
        with open(path, "rb", buffering=0) as file:
            yield file
    except FileNotFoundError:
        raise error(f"{show(path)}: no such file") from None
    except OSError as problem:
        raise error(f"{show(path)}: cannot be read: {problem.strerror}") from None


def parse(raw: bytes, where: str, error: type[RefmoeError]) -> Any:
    """The value of a JSON text. `where` begins every message: the file, and the part of it."""
    values, keys = sum(raw.count(mark) for mark in (b",", b"[", b"{")), raw.count(b":")
    if values > MAX_VALUES or keys > MAX_KEYS:
        raise error(f"{where}: about {values} JSON values, {keys} keys; at most {MAX_VALUES}, {MAX_KEYS} are read")
    if len(raw) > MAX_WIDE and not raw.isascii():
        raise error(f"{where}: {len(raw)} bytes that are not all ASCII, at most {MAX_WIDE} are read")
    try:
        text = raw.decode("utf-8")
        del raw
        value = json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_constant=float)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
        return value
    except RecursionError:
        raise error(f"{where}: nested too deeply") from None
    except UnicodeDecodeError as problem:
        raise error(f"{where}: not UTF-8 at byte {problem.start}") from None
    except UnicodeEncodeError:
        raise error(f"{where}: a string holds half of a surrogate pair") from None
    except json.JSONDecodeError as problem:
        raise error(f"{where}: not JSON: {problem.msg} at character {problem.pos}") from None
    except ValueError as problem:
        raise error(f"{where}: {show(problem)}") from None


def read_json(path: Path, what: str, error: type[RefmoeError] = ConfigError, limit: int = MAX_CONFIG) -> dict[str, Any]:
    """The object in a JSON file. `what` says in messages what the file is for; `limit` is in bytes."""
    where = f"{show(path)}: {what}"
    with open_regular(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise error(f"{where} has {size} bytes, at most {limit} are read")
        raw = file.read(limit + 1)
    if not raw.strip():
        raise error(f"{where} is empty ({len(raw)} bytes)")
    if other := what_else(raw[:200]):
        raise error(f"{where} is {other}")
    value = parse(raw, where, error)
    if type(value) is not dict:
        raise error(f"{where} must be a JSON object, found {type(value).__name__}")
    return value


def _integer(digits: str) -> int | float:
    if len(digits) > MAX_DIGITS:
        return math.inf  # refused in _object, which knows the key
    return -0.0 if digits == "-0" else int(digits)  # JSON has no integer -0: it is a float wherever it stands


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f'key "{show(twice)}" appears twice')
    for key, value in pairs:
        kind = type(value)
        if kind is list or kind is float:
            _finite(key, value)
    return result


def _finite(key: str, value: list[Any] | float) -> None:
    if isinstance(value, list):
        for item in value:
            if type(item) is list or type(item) is float:
                _finite(key, item)
    elif not math.isfinite(value):
        raise ValueError(f'key "{show(key)}": NaN, Infinity or a number out of range')
