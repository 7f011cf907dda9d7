"""refmoe check"""

import json

import click

from refmoe.cli import _shared

PROFILE = ("Arithmetic of the port: exact, f32-any-order, bf16, f16, tf32, fp8-accumulate, int8-activations, or a "
           "TOML or JSON file.  [default: profile.toml beside the results, else f32-any-order]")


def show_report(context, report, every, junit, html, as_json):
    """Print a report, write what was asked for, leave with its exit code."""
    if as_json:
        _shared.emit(json.dumps(report.facts(), indent=1) + "\n")
    else:
        from refmoe.verifier import text

        _shared.emit(text.report(report, every))
    if junit is not None:
        from refmoe.verifier import junit as writer

        writer.write(junit, writer.of_check(report))
    if html is not None:
        from refmoe.comparison import page

        page.write(html, page.of_check(report.facts()))
    if report.unused:
        _shared.note(f"{len(report.unused)} files of {report.port} belong to no case: {', '.join(report.unused[:3])}")
    if report.code:
        context.exit(report.code)


def report_options(function):
    """--profile, --all, --junit, --html and --json."""
    for option in (
        _shared.json_option,
        click.option("--html", type=click.Path(dir_okay=False),
                     help="Also write a page to look at: one file, works offline."),
        click.option("--junit", type=click.Path(dir_okay=False), help="Also write a JUnit XML file."),
        click.option("--all", "every", is_flag=True, help="Describe every wrong case, not the first three of an op."),
        click.option("--profile", metavar="NAME|FILE", default=None, help=PROFILE),
    ):
        function = option(function)
    return function


@click.command("check")
@click.argument("reference")
@click.argument("port", type=click.Path())
@report_options
@click.pass_context
def command(context, reference, port, profile, every, junit, html, as_json):
    """Judge what a port computed from exported vectors: equal bits, within its declared arithmetic, or wrong - and if
    wrong, where, and which known bug it looks like.

    REFERENCE is a folder of `refmoe vectors export`, or the word golden. PORT has one file for each case.

    \b
    refmoe vectors export rms_norm -o v/
    refmoe check v/ v/                       the vectors themselves: all EXACT
    refmoe check v/ mine/ --profile bf16     a port that computes in bfloat16
    refmoe check golden mine/ --json

    \b
    A profile file states facts about the port, no tolerances:
      based_on = "bf16"        # operands, intermediate values and results in bf16, matrix units
      output = "f32"           # but results in f32
      [at."route_*"]           # and for ops that match:
      output = "f32"

    Exit codes: 0 all EXACT or WITHIN, 1 something WRONG, 3 results missing, 4 the bounds are too wide to tell.
    """
    from refmoe import verifier

    show_report(context, verifier.check(reference, port, profile), every, junit, html, as_json)
