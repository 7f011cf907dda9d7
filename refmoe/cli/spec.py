"""refmoe spec"""

from pathlib import Path

import click

from refmoe.cli import _shared


@click.command("spec")
@click.argument("name", required=False)
@click.option("--check", is_flag=True, help="Compare SPEC.md with what the sources say now; exit 1 if they differ.")
def command(name, check):
    """Print the specification, or the clause NAME of it (an op, a weight format, reduce, sampler, ...)."""
    import refmoe
    from refmoe.errors import RefmoeError, UsageError

    if name and check:
        raise UsageError("--check compares the whole specification; leave NAME out")
    package = Path(refmoe.__file__).parent
    if name:
        _shared.emit(_clause(package, name))
        return
    stored = (package / "SPEC.md").read_text(encoding="utf-8")
    if not check:
        _shared.emit(stored)
        return
    from refmoe import spec

    if spec.build() != stored:
        raise RefmoeError(f"{package / 'SPEC.md'}: differs from the sources of this installation")
    _shared.note("SPEC.md is what the sources say")


def _clause(package: Path, name: str) -> str:
    import ast

    from refmoe.errors import UsageError

    found = {path.stem: path for folder in ("numerics", "formats", "ops") for path in (package / folder).glob("*.py")}
    found["sampler"] = package / "sampler.py"
    found.pop("__init__", None)
    if name not in found:
        raise UsageError(f"no clause {name!r}: expected one of {', '.join(sorted(found))}")
    return (ast.get_docstring(ast.parse(found[name].read_text(encoding="utf-8"))) or "") + "\n"
