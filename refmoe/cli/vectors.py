"""refmoe vectors"""

import json

import click

from refmoe.cli import _shared


@click.group("vectors", no_args_is_help=False)
def command():
    """Golden vectors: list them, or export them for a port to compute."""


def selection_options(function):
    """--op, --format and --bug."""
    for option in (
        click.option("--bug", metavar="ID", help="Those that hunt one catalogued bug, like R01."),
        click.option("--format", metavar="NAME", help="Those of one weight format."),
        click.option("--op", metavar="NAME", help="Those of one op."),
    ):
        function = option(function)
    return function


def select(names, op, format, bug):
    """The cases that a command line names."""
    if sum(map(bool, (names, op, format))) > 1:
        raise click.UsageError("give names, --op or --format, only one of them", click.get_current_context())
    from refmoe.verifier import vectors

    return vectors.select(names, op, format, bug)


@command.command("list")
@click.argument("names", nargs=-1)
@selection_options
@_shared.json_option
def show(names, op, format, bug, as_json):
    """Show the cases, what they hunt, and the bugs they kill.

    \b
    refmoe vectors list                      all of them
    refmoe vectors list rms_norm             those of an op
    refmoe vectors list --bug R15            those that show a catalogued bug
    """
    from refmoe.verifier import vectors

    chosen = select(names, op, format, bug)
    if as_json:
        _shared.emit(json.dumps([vectors.facts(case) for case in chosen], indent=1) + "\n")
        return
    lines = [f"{vectors.name_of(case):<52} {' '.join(case.bugs):<12} {case.hunts}" for case in chosen]
    _shared.emit("".join(line.rstrip() + "\n" for line in lines))
    _shared.note(f"{len(chosen)} cases")


@command.command("export")
@click.argument("names", nargs=-1)
@selection_options
@click.option("--all", "every", is_flag=True, help="All ops and formats.")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False), help="Folder to write.")
@click.option("--blind", is_flag=True, help="Inputs only, without the expected results.")
def export(names, op, format, bug, every, output, blind):
    """Write cases to a folder, with a manifest and a README for people who have no refmoe.

    \b
    refmoe vectors export route_softmax_topk -o v/
    refmoe vectors export --all -o v/
    refmoe vectors export --bug A12 --blind -o v/
    refmoe check v/ mine/                    when your program has written mine/
    """
    if not (names or op or format or bug or every):
        raise click.UsageError("give an op, a format, --bug or --all", click.get_current_context())
    if output == "":
        raise click.UsageError("--output: expected a folder, found nothing", click.get_current_context())
    from refmoe.verifier import vectors

    manifest = vectors.export(select(names, op, format, bug), output, blind)
    _shared.note(f"{len(manifest['cases'])} cases in {output}")
