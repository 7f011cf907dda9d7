"""quantize - write a checkpoint again with its matrices in a published encoding that other engines read too.

    from refmoe import quantize
    report = quantize.run("Qwen/Qwen3-30B-A3B", "out/", "int4-g32", experts_only=True)
    report = quantize.run("Qwen/Qwen3-30B-A3B", "out.gguf", "q4_k")

`targets` are the encodings and what they say in config.json, `encoders` and `blocks` turn a matrix into stored parts,
`plan` says what is encoded. `rewrite` streams a checkpoint into safetensors: one shard in memory at a time, resumable,
the config last; `companions` writes what goes with the weights. `gguf_file` streams it into one GGUF file: one matrix
in memory at a time.
"""

from pathlib import Path
from typing import Any

from refmoe import checkpoint, program
from refmoe.errors import UsageError
from refmoe.quantize import gguf_file, rewrite
from refmoe.quantize.plan import Progress, Report
from refmoe.quantize.targets import TARGETS, Target

__all__ = ["TARGETS", "Report", "Target", "run"]


def run(location: Any, output: str | Path, target: str, experts_only: bool = False,
        progress: Progress | None = None) -> Report:  # fmt: skip
    """Quantize a checkpoint into a folder or, for the formats of GGUF, into a file. UsageError for arguments,
    CheckpointError for files, in one line."""
    if target not in TARGETS:
        raise UsageError(f"format: expected one of {', '.join(TARGETS)}, found {str(target)[:40]!r}")
    opened = checkpoint.open(location)
    built = program.build(opened.config, opened.source)
    claims = checkpoint.claim(opened, built)
    write = rewrite.run if TARGETS[target].config else gguf_file.run
    return write(opened, built, claims, Path(output), TARGETS[target], experts_only, progress)
