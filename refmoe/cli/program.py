"""refmoe program"""

import click

from refmoe.cli import _shared


@click.command("program")
@_shared.model_option
@_shared.activations_option
@_shared.json_option
def command(location, activations, as_json):
    """Print a model's step program: every operation, its inputs, weights and numbers. Needs only config.json."""
    from refmoe import info

    program = info.program_of(location)
    program = program.with_int8() if activations == "int8" else program
    _shared.emit(program.to_json() + "\n" if as_json else program.text())
