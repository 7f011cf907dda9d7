"""Options of the commands that generate, and what becomes of them."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from refmoe.cli import _shared


def _variables(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE: a JSON value, or else text."""
    found: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"expected NAME=VALUE, found {value[:40]!r}")
        try:
            found[name] = json.loads(text)
        except (ValueError, RecursionError):
            found[name] = text
    return found


SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_OPTIONS = (
    click.option("--max-tokens", type=int, default=None, help="Stop after this many.  [default: 128; in a chat 4096]"),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy: no randomness."),
    click.option("--top-k", type=int, default=0, show_default=True, help="Keep the k most likely tokens; 0 keeps all."),
    click.option("--top-p", type=float, default=1.0, show_default=True, help="Keep the fewest tokens with this share."),
    click.option("--min-p", type=float, default=0.0, show_default=True, help="Drop all below this share of the best."),
    click.option("--repetition-penalty", type=float, default=1.0, show_default=True, help="Above 1 avoids seen ones."),
    click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same text, on every machine."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be repeated."),
    click.option("--sampling", type=click.Choice(["options", "model"]), default="options", show_default=True,
                 help="model: what the checkpoint suggests, where no option says otherwise."),
)  # fmt: skip
_CHAT = (
    click.option("--system", metavar="TEXT", help="System message of a chat."),
    click.option("--think/--no-think", "thinking", default=None,
                 help="Whether to think before answering, for models with a switch.  [default: the model's own]"),
    click.option("--tools", "tools_file", metavar="FILE.json", help="Functions the model may call, as JSON schemas."),
    click.option("--variable", "variables", multiple=True, metavar="NAME=VALUE", callback=_variables,
                 help="For the chat template, like reasoning_effort=high; may be repeated."),
)  # fmt: skip


def sampling(command: Callable) -> Callable:
    """Adds the options of a generation."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chatting(command: Callable) -> Callable:
    """Adds the options of a chat."""
    for option in reversed(_CHAT):
        command = option(command)
    return command


def chosen(context: click.Context, model: Any, options: dict) -> dict:
    """The options of a generation, with what the model suggests for those that the caller left out if `sampling` says
    so."""
    options = dict(options)
    if options.pop("sampling") != "model":
        return options
    suggested = model.suggested
    given = [name for name in SAMPLING if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT]
    options |= {name: value for name, value in suggested.items() if name not in given}
    words = ", ".join(f"{name.replace('_', '-')} {options[name]:g}" for name in SAMPLING if name in suggested)
    _shared.note(f"sampling of the model: {words or 'it suggests none, greedy'}")
    return options


def read_tools(path: str | None) -> Any:
    """The functions in a JSON file: a list, or an object with a list called tools."""
    if path is None:
        return None
    from refmoe.chat import template
    from refmoe.checkpoint import strict_json
    from refmoe.errors import UsageError

    file = strict_json.Path(path)
    with strict_json.open_regular(file, UsageError) as stream:
        raw = stream.read(strict_json.MAX_CONFIG + 1)
    if len(raw) > strict_json.MAX_CONFIG:
        raise UsageError(f"{strict_json.show(file)}: has more than {strict_json.MAX_CONFIG} bytes")
    value = strict_json.parse(raw, strict_json.show(file), UsageError)
    return template.check_tools(value.get("tools", value) if isinstance(value, dict) else value)


def need_template(location: str | None) -> None:
    """TokenizerError, before weights are read, when a model has no chat template."""
    from refmoe import checkpoint
    from refmoe.chat import template
    from refmoe.checkpoint.directory import gguf_file
    from refmoe.errors import TokenizerError

    path = checkpoint.locate(location)
    if gguf_file(path) or template.load(path, {}) is not None:
        return
    if location is None:
        raise TokenizerError("the embedded model writes stories and has no chat template: try "
                             '`refmoe generate "Once upon a time"`, or give a chat model with -m')  # fmt: skip
    raise TokenizerError(f"{path}: the model has no chat template; it can continue raw text (`refmoe generate --raw`)")


class Screen:
    """Shows the steps of an answer: text on stdout, thinking on stderr (dim on a terminal, unless NO_COLOR is set)."""

    def __init__(self) -> None:
        import os

        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
        self._begin, self._end = ("", "") if plain else ("\x1b[2m", "\x1b[0m")
        self._thinks = False

    def show(self, step: Any) -> None:
        """One step."""
        if step.thinking:
            self._thinks = True
            _shared.show(f"{self._begin}{step.thinking}{self._end}")
        if step.text:
            self._finish_thinking()
            _shared.emit(step.text)

    def close(self, answer: Any) -> None:
        """Tool calls, a line each, and the end of the line."""
        self._finish_thinking()
        if answer.text or not answer.tool_calls:
            _shared.emit("\n")
        for call in answer.tool_calls:
            _shared.emit(json.dumps(call, ensure_ascii=False) + "\n")

    def _finish_thinking(self) -> None:
        if self._thinks:
            self._thinks = False
            _shared.show("\n\n")
