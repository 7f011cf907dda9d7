"""quantize - write a checkpoint again with its matrices in a published encoding that other engines read too.

    from refmoe import quantize
    report = quantize.run("Qwen/Qwen3-30B-A3B", "out/", "int4-g32", experts_only=True)

`targets` are the encodings and what they say in config.json, `encoders` turn a matrix into stored parts, `rewrite`
streams a checkpoint through them: one shard in memory at a time, resumable, the config last.
"""

from refmoe.quantize.rewrite import Report, run
from refmoe.quantize.targets import TARGETS, Target

__all__ = ["TARGETS", "Report", "Target", "run"]
