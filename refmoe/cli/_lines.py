"""What a person types, or a pipe holds: messages of one line, or of several between three quotation marks."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from refmoe import places
from refmoe.cli import _shared
from refmoe.errors import TokenizerError

QUOTES = '"""'


def messages(terminal: bool) -> Iterator[str]:
    """Messages until the input ends. On a terminal with prompts and a history that is kept between runs."""
    if not terminal:
        yield from _joined(lambda prompt: _piped())
        return
    with _history():
        yield from _joined(_typed)


def _joined(line: Callable[[str], str | None]) -> Iterator[str]:
    while (first := line(">>> ")) is not None:
        if not first.lstrip().startswith(QUOTES):
            yield first
            continue
        parts, last = [first.lstrip().removeprefix(QUOTES)], first.strip() == QUOTES
        while last or not parts[-1].rstrip().endswith(QUOTES):
            more, last = line("... "), False
            if more is None:
                break
            parts.append(more)
        yield "\n".join(parts).rstrip().removesuffix(QUOTES).strip("\n")


def _piped() -> str | None:
    raw = sys.stdin.buffer.readline()
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r") if raw else None
    except UnicodeDecodeError as problem:
        raise TokenizerError(f"stdin: not UTF-8 at byte {problem.start} of a line") from None


def _typed(prompt: str) -> str | None:
    while True:
        try:
            return input(prompt)
        except EOFError:
            _shared.emit("\n")
            return None
        except KeyboardInterrupt:
            _shared.show("\n(Ctrl-D or /bye ends)\n")


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    file = places.state_file("chat_history")
    with contextlib.suppress(OSError):
        if file is not None:
            readline.read_history_file(file)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if file is not None:
                readline.write_history_file(file)
