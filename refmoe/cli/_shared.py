"""What several commands share: the model options, opening a model with progress on stderr, reading ids and prompts."""

import contextlib
import os
import signal
import sys
import threading
import time

import click

MAX_THREADS = 4096
model_option = click.option(
    "-m", "--model", "location", metavar="MODEL", default=None,
    help="Directory, or hub id in the local Hugging Face cache.  [default: the embedded model]",
)  # fmt: skip
threads_option = click.option(
    "--threads", type=click.IntRange(1, MAX_THREADS), default=None,
    help="How many threads compute; changes no result.  [default: all]",
)  # fmt: skip
kv_dtype_option = click.option(
    "--kv-dtype", type=click.Choice(["f32", "bf16"]), default="f32", show_default=True,
    help="How keys and values are stored; changes results.",
)  # fmt: skip
activations_option = click.option(
    "--activations", type=click.Choice(["f32", "int8"]), default="f32", show_default=True,
    help="int8: rows as 8-bit codes in products with integer weights; faster, changes results.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def note(message: str) -> None:
    """One line on stderr that is not an error."""
    show(f"refmoe: {message}\n")


def show(text: str) -> None:
    """Text to stderr; where that cannot be written, the results still can."""
    with contextlib.suppress(OSError):
        click.echo(text, nl=False, err=True)


def emit(text: str) -> None:
    """Text to stdout at once and as it is (click's echo would drop escape sequences when stdout is a file)."""
    sys.stdout.write(text)
    sys.stdout.flush()


def prepare(threads) -> None:
    """Import the engine. Numba reads the number of threads it may ever use from the environment when it is imported."""
    if "numba" in sys.modules:
        return
    if threads:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)
    words = os.environ.get("NUMBA_NUM_THREADS", "1")
    if not (words.isascii() and words.isdigit() and 1 <= int(words[:9]) <= MAX_THREADS):
        from refmoe.errors import UsageError

        raise UsageError(f"NUMBA_NUM_THREADS: expected a number from 1 to {MAX_THREADS}, found {words[:40]!r}")
    with _leaving_on_interrupt():
        import refmoe.model  # noqa: F401


def announce_compiling() -> None:
    """Say so on stderr, once, if a kernel must be compiled from here on."""
    from refmoe import jit

    jit.when_compiling(lambda: note("compiling kernels for this CPU (first run only)..."))


def open_model(location, threads=None, kv_dtype="f32", activations="f32"):
    """refmoe.load with what a person wants to see while waiting."""
    prepare(threads)
    announce_compiling()
    import refmoe

    progress = _Progress()
    try:
        return refmoe.load(location, kv_dtype=kv_dtype, activations=activations, threads=threads, progress=progress)
    finally:
        progress.close()


@contextlib.contextmanager
def _leaving_on_interrupt():
    """While large libraries are imported, Ctrl-C ends the process at once: some of them would swallow the exception."""
    if threading.current_thread() is not threading.main_thread() or (
            handler := signal.getsignal(signal.SIGINT)) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


class _Progress:
    """Loading progress: a running line on a terminal, one line elsewhere; nothing when it takes less than a second."""

    def __init__(self):
        self._begin, self._last, self._shown = time.monotonic(), -1, False
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if time.monotonic() - self._begin < 1.0 or percent == self._last or (self._shown and not self._terminal):
            return
        self._last, self._shown = percent, True
        if self._terminal:
            show(f"\rloading {total / 1e9:.1f} GB: {percent} %")
        else:
            note(f"loading {total / 1e9:.1f} GB...")

    def close(self) -> None:
        """Clear the running line."""
        if self._shown and self._terminal:
            show("\r" + " " * 40 + "\r")


@contextlib.contextmanager
def running():
    """A call (done, total, what) that shows progress on a terminal's stderr; elsewhere nothing."""
    begin, terminal = time.monotonic(), sys.stderr.isatty()

    def step(done: int, total: int, what: str) -> None:
        if terminal and time.monotonic() - begin > 1.0:
            show(f"\r{done} of {total}: {what[:50]:<50}")

    try:
        yield step
    finally:
        if terminal:
            show("\r" + " " * 76 + "\r")


def parse_ids(ctx, param, value):
    """Callback of --ids: numbers separated by commas or spaces."""
    if value is None:
        return None
    words = value.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        raise click.BadParameter("expected token ids like 1,2,3")
    return [int(word) for word in words]


ids_option = click.option("--ids", callback=parse_ids, metavar="1,2,3", help="Token ids instead of text.")


def read_prompt(prompt: str) -> str:
    """The prompt itself, or stdin for "-": UTF-8, without one final line break."""
    from refmoe.errors import TokenizerError

    if prompt != "-":
        return prompt
    raw = sys.stdin.buffer.read()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise TokenizerError(f"stdin: not UTF-8 at byte {problem.start}") from None
    return text.removesuffix("\n").removesuffix("\r")


def one_prompt(prompt: str | None, ids: list[int] | None, name: str) -> None:
    """UsageError unless exactly one of the two is given."""
    if (prompt is None) == (ids is None):
        raise click.UsageError(f"give {name} or --ids, exactly one of them", click.get_current_context())


def prompt_ids(model, prompt: str | None, ids: list[int] | None, parse_special: bool = False) -> list[int]:
    """Token ids from text or ids. Empty text means the model's BOS."""
    from refmoe.errors import UsageError

    if prompt is None:
        return model.check_ids(ids)
    with quiet_panics():
        found = model.encode(prompt, parse_special=parse_special)
    if not found and model.start_id is None:
        raise UsageError("the prompt is empty and the model has no bos_token_id to begin with")
    return found or [model.start_id]


@contextlib.contextmanager
def quiet_panics():
    """Keep what the tokenizer library's Rust code writes to file descriptor 2 when it panics off the screen; the
    exception that follows becomes our one line."""
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except OSError:
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
