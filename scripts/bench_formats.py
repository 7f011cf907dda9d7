"""Speed of the matrix products of every weight format, beside a linear read of the memory (developer-only).

    python scripts/bench_formats.py                              # one thread, every format
    python scripts/bench_formats.py int_packed gptq --threads 2 --json FILE

Experts of random bytes are multiplied as the engine does it: decode is one row of x times 8 experts of `--shape` at a
time (expert_linear), different ones each time, in all more bytes than caches hold; prefill is 512 rows times one expert
(linear). The columns:

    GB/s, share     stored bytes (codes and scales) per second in decode; the same as a share of the read, each the best
                    of `--windows`, in turns with windows of reading, so that both see the same machine
    GFLOP/s         2 * rows * columns * 512 per second in prefill
    int8            with integer codes of x (expert_linear_a8, linear_a8), where the format has codes
With one thread, seconds are those of the processor: other work costs bandwidth and caches, but not time.
"""

import argparse
import json
import time

import numpy as np

from refmoe import bench, formats, ops
from refmoe.kernels import team
from refmoe.weight import Weight

EXPERTS, TOKENS = 8, 512  # of one row of x; rows of x in prefill
SIZES = {"F32": 4, "I32": 4, "I64": 8, "BF16": 2, "F16": 2}  # bytes of an element; all others have 1
PARAMS = {
    "fp8_block": {"f32 128x128": ("F32", 128, 128), "bf16 128x128": ("BF16", 128, 128)},
    "fp8_scaled": {"bf16 channel": ("BF16", 1, 0), "e8m0 g32": ("F8_E8M0", 1, 32)},
    "int8_scaled": {"bf16 channel": ("BF16", 1, 0, 1), "bf16 channel, zeros": ("BF16", 1, 0, 0),
                    "bf16 g128": ("BF16", 1, 128, 1)},
    "int_packed": {"4 bits g32": ("BF16", 4, 32, 1), "4 bits g128": ("BF16", 4, 128, 1),
                   "4 bits g128, zeros": ("BF16", 4, 128, 0), "8 bits g32": ("BF16", 8, 32, 1),
                   "8 bits channel": ("BF16", 8, 0, 1), "6 bits g128": ("BF16", 6, 128, 1)},
    "gptq": {"4 bits g128": ("F16", 4, 128, 1, 0, 1), "4 bits g128, zeros": ("F16", 4, 128, 0, 0, 1),
             "4 bits g128, act-order": ("F16", 4, 128, 1, 1, 1), "8 bits g128": ("F16", 8, 128, 1, 0, 1)},
    "awq": {"g128": ("F16", 128)},
    "mxfp4_packed": {"": ("U8",)},
}  # format -> {what is special: dtype of the scales, then the params of the format}  # fmt: skip


def matrices(name, settings, rows, cols, count):
    """`count` stored matrices of bytes 32 to 63, so that no scale is subnormal, inf or nan."""
    module, (dtype, *numbers) = formats.get(name), settings or ("",)
    params = dict(zip(getattr(module, "params", ()), numbers, strict=True))
    dtypes = dict(zip(module.suffixes, module.dtypes, strict=True)) | getattr(module, "extras", {})
    shapes = {suffix: shape[0] if isinstance(shape, list) else shape
              for suffix, shape in module.stored_shapes(rows, cols, **params).items()}  # fmt: skip
    picked = {suffix: dtype for suffix, kinds in dtypes.items() if "|" in kinds and dtype in kinds.split("|")}
    sizes = {suffix: int(np.prod(shape)) * SIZES.get(picked.get(suffix, dtypes[suffix]), 1)
             for suffix, shape in shapes.items() if shape is not None}  # fmt: skip
    rng, found = np.random.default_rng(1), []
    arena = np.empty(count * sum(size + 64 for size in sizes.values()) + 64, np.uint8)  # one, as a checkpoint is loaded
    at = -arena.ctypes.data % 64
    for _ in range(count):
        parts = {}
        for suffix, size in sizes.items():
            parts[suffix] = arena[at : at + size]
            parts[suffix][:] = rng.integers(32, 64, size, np.uint8)
            at += size + -size % 64
        if ".g_idx" in parts:
            parts[".g_idx"] = rng.permutation(np.arange(cols, dtype=np.int32) // params["group"]).view(np.uint8)
        found.append(formats.in_rows(Weight(name, rows, cols, parts, params | picked), in_place=True))
    return found


def best(calls, windows, threads):
    """Shortest seconds of each of `calls`, which are made in turns."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    shortest = [np.inf] * len(calls)
    for window in range(windows + 1):  # the first one compiles
        for i, call in enumerate(calls):
            begin = clock()
            call()
            shortest[i] = min(shortest[i], clock() - begin) if window else np.inf
    return shortest


def measure(name, settings, options, reader, suffix):
    """GB/s, share of the read and GFLOP/s, or None if the format has no codes."""
    rows, cols = options.shape
    one = matrices(name, settings, rows, cols, 1)[0]
    if suffix and not formats.operands([[one]], int8=True).coded:
        return None
    size = sum(part.nbytes for part in one.parts.values())
    count = max(options.mib << 20, 1) // size // EXPERTS * EXPERTS + EXPERTS
    experts, x = matrices(name, settings, rows, cols, count), np.random.default_rng(2).normal(size=(TOKENS, cols))
    x, ids = x.astype(np.float32), np.arange(count).reshape(-1, 1, EXPERTS)
    few = ops.get(f"expert_linear{suffix}").bind([experts], {}, options.threads)
    many = ops.get(f"linear{suffix}").bind((one,), {}, options.threads)
    seconds, read = best([lambda: [few(x[:1], each) for each in ids], reader], options.windows, options.threads)
    (prefill,) = best([lambda: many(x)], 3, options.threads)
    return {"GB/s": size * count / seconds / 1e9, "share": size * count / seconds / (bench.BUFFER / read),
            "GFLOP/s": 2e-9 * rows * cols * TOKENS / prefill}  # fmt: skip


def main() -> None:
    """Print one line for each format and setting as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT")
    parser.add_argument("--activations", nargs="*", default=["f32", "int8"], choices=["f32", "int8"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", type=int, nargs=2, default=(768, 2048), metavar=("ROWS", "COLS"))
    parser.add_argument("--mib", type=int, default=96, help="MiB of weights that one window goes through")
    parser.add_argument("--windows", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    read, report = bench.ReadBandwidth(options.threads), []

    def reader():
        team.run(team.gather(options.threads), bench._read_item(), read.block, bench.STRETCHES, options.threads)

    (seconds,) = best([reader], options.windows, options.threads)
    print(f"threads {options.threads}, experts {options.shape}, read {bench.BUFFER / seconds / 1e9:.1f} GB/s\n{'':38}",
          *(f"{kind + ' GB/s':>9}{'share':>10}{'GFLOP/s':>10}" for kind in options.activations))
    for name in options.formats or formats.names():
        for label, settings in PARAMS.get(name, {"": ()}).items():
            row = {kind: measure(name, settings, options, reader, "_a8" if kind == "int8" else "")
                   for kind in options.activations}  # fmt: skip
            report.append({"format": name, "setting": label, **row})
            cells = [f"{m['GB/s']:10.1f}{m['share']:10.2f}{m['GFLOP/s']:10.1f}" for m in row.values() if m]
            print(f"{name + ' ' + label:38}{''.join(cells)}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"threads": options.threads, "shape": options.shape, "products": report}, file, indent=1)


if __name__ == "__main__":
    main()
