"""The program: `refmoe`, or python -m refmoe. Ctrl-C ends it quietly from its first moment on, also while the rest of
the package is being imported."""

import gc
import os
import signal
from typing import Any


def _leave(*_: Any) -> None:
    os._exit(128 + signal.SIGINT)


_leave.early = True  # type: ignore[attr-defined]  # refmoe.cli takes over when it can report


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where `nohup` or `&` have switched it off
        signal.signal(signal.SIGINT, _leave)
    gc.set_threshold(200_000)  # imports and headers make many objects that stay: looking through them costs 0.1 s
    from refmoe.cli import main as commands

    commands()


if __name__ == "__main__":
    main()
