"""refmoe bench"""

import contextlib
import json
import tempfile
from pathlib import Path

import click

from refmoe.cli import _shared


def _lengths(ctx, param, value):
    words = value.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() and 0 < int(word) < 10**6 for word in words):
        raise click.BadParameter("expected prompt lengths like 16,128,512")
    return tuple(int(word) for word in words)


@click.command("bench")
@_shared.model_option
@click.option("--synthetic", metavar="NAME", help="Make a random model of a known shape: kimi-1b, qwen3_moe-2b, "
              "qwen3_moe-48, mixtral-1b5, qwen3-tiny.")
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path),
              help="Keep the synthetic model here and use it again.  [default: a temporary folder]")
@_shared.threads_option
@_shared.kv_dtype_option
@_shared.activations_option
@click.option("--context", type=click.IntRange(1, 10**6), default=16, show_default=True,
              help="Tokens in the cache before decoding is timed.")
@click.option("--tokens", type=click.IntRange(1, 10**5), default=8, show_default=True,
              help="Decoded tokens per timed window; there are nine windows.")
@click.option("--prefill", "lengths", callback=_lengths, default="16,128,512", show_default=True, metavar="N,N",
              help="Prompt lengths to time.")
@click.option("--first-token/--no-first-token", default=True, show_default=True,
              help="Time the first token of a new process, with an empty and with a full compile cache.")
@_shared.json_option
def command(location, synthetic, directory, threads, kv_dtype, activations, context, tokens, lengths, first_token,
            as_json):  # fmt: skip
    """Measure speed and memory against the read bandwidth of this machine, measured in the same run."""
    if location is not None and synthetic is not None:
        raise click.UsageError("give -m or --synthetic, not both", click.get_current_context())
    if directory is not None and synthetic is None:
        raise click.UsageError("--dir is where --synthetic keeps its model", click.get_current_context())
    _shared.prepare(threads)
    with contextlib.ExitStack() as stack:
        if synthetic is not None:
            location = str(_make(synthetic, directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        report = _run(location, threads, kv_dtype, activations, context, tokens, lengths, first_token)
    report = {"model": synthetic or location or "embedded"} | report
    _shared.emit(json.dumps(report) + "\n" if as_json else _text(report))


def _make(name: str, directory: Path) -> Path:
    from refmoe import synthetic

    if name in synthetic.CONFIGS:
        _shared.note(f"{name}: writing random weights to {directory} unless they are there")
    return synthetic.make(name, directory, lambda done, total: _shared.note(f"written {done:,} of {total:,} bytes"))


def _run(location, threads, kv_dtype, activations, context, tokens, lengths, first_token) -> dict:
    from refmoe import bench

    model = _shared.open_model(location, threads, kv_dtype, activations)
    return bench.run(model, location, context, tokens, lengths, first_token, _shared.note)


def _text(report: dict) -> str:
    counts, spread, (low, high) = report["parameters"], report["decode_spread"], report["fraction_spread"]
    rows = [
        ("model", report["model"]),
        ("parameters", f"{counts['total']:,} total, {counts['active']:,} active"),
        ("threads", f"{report['threads']}, cache in {report['kv_dtype']}, activations {report['activations']}"),
        ("load", f"{report['load_seconds']:.2f} s"),
        ("decode", f"{report['decode_tokens_per_second']:.1f} tokens/s at context {report['context']} "
                   f"(windows {spread[0]:.1f} to {spread[1]:.1f})"),
        ("bytes per token", f"{report['bytes_per_token']:,}"),
        ("decode reads", f"{report['decode_bytes_per_second'] / 1e9:.1f} GB/s"),
        ("memory reads", f"{report['read_bytes_per_second'] / 1e9:.1f} GB/s, same threads, same run"),
        ("fraction", f"{report['fraction_of_read_bandwidth']:.2f} (windows {low:.2f} to {high:.2f})"),
        *((f"prefill {size}", f"{rate:.1f} tokens/s") for size, rate in report["prefill_tokens_per_second"].items()),
    ]  # fmt: skip
    if report["peak_memory_bytes"]:
        peak, weights = report["peak_memory_bytes"], report["weight_bytes"]
        rows.append(("peak memory", f"{peak:,} bytes, of which weights {weights:,}"))
    if report["time_to_first_token"]:
        times = report["time_to_first_token"]
        rows.append(("first token", f"{times['cold_seconds']:.2f} s from process start with an empty compile cache, "
                                    f"{times['warm_seconds']:.2f} s with a full one"))
    return "\n".join(f"{name:<16} {value}" for name, value in rows) + "\n"
