"""Benchmarks: tokens per second against the memory bandwidth measured in the same run. Speeds are never tested.

Shared machines drift, so every figure is paired with one taken in the same seconds: windows of decoding alternate with
windows of reading memory; the fraction is the median over the windows, each compared with the reads around it. The read
bandwidth is the best linear read that a kernel of this package reaches on this machine with the same threads, over a
buffer far larger than the caches.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from refmoe import info
from refmoe.generate import peak_memory
from refmoe.jit import item_kernel
from refmoe.kernels import team
from refmoe.numerics.counter import fill_uniform
from refmoe.numerics.vec import F32, load16, splat, store1, tree, vadd, view64

BUFFER = 1 << 28  # bytes of the read buffer
STRETCHES = 1 << 8  # work items of one read, 1 MiB each
WINDOWS = 9


@item_kernel
def _read_item(block, item, slot):
    """Sum one stretch of memory; block: address, bytes of a stretch (a multiple of 256), address of the sums."""
    b = view64(block, 3)
    s0 = splat(np.float32(0.0))
    s1, s2, s3 = s0, s0, s0
    for i in range(b[0] + item * b[1], b[0] + (item + 1) * b[1], 256):
        s0, s1 = vadd(s0, load16(F32, i)), vadd(s1, load16(F32, i + 64))
        s2, s3 = vadd(s2, load16(F32, i + 128)), vadd(s3, load16(F32, i + 192))
    store1(b[2] + item * 4, tree(vadd(vadd(s0, s1), vadd(s2, s3))))


class ReadBandwidth:
    """Measures bytes per second of reading memory with `threads` threads, each walking its own half (third, ...)."""

    def __init__(self, threads: int):
        self.threads = threads
        self.buffer, self.sums = np.ones(BUFFER // 4, np.float32), np.zeros(STRETCHES, np.float32)
        places = [self.buffer.ctypes.data, BUFFER // STRETCHES, self.sums.ctypes.data]
        self.block = np.array(places, np.int64)
        self.measure()

    def measure(self) -> float:
        """Best of three reads of the whole buffer, in bytes per second."""
        best = 0.0
        for _ in range(3):
            begin = time.perf_counter()
            team.run(team.gather(self.threads), _read_item(), self.block, STRETCHES, self.threads)
            best = max(best, BUFFER / (time.perf_counter() - begin))
        return best


def prompt_ids(vocabulary: int, count: int) -> list[int]:
    """Token ids drawn from the counter-based generator: the same on every machine."""
    return [int((float(u) + 1.0) / 2.0 * vocabulary) for u in fill_uniform(1, 0, count)]


def decode(model, per_token: int, prompt: int, tokens: int) -> dict:
    """Decode speed at a context of `prompt` tokens and up, in windows alternating with memory reads."""
    reader = ReadBandwidth(model.engine.threads)
    ids = prompt_ids(model.vocab, prompt)
    sequence = model.engine.sequence()
    model.engine.run([(sequence, ids)])
    for token in ids[:3]:
        model.engine.run([(sequence, [token])])
    rates, reads = [], [reader.measure()]
    for window in range(WINDOWS):
        begin = time.perf_counter()
        for n in range(tokens):
            model.engine.run([(sequence, [ids[(window * tokens + n) % prompt]])])
        rates.append(tokens / (time.perf_counter() - begin))
        reads.append(reader.measure())
    rate, read = statistics.median(rates), statistics.median(reads)
    beside = [2 * speed * per_token / (before + after) for speed, before, after in zip(rates, reads, reads[1:])]
    return {"decode_tokens_per_second": rate, "bytes_per_token": per_token, "decode_bytes_per_second": rate * per_token,
            "read_bytes_per_second": read, "fraction_of_read_bandwidth": statistics.median(beside),
            "fraction_spread": [min(beside), max(beside)], "decode_spread": [min(rates), max(rates)],
            "read_spread": [min(reads), max(reads)], "context": prompt}


def prefill(model, lengths: tuple[int, ...], repeats: int = 3) -> dict:
    """Prefill tokens per second, best of `repeats`, for each prompt length."""
    result = {}
    for length in lengths:
        ids = prompt_ids(model.vocab, length)
        times = []
        for _ in range(repeats + 1):  # the first run compiles
            begin = time.perf_counter()
            model.engine.run([(model.engine.sequence(), ids)])
            times.append(time.perf_counter() - begin)
        result[str(length)] = length / min(times[1:])
    return result


def first_token(location: str | None, threads: int, activations: str) -> dict:
    """Seconds from process start to the first token, with an empty compile cache and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "refmoe", "generate", "--ids", "1,2,3,4", "--max-tokens", "1",
                   "--threads", str(threads), "--activations", activations, *(["-m", location] if location else [])]
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=os.environ | {"REFMOE_CACHE_DIR": cache})
            seconds.append(time.perf_counter() - begin)
    return {"cold_seconds": seconds[0], "warm_seconds": seconds[1]}


def run(model, location: str | None, prompt: int, tokens: int, lengths: tuple[int, ...], with_first_token: bool,
        say: Callable[[str], object]) -> dict:
    """All measurements of one model; `say` receives progress lines. Speeds are per second, sizes in bytes."""
    weights = info.describe(location)["weights"]
    report = {"threads": model.engine.threads, "kv_dtype": model.engine.kv_dtype,
              "activations": model.program.activations,
              "parameters": model.program.parameters(), "load_seconds": model.load_seconds,
              "weight_bytes": sum(size for name, size in weights["bytes"].items() if name != "ignored")}
    say("prefill")
    report["prefill_tokens_per_second"] = prefill(model, lengths)
    report["peak_memory_bytes"] = peak_memory()  # before the read buffer of `decode` is allocated
    say("decode")
    report |= decode(model, weights["bytes_per_token"], prompt, tokens)
    report["time_to_first_token"] = None
    if with_first_token:
        say("time to first token")
        report["time_to_first_token"] = first_token(location, model.engine.threads, model.program.activations)
    return report
