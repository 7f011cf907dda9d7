"""How long `refmoe compare` takes, and how much memory: a whole run of 48 layers and 512 tokens, every result recorded.

    python scripts/bench_compare.py DIR                # writes some 4 GB: model and run are made once and used again

The model has random weights (qwen3_moe, hidden size 1024, 32 experts, 8 of them chosen). The other program is ours with
every result rounded to bfloat16 before the next step reads it, stored in bfloat16, one file for each layer. The
comparison runs in a process of its own. Prints one JSON object; exit code 1 if the run is not found to conform.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402

import refmoe  # noqa: E402
from refmoe import checkpoint, synthetic  # noqa: E402
from refmoe.numerics import codecs  # noqa: E402

MODEL, TOKENS = "qwen3_moe-48", 512


def record(directory: Path, theirs: Path) -> None:
    """Write the run in bfloat16, layer by layer as it is made."""
    model = refmoe.load(directory)
    ids = np.random.default_rng(0).integers(0, model.vocab, TOKENS).tolist()
    kept: dict[str, dict] = {}
    theirs.mkdir()

    def flush(name: str) -> None:
        checkpoint.write(theirs / f"{name}.safetensors", kept.pop(name), {"ids": json.dumps(ids)})

    def keep(name: str, rows: np.ndarray) -> None:
        part = ".".join(name.split(".")[:-1]) or "ends"
        for done in [other for other in kept if other not in (part, "ends")]:
            flush(done)
        if rows.dtype == np.int64:
            stored = ("I64", rows.copy())
        elif ".route_" in name:  # routers stay in binary32; their logits do not
            stored = ("F32", rows.copy())
        else:
            codes = codecs.f32_to_bf16(rows)
            rows[...] = codecs.bf16_to_f32(codes)
            stored = ("BF16", codes)
        kept.setdefault(part, {})[name] = (stored[0], stored[1].shape, stored[1])

    model.engine.run([(model.engine.sequence(), ids)], every=True, record=keep)
    for name in list(kept):
        flush(name)


def main() -> int:
    """Make what is missing, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--record", action="store_true", help="only make the model and the run")
    args = parser.parse_args()
    model, theirs = args.directory / "model", args.directory / "theirs"
    synthetic.make(MODEL, model)
    if not theirs.exists():
        record(model, theirs)
    if args.record:
        return 0
    command = [sys.executable, "-m", "refmoe", "compare", str(theirs), "-m", str(model), "--profile", "bf16", "--json"]
    begin = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
    facts = json.loads(child.stdout.read())
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begin
    size = sum(file.stat().st_size for file in theirs.iterdir())
    print(json.dumps({"verdict": {0: "conforming", 1: "not conforming"}.get(facts["code"], "incomplete"),
                      "points": len(facts["steps"]), "counts": facts["counts"], "run_gb": round(size / 1e9, 2),
                      "seconds": round(wall, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
                      "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 2)}, indent=1))  # fmt: skip
    return int(os.waitstatus_to_exitcode(status) != 0)


if __name__ == "__main__":
    sys.exit(main())
