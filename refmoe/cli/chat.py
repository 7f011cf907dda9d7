"""refmoe chat"""

import click

from refmoe.cli import _options, _shared


@click.command("chat")
@_shared.model_option
@_options.chatting
@_options.sampling
@_shared.threads_option
@_shared.kv_dtype_option
@_shared.activations_option
@click.pass_context
def command(context, location, system, thinking, tools_file, variables, threads, kv_dtype, activations,
            **options):
    """Talk with a model that has a chat template. /help lists the commands; Ctrl-C stops an answer, Ctrl-D ends.

    \b
    refmoe chat -m Qwen/Qwen3-30B-A3B --no-think --sampling model
    printf 'Why is the sky blue?\\nAnd at night?\\n' | refmoe chat -m DIR     # a line is a message

    Messages of several lines stand between lines of three quotation marks. What the conversation began with is not
    computed again.
    """
    _shared.prepare(threads)
    from refmoe.generate import Options

    options["max_tokens"] = 4096 if options["max_tokens"] is None else options["max_tokens"]
    Options(**{name: value for name, value in options.items() if name != "sampling"})  # refused before loading
    tools = _options.read_tools(tools_file)
    _options.need_template(location)
    model = _shared.open_model(location, threads, kv_dtype, activations)
    options = _options.chosen(context, model, options)
    from refmoe.cli import _repl

    _repl.Repl(model, options, system, thinking, tools, variables).run()
