"""refmoe verify"""

import json
import os

import click

from refmoe.cli import _shared
from refmoe.cli.check import report_options, show_report
from refmoe.cli.vectors import select, selection_options


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


@command.command("endpoint")
@click.argument("url", metavar="URL")
@click.option("-m", "--model", "location", metavar="MODEL", required=True, help="The checkpoint it should be serving.")
@click.option("--served", metavar="NAME", help="The server's name for it.  [default: the first that it lists]")
@click.option("--profile", metavar="NAME|FILE", default="bf16", show_default=True,
              help="Arithmetic that the server declares (see refmoe check -h).")
@click.option("--positions", type=click.IntRange(2, 256), default=32, show_default=True,
              help="Positions at which log-probabilities are compared.")
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, metavar="SECONDS",
              help="For one request; each is tried three times.")
@click.option("--api-key-env", metavar="NAME", default="OPENAI_API_KEY", show_default=True,
              help="Environment variable that holds the key, if the server wants one.")
@_shared.json_option
@_shared.threads_option
@click.pass_context
def endpoint(context, url, location, served, profile, positions, timeout, api_key_env, as_json, threads):
    """Is this OpenAI-compatible server serving this checkpoint at this precision?

    Compares the number of tokens that it counts in texts, ids and conversations, and the log-probabilities that it
    gives to chosen tokens (teacher forcing), with the reference. How far these may be apart is measured by running the
    reference with results rounded as the profile says.

    \b
    refmoe verify endpoint http://localhost:8000 -m Qwen/Qwen3-30B-A3B --profile bf16

    Exit codes: 0 it is, 1 it is not (or no useful answer), 3 not everything could be asked, 4 too close to tell.
    """
    from refmoe.endpoint.client import Client
    from refmoe.verifier.profiles import load as load_profile

    arithmetic, client = load_profile(profile), Client(url, os.environ.get(api_key_env) or None, timeout)
    model = _shared.open_model(location, threads)
    from refmoe.endpoint import score

    with _shared.running() as progress:
        report = score(url, model, arithmetic, served, positions, progress=progress, client=client)
    _shared.emit(json.dumps(report.facts(), allow_nan=False) + "\n" if as_json else report.text())
    if report.code:
        context.exit(report.code)


@command.command("port", context_settings={"ignore_unknown_options": True})
@click.argument("program", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@selection_options
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, metavar="SECONDS",
              help="For one case.")
@report_options
@click.pass_context
def port(context, program, op, format, bug, timeout, profile, every, junit, html, as_json):
    """Run a port on golden vectors and judge what it writes, as `refmoe check` does.

    COMMAND is called once for each case with two more words: the file of the case, without its results, and the file
    to write. It exits with 0, or with 3 if it has no such op or format: these cases are left out and counted.

    \b
    refmoe verify port ./port                                all ops and formats that it has
    refmoe verify port --op rms_norm --profile bf16 -- python my_port.py --device cuda

    Exit codes: as refmoe check; a case on which the program fails is a missing one.
    """
    import tempfile

    from refmoe import verifier
    from refmoe.verifier import port as runner

    chosen = select((), op, format, bug)
    with tempfile.TemporaryDirectory() as folder:
        with _shared.running() as progress:
            absent, failures = runner.run(program, chosen, folder, timeout, progress)
        report = verifier.check(f"{folder}/vectors", f"{folder}/results", profile)
    for line in failures[:20]:
        _shared.note(line)
    if len(failures) > 20 or absent:
        _shared.note(f"{len(failures)} cases failed, {absent} cases are of ops or formats that the port does not have")
    report.reference, report.port = "golden", " ".join(program)
    show_report(context, report, every, junit, html, as_json)


@command.command("checkpoint")
@click.argument("location", metavar="DIR")
@click.option("--list", "only_list", is_flag=True, help="Say what would be run and what not; read no weights.")
@click.option("--as", "name", metavar="NAME", default=None,
              help="Which checkpoint it is, as org/name.  [default: by tensors, name or config]")
@click.option("--goldens", metavar="PATH", type=click.Path(exists=True), default=None,
              help="A file or folder of further published outputs (golden/README.md describes them).")
@_shared.json_option
@_shared.threads_option
@click.pass_context
def checkpoint(context, location, only_list, name, goldens, as_json, threads):
    """Check a checkpoint (directory or hub id) and run the outputs published for it.

    Reads every tensor once (digest, nan, inf), recognises the checkpoint, and compares logits, greedy continuations and
    tokenizer vectors with what was published, each with the tolerance of its arithmetic.
    Exit code 0 conformant, 1 not conformant, 3 nothing could be run, 4 inconclusive.
    """
    _shared.prepare(threads)
    _shared.announce_compiling()
    from refmoe import verify_checkpoint

    report = verify_checkpoint.check(location, goldens, name, only_list, threads, _shared.note)
    _shared.emit(json.dumps(report.facts(), allow_nan=False) + "\n" if as_json else _checkpoint_text(report))
    if not only_list and verify_checkpoint.EXIT[report.verdict]:
        context.exit(verify_checkpoint.EXIT[report.verdict])


def _checkpoint_text(report) -> str:
    facts, found = report.structure, [one["checkpoint"] for one in report.recognised]
    by = {"tensors": "its tensors are those of", "name": "named", "config": "the shape of"}
    who = f"{by[report.recognised[0]['by']]} {found[0]}" if found else "no published checkpoint known here"
    if len(found) > 1:
        who = f"could be any of {', '.join(found)}" if report.ambiguous else f"{who} and {', '.join(found[1:])}"
    rows = [
        ("checkpoint", f"{report.path}: {who}"),
        ("parameters", f"{facts['parameters']:,} total, {facts['active']:,} active"),
        ("weights", f"{facts['tensors']:,} tensors, {facts['ignored_tensors']:,} of them ignored; stored as "
                    f"{', '.join(facts['formats'])}" if "tensors" in facts else "none here"),
        ("tokenizer", "none" if facts["tokenizer_ids"] is None else
         f"{facts['tokenizer_ids']:,} ids for {facts['vocabulary_rows']:,} rows of the embedding"),
    ]  # fmt: skip
    if "content_digest" in facts:
        rows += [("tensor digest", facts["content_digest"])]
        bad = len(facts["not_finite"])
        rows += [("finite", f"all but {bad} tensors" if bad else "every weight")]
    lines = [f"{name:<14} {value}" for name, value in rows]
    lines += [f"{'problem':<14} {line}" for line in report.problems] + [f"{'note':<14} {line}" for line in report.notes]
    for name, result in report.results:
        weak = "" if result.golden.status == "good" else f" ({result.golden.status} golden)"
        lines.append(f"{result.verdict:<14} {result.golden.id}{weak} [{name}]: {result.words}")
    return "\n".join(lines if report.listed else [*lines, report.verdict.upper()]) + "\n"


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
