"""refmoe quantize"""

import json

import click

from refmoe.cli import _shared


@click.command("quantize")
@_shared.model_option
@click.option("-o", "--output", required=True, type=click.Path(),
              help="New folder for the result; for a GGUF format a new file that ends in .gguf.")
@click.option("--format", "target", required=True, metavar="NAME",
              help="int4-g32, int4-g128, int4-g128-asym, int8, fp8 or mxfp4; as GGUF q8_0, q4_0, q4_k or bf16.")
@click.option("--experts-only", is_flag=True, help="Only the experts; attention and the rest stay as they are.")
@_shared.json_option
def command(location, output, target, experts_only, as_json):
    """Write a model again with quantised weights, in an encoding that other engines read too.

    \b
    refmoe quantize -m DIR -o OUT --format int4-g32 --experts-only
    refmoe quantize -m DIR -o OUT --format fp8
    refmoe quantize -m DIR -o OUT.gguf --format q4_k

    One output file is in memory at a time, of a GGUF file one matrix. A run that was stopped goes on where it was when
    started again; a GGUF file is begun again.
    """
    _shared.prepare(None)
    from refmoe import quantize

    with _shared.running() as progress:
        report = quantize.run(location, output, target, experts_only,
                              lambda done, total: progress(done, total, "bytes"))  # fmt: skip
    _shared.emit(json.dumps(report.facts()) + "\n" if as_json else _text(report))


def _text(report) -> str:
    lines = [f"{'role':<14}{'tensors':>8}{'mean error':>12}{'largest':>10}{'bytes before':>16}{'after':>16}"]
    for role in dict.fromkeys(entry.role for entry in report.entries):
        mine = [entry for entry in report.entries if entry.role == role]
        errors = [entry.relative_error for entry in mine]
        lines.append(f"{role:<14}{len(mine):>8}{sum(errors) / len(errors):>12.5f}{max(errors):>10.5f}"
                     f"{sum(e.before for e in mine):>16,}{sum(e.after for e in mine):>16,}")  # fmt: skip
    for stem, reason in list(report.kept.items())[:5]:
        lines.append(f"kept as it was: {stem}: {reason}")
    for stem, reason in list(report.narrow.items())[:5]:
        lines.append(f"encoded in narrower blocks: {stem}: {reason}")
    lines += report.notes
    if report.left_out:
        lines.append(f"{len(report.left_out)} tensors left out, which no forward pass uses")
    lines.append(f"{report.output}: {report.after:,} bytes, {report.after / max(report.before, 1):.3f} of the source")
    return "\n".join(lines) + "\n"
