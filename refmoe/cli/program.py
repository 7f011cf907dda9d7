"""refmoe program"""

import click

from refmoe.cli import _shared


@click.command("program")
@_shared.model_option
@_shared.json_option
def command(location, as_json):
    """Print a model's step program: every operation, its inputs, weights and numbers. Needs only config.json."""
    from refmoe import info

    program = info.program_of(location)
    _shared.emit(program.to_json() + "\n" if as_json else program.text())
