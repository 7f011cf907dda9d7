"""refmoe verify"""

import json

import click

from refmoe.cli import _shared


@click.group("verify", no_args_is_help=False)
def command():
    """Check that results are those of the specification."""


@command.command("install")
@_shared.json_option
@_shared.threads_option
@click.pass_context
def install(context, as_json, threads):
    """Run every golden vector and tiny model on this machine; exit 1 if a bit is wrong.

    The digest at the end is the same on every machine that computes the same bits.
    """
    _shared.prepare(threads)
    from refmoe import verify

    _shared.announce_compiling()
    report = verify.install(_shared.note)
    _shared.emit(json.dumps(report.facts()) + "\n" if as_json else _text(report))
    if not report.exact:
        context.exit(1)


def _text(report) -> str:
    from refmoe import verify

    place = report.environment
    features = " ".join(word for word in verify.NOTABLE if word in place["features"])
    lines = [
        f"refmoe {place['refmoe']}, numerics {place['numerics']}, python {place['python']}, numpy {place['numpy']}, "
        f"numba {place['numba']}, llvmlite {place['llvmlite']}",
        f"{place['system']}, {place['cpu']} {features}".rstrip() + f", {place['threads']} threads",
        f"{'family':<36}{'cases':>7}{'exact':>7}{'failed':>8}",
    ]
    for family in report.families:
        lines.append(f"{family.name:<36}{family.cases:>7}{family.exact:>7}{family.cases - family.exact:>8}")
        lines += [f"  {line}" for line in family.failures[:5]]
        if len(family.failures) > 5:
            lines.append(f"  and {len(family.failures) - 5} more")
    cases, exact = (sum(getattr(family, key) for family in report.families) for key in ("cases", "exact"))
    lines.append(f"{'all':<36}{cases:>7}{exact:>7}{cases - exact:>8}   {report.seconds:.1f} s")
    lines.append(f"{'EXACT' if report.exact else 'NOT EXACT'} {report.digest}")
    return "\n".join(lines) + "\n"
