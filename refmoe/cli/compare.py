"""refmoe compare"""

import json

import click

from refmoe.cli import _shared


@click.command("compare")
@click.argument("left", type=click.Path())
@click.argument("right", type=click.Path(), required=False)
@click.option("-m", "--model", "location", metavar="MODEL", help="Reference: directory, hub id, or .gguf file.")
@click.option("--map", "names", metavar="NAME|FILE", help="Names of the other program: hf, llama.cpp, vllm, sglang.")
@click.option("--profile", metavar="NAME|FILE", default="f32-any-order", show_default=True,
              help="Arithmetic of the other program (see refmoe check -h).")
@click.option("--mode", type=click.Choice(["auto", "replay", "free", "logits", "tokens"]), default="auto",
              show_default=True, help="What to compare; tokens: LEFT is a JSON list of texts and their ids.")
@_shared.ids_option
@click.option("--all", "every", is_flag=True, help="Describe every wrong step.")
@click.option("--junit", type=click.Path(dir_okay=False), help="Also write a JUnit XML file.")
@click.option("--html", type=click.Path(dir_okay=False), help="Also write a page to look at: one file, works offline.")
@_shared.json_option
@_shared.threads_option
@click.pass_context
def command(context, left, right, location, names, profile, mode, ids, every, junit, html, as_json, threads):
    """Judge a recorded run LEFT step by step against a model, or see where it parts from another run RIGHT.

    \b
    refmoe compare theirs/ -m DIR --map vllm --profile bf16
    refmoe compare mine.safetensors -m DIR             a trace in our names
    refmoe compare a.safetensors b.safetensors         two traces, no model
    refmoe compare prompts.json -m DIR --mode tokens   token ids only

    Every step is judged on its own recorded inputs, so one wrong step blames no other.

    Exit codes: 0 conforming, 1 something wrong, 3 not everything could be judged, 4 nothing could be told.
    """
    if (location is None) == (right is None):
        raise click.UsageError("give RIGHT or --model, exactly one of them", context)
    _shared.prepare(threads)
    from refmoe.verifier.profiles import load as load_profile

    arithmetic = load_profile(profile)  # refused before the model is loaded
    model = _shared.open_model(location, threads) if location is not None else None
    from refmoe import comparison

    with _shared.running() as progress:
        report = comparison.compare(left, right, model, names, arithmetic, mode, ids, progress)
    if as_json:
        _shared.emit(json.dumps(report.facts(), indent=1) + "\n")
    else:
        from refmoe.comparison import text

        _shared.emit(text.report(report, every))
    if junit is not None:
        from refmoe.verifier import junit as writer

        writer.write(junit, writer.of_compare(report))
    if html is not None:
        from refmoe.comparison import page

        page.write(html, page.of_compare(report.facts()))
    if report.code:
        context.exit(report.code)
