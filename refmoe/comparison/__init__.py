"""comparison - a recorded run of another program, or of ours, against the reference: `refmoe compare`.

    report = refmoe.compare("theirs/", model="Mixtral-8x7B-v0.1", map="vllm", profile="bf16")
    report.code            0 conforming, 1 something wrong, 3 not everything could be judged, 4 nothing could be told
    report.entries         a verdict for every recorded step, in order of execution (replay)
    report.free            the two whole runs side by side
    report.facts()         plain JSON values; schema golden/schemas/compare.schema.json

    refmoe.compare("a.safetensors", "b.safetensors")       two traces, no model: where do they part?

`sources` opens recorded runs, `names` maps their names and layouts, `replay` judges step by step, `free` compares whole
runs, `logits` their results, `tokens` the ids of prompts; `text` shows a report to people.
"""

from refmoe.comparison.report import MODES, Report
from refmoe.comparison.run import compare

__all__ = ["MODES", "Report", "compare"]
