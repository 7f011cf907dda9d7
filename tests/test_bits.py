"""One result: the same bits for any split, chunk, batch, number of threads, processor target, and without the JIT."""

import hashlib
import itertools
import json
import platform

import numpy as np
import pytest
import tiny

from refmoe import jit, trace
from refmoe.kvcache import DTYPES

SOME = ["mixtral-window-linear", "qwen3_moe-step-raw", "qwen2-window-tied", "kimi_k2", "deepseek_v2-groups",
        "gpt_oss"]  # fmt: skip
LONG = [n * n % 79 for n in range(70)]  # more rows than a register tile, more positions than any window


def rows(engine, ids, cuts=(), **options) -> np.ndarray:
    """Logits of all positions, the sequence fed in pieces that end at `cuts`."""
    sequence = engine.sequence()
    ends = [0, *cuts, len(ids)]
    pieces = [ids[first:last] for first, last in itertools.pairwise(ends)]
    return np.concatenate([engine.run([(sequence, piece)], every=True, **options)[0] for piece in pieces])


@pytest.mark.parametrize("kv_dtype", list(DTYPES))
@pytest.mark.parametrize("name", tiny.NAMES)
def test_every_split_into_prefill_and_decode(name, kv_dtype):
    engine, ids = tiny.model(name, kv_dtype).engine, tiny.facts(name)["prompt"]
    whole = rows(engine, ids).tobytes()
    for cut in range(1, len(ids)):
        assert rows(engine, ids, [cut]).tobytes() == whole, cut
        assert rows(engine, ids, range(cut, len(ids))).tobytes() == whole, cut  # decode token by token from there


@pytest.mark.parametrize("kv_dtype", list(DTYPES))
@pytest.mark.parametrize("name", SOME)
def test_any_chunk(name, kv_dtype):
    engine = tiny.model(name, kv_dtype).engine
    whole = rows(engine, LONG).tobytes()
    for chunk in (1, 2, 3, 5, 16, 17, 33, 69, 70, 71):
        assert rows(engine, LONG, chunk=chunk).tobytes() == whole, chunk
        assert rows(engine, LONG, [31, 32], chunk=chunk).tobytes() == whole, chunk


@pytest.mark.parametrize("name", SOME)
def test_across_the_chunks_of_the_cache(name):
    """Positions 0 to 529 cross the boundary at 512, where sums and storage change."""
    engine = tiny.model(name).engine
    ids = [n * 31 % 79 for n in range(530)]
    whole = rows(engine, ids).tobytes()
    for cuts in ([511], [512], [513], [510, 511, 512, 513, 514], [1, 300, 529]):
        assert rows(engine, ids, cuts).tobytes() == whole, cuts


@pytest.mark.parametrize("kv_dtype", list(DTYPES))
@pytest.mark.parametrize("name", SOME)
def test_in_a_batch_as_alone(name, kv_dtype):
    engine = tiny.model(name, kv_dtype).engine
    texts = [LONG[:1], LONG[3:20], LONG[5:7], LONG[:64], LONG[9:31]]
    alone = [rows(engine, ids).tobytes() for ids in texts]
    for chunk in (512, 7):
        together = engine.run([(engine.sequence(), ids) for ids in texts], every=True, chunk=chunk)
        assert [logits.tobytes() for logits in together] == alone, chunk
    last = engine.run([(engine.sequence(), ids) for ids in texts])
    assert [logits.tobytes() for logits in last] == [one[-logits.nbytes :] for one, logits in zip(alone, last)]


@pytest.mark.parametrize("name", SOME)
def test_a_batch_of_sequences_in_different_states(name):
    """One is decoded, one is prefilled, one is in between: as servers do it."""
    engine = tiny.model(name).engine
    texts = [LONG[:30], LONG[10:40], LONG[20:50]]
    alone = [rows(engine, ids) for ids in texts]
    sequences = [engine.sequence() for _ in texts]
    for seq, ids, stored in zip(sequences, texts, (29, 4, 15), strict=True):
        engine.run([(seq, ids[:stored])])
    together = engine.run([(seq, ids[seq.length :]) for seq, ids in zip(sequences, texts, strict=True)], every=True)
    for found, whole in zip(together, alone, strict=True):
        assert found.tobytes() == whole[-len(found) :].tobytes()
    assert [seq.length for seq in sequences] == [30, 30, 30]


@pytest.mark.skipif(jit.max_threads() < 2, reason="one thread on this machine")
@pytest.mark.parametrize("name", SOME)
def test_one_thread_and_two(name):
    one, two = (rows(tiny.model(name, threads=threads).engine, LONG, [40, 41]) for threads in (1, 2))
    assert one.tobytes() == two.tobytes()


# Every trace point of a dense and of a sparse model, in a fresh process: prompt and decode, both cache types.
CODE = """
import hashlib, json, sys
import refmoe
from refmoe import jit, trace
for name in json.loads(sys.argv[1]):
    for kv_dtype in ("f32", "bf16"):
        model = refmoe.load(sys.argv[2] + "/" + name, kv_dtype=kv_dtype)
        found = trace.record(model, json.loads(sys.argv[3]), steps=1)
        digest = hashlib.sha256(b"".join(array.tobytes() for array in found.values())).hexdigest()
        print(name, kv_dtype, digest)
print(jit.max_threads() if jit.ENABLED else "off")
"""


def elsewhere(names, ids, **environment) -> list[str]:
    """The digests from a process with another setting; the last line is its number of threads, or "off"."""
    return tiny.python(CODE, json.dumps(names), str(tiny.TINY), json.dumps(ids), **environment).splitlines()


def here(names, ids) -> list[str]:
    """The same digests from this process."""
    lines = []
    for name in names:
        for kv_dtype in DTYPES:
            found = trace.record(tiny.model(name, kv_dtype), ids, steps=1)
            digest = hashlib.sha256(b"".join(array.tobytes() for array in found.values())).hexdigest()
            lines.append(f"{name} {kv_dtype} {digest}")
    return lines


def test_five_threads():
    found = elsewhere(SOME, LONG, NUMBA_NUM_THREADS="5")
    assert found == [*here(SOME, LONG), "5"]


def _targets() -> list:
    """(name of an LLVM processor, features it needs), and this machine's own with features spelled out by no one."""
    import llvmlite.binding as llvm

    has = llvm.get_host_cpu_features()
    old = [("x86-64", ()), ("haswell", ("avx2", "fma", "bmi2", "f16c"))]
    targets = [pytest.param(llvm.get_host_cpu_name(), id="native")]
    for name, needs in old if platform.machine().lower() in ("x86_64", "amd64") else ():
        missing = [need for need in needs if not has.get(need)]
        skip = pytest.mark.skipif(bool(missing), reason=f"this processor lacks {missing}")
        targets.append(pytest.param(name, id=name, marks=skip))
    return targets


@pytest.mark.slow
@pytest.mark.parametrize("target", _targets())
def test_processor_targets(target):
    """Kernels are compiled anew for each: about a minute when nothing is cached."""
    names = [*SOME[:2], "llama"]
    found = elsewhere(names, LONG, NUMBA_CPU_NAME=target, NUMBA_CPU_FEATURES="")
    assert found[:-1] == here(names, LONG)


def test_jit_off():
    """The plain kernels; windows and both kinds of layers are in reach of nine tokens."""
    found = elsewhere(SOME, LONG[:9], NUMBA_DISABLE_JIT="1")
    assert found == [*here(SOME, LONG[:9]), "off"]
