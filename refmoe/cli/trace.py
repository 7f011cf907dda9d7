"""refmoe trace"""

import os

import click

from refmoe.cli import _shared


@click.command("trace")
@_shared.model_option
@click.option("--prompt", metavar="TEXT", help="Text to run (- for stdin).")
@_shared.ids_option
@click.option("--points", multiple=True, metavar="GLOB", help="What to keep, like 'layers.*.route_*'; repeatable.")
@click.option("--steps", type=click.IntRange(0, 1 << 20), default=0, show_default=True, help="Greedy steps after it.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="File to write; without it, a list is printed.")
@_shared.threads_option
@_shared.kv_dtype_option
@_shared.activations_option
def command(location, prompt, ids, points, steps, output, threads, kv_dtype, activations):
    """Record the outputs of a model's steps as a safetensors file."""
    _shared.one_prompt(prompt, ids, "--prompt")
    if output == "":
        raise click.UsageError("--output: expected a file name, found nothing", click.get_current_context())
    if output is not None and not os.path.isdir(os.path.dirname(output) or "."):
        raise click.UsageError(f"--output {output}: no such directory", click.get_current_context())
    text = None if prompt is None else _shared.read_prompt(prompt)
    model = _shared.open_model(location, threads, kv_dtype, activations)
    start = _shared.prompt_ids(model, text, ids)
    recorded = model.trace(start, points or ("*",), steps)
    if output is None:
        _shared.emit("".join(f"{name} {array.dtype} {list(array.shape)}\n" for name, array in recorded.items()))
        return
    from refmoe import trace

    trace.write(output, model, recorded)
    _shared.note(f"{len(recorded)} arrays in {output}")
