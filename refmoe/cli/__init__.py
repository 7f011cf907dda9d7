"""The command line: one file per command, found by name; errors become one line on stderr and an exit code.

A command file defines `command`, a click command named like the file, and imports the rest of the package only when
it runs: `refmoe --help` and `refmoe --version` need neither NumPy nor Numba. Files beginning with "_" are shared parts.

Exit codes: 0 done, 1 error, 2 usage, 130 interrupted, 141 broken pipe.
"""

import contextlib
import importlib
import os
import pkgutil
import signal
import sys

import click

from refmoe import __version__
from refmoe.errors import RefmoeError, UsageError

INTERRUPTED, BROKEN_PIPE = 128 + signal.SIGINT, 128 + 13  # 13 is SIGPIPE where there is one


class Commands(click.Group):
    """The group; its `main` ends the process with the exit codes above."""

    def list_commands(self, ctx):
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

    def get_command(self, ctx, cmd_name):
        if cmd_name not in self.list_commands(ctx):
            return None
        return importlib.import_module(f"{__name__}.{cmd_name}").command

    def main(self, args=None, prog_name="refmoe", **extra):
        extra["standalone_mode"] = False
        _open_closed_streams()
        with contextlib.suppress(AttributeError):
            sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode shows "?" instead of failing
        code = _exit_code(lambda: self._run(args, prog_name, extra))
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _abandon_stdout()
        sys.exit(code)

    def _run(self, args, prog_name, extra):
        if getattr(signal.getsignal(signal.SIGINT), "early", False):  # of refmoe.__main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return super().main(args=args, prog_name=prog_name, **extra)

    def make_context(self, *args, **extra):
        with _errors():  # --version writes here
            return super().make_context(*args, **extra)

    def invoke(self, ctx):
        with _errors(ctx.params.get("debug")):
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


@contextlib.contextmanager
def _errors(debug=False):
    """Exceptions to exit codes, inside click's own main, which would turn a broken pipe into exit code 1."""
    try:
        yield
    except BrokenPipeError:
        _abandon_stdout()
        raise click.exceptions.Exit(BROKEN_PIPE) from None
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if debug:
            raise
        raise click.exceptions.Exit(_report(error)) from error


def _exit_code(run) -> int:
    try:
        result = run()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} -h)" if context else ""
        _say(f"error: {error.format_message()}{hint}")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED


def _report(error: Exception) -> int:
    if isinstance(error, OSError):
        _say(f"error: {error.filename or 'input or output'}: {error.strerror or error}")
    elif isinstance(error, MemoryError):
        _say(f"error: not enough memory: {error}")
    elif isinstance(error, RefmoeError):
        _say(f"error: {error}")
    else:
        _say(f"internal error: {type(error).__name__}: {error} (`refmoe --debug ...` shows the traceback)")
    return 2 if isinstance(error, UsageError) else 1


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        click.echo("refmoe: " + " ".join(message.split()), err=True)


def _open_closed_streams() -> None:
    """A standard stream that the caller closed (`>&-`) becomes one whose use is an ordinary error (stderr: nothing is
    shown), instead of None and a number that the next opened file would get."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY if name != "stdout" else os.O_RDONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _abandon_stdout() -> None:
    """Nobody can take what is still buffered: point stdout elsewhere, so that the interpreter's last flush is quiet."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog='Shell completion: eval "$(_REFMOE_COMPLETE=bash_source refmoe)"; also zsh_source, fish_source.',
)
@click.version_option(__version__, message="refmoe %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(ctx, debug):
    """Run published mixture-of-experts models on the CPU, bit for bit as a written spec says.

    Results go to stdout, progress and statistics to stderr.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
