"""refmoe spec"""

import click

from refmoe.cli import _shared


@click.command("spec")
@click.argument("name", required=False)
@click.option("--check", is_flag=True, help="Compare SPEC.md with what the sources say now; exit 1 if they differ.")
def command(name, check):
    """Print the specification, or the clause NAME of it (an op, a weight format, reduce, sampler, a family, ...)."""
    from refmoe import spec
    from refmoe.errors import RefmoeError, UsageError

    if name and check:
        raise UsageError("--check compares the whole specification; leave NAME out")
    path = spec.PACKAGE / "SPEC.md"
    if name:
        _shared.emit(spec.clause(name).rstrip("\n") + "\n")
    elif not check:
        _shared.emit(path.read_text(encoding="utf-8"))
    elif spec.build() != path.read_text(encoding="utf-8"):
        raise RefmoeError(f"{path}: differs from the sources of this installation")
    else:
        _shared.note("SPEC.md is what the sources say")
