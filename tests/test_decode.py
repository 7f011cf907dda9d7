"""The plan of a single token gives the bits of the engine's usual way: all tiny models, caches, threads, sequences."""

import threading

import numpy as np
import pytest
import tiny

from refmoe import jit
from refmoe.kvcache import DTYPES

if not jit.ENABLED:
    pytest.skip("the JIT is off: there are no plans", allow_module_level=True)

from refmoe import decode_plan
from refmoe.decode_plan import Plan

IDS = [n * n % 71 for n in range(40)]


def plan_of(name, kv_dtype="f32", threads=None):
    """The plan of a tiny model and its engine."""
    engine = tiny.model(name, kv_dtype, threads).engine
    return Plan(engine.program, engine._weights, engine.tables, engine.kv_dtype, engine.threads), engine


def usual(engine, ids):
    """Logits of every id, token by token, without a plan."""
    sequence = engine.sequence()
    return [engine.run([(sequence, [token])], record=lambda name, rows: None)[0] for token in ids]


@pytest.mark.parametrize("kv_dtype", list(DTYPES))
@pytest.mark.parametrize("name", tiny.NAMES)
def test_same_bits(name, kv_dtype):
    plan, engine = plan_of(name, kv_dtype)
    ids = tiny.facts(name)["prompt"]
    sequence = engine.sequence()
    for token, want in zip(ids, usual(engine, ids), strict=True):
        found = plan.step(sequence, token)
        assert found.shape == want.shape and found.tobytes() == want.tobytes()
    assert sequence.length == len(ids)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["kimi_k2", "qwen3_moe", "deepseek_v2-groups"])
def test_shared_jobs(name, threads, monkeypatch):
    """Every job is shared, however small."""
    if threads > jit.max_threads():
        pytest.skip("one thread on this machine")
    want = usual(tiny.model(name).engine, IDS[:6])
    for module in (decode_plan, decode_plan.elementwise, decode_plan.attention, decode_plan.latent):
        monkeypatch.setattr(module, "SMALL", 0)
    plan, engine = plan_of(name, threads=threads)
    sequence = engine.sequence()
    assert [plan.step(sequence, token).tobytes() for token in IDS[:6]] == [row.tobytes() for row in want]


@pytest.mark.parametrize("kv_dtype", list(DTYPES))
@pytest.mark.parametrize("name", ["kimi_k2", "mixtral-window-linear"])
def test_across_the_chunks_of_the_cache(name, kv_dtype):
    """A prompt of 510 tokens, then a plan across the boundary at 512; the tables of chunks move when they grow."""
    plan, engine = plan_of(name, kv_dtype)
    prompt = [n * 31 % 71 for n in range(510)]
    rows = []
    for step in (lambda s, token: engine.run([(s, [token])], record=lambda name, rows: None)[0], plan.step):
        sequence = engine.sequence()
        engine.run([(sequence, prompt)])
        rows.append([step(sequence, token).tobytes() for token in IDS[:5]])
    assert rows[0] == rows[1]


def test_sequences_in_turn():
    plan, engine = plan_of("kimi_k2")
    want = [[row.tobytes() for row in usual(engine, ids)] for ids in (IDS[:9], IDS[9:18])]
    sequences = [engine.sequence(), engine.sequence()]
    found = [[plan.step(s, token).tobytes() for s, token in zip(sequences, pair)] for pair in zip(IDS[:9], IDS[9:18])]
    assert [list(rows) for rows in zip(*found)] == want


def test_results_are_not_overwritten():
    plan, engine = plan_of("qwen3_moe")
    sequence = engine.sequence()
    first = plan.step(sequence, 3)
    kept = first.copy()
    plan.step(sequence, 4)
    assert first.tobytes() == kept.tobytes()


def test_engine_plans_after_some_tokens_and_not_while_it_records():
    engine = tiny.model("kimi_k2").engine
    want = usual(engine, IDS)
    engine._plan, engine._singles = None, 0
    sequence = engine.sequence()
    found = [engine.run([(sequence, [token])])[0] for token in IDS]
    assert isinstance(engine._plan, Plan) and engine._singles >= len(IDS)
    assert np.concatenate(found).tobytes() == np.concatenate(want).tobytes()


def test_two_threads_at_once():
    """One is in the plan, the other takes the usual way: both are right."""
    engine = tiny.model("kimi_k2").engine
    usual(engine, IDS[:4])
    want = [row.tobytes() for row in usual(engine, IDS)]
    results: dict[int, list[bytes]] = {}

    def work(number):
        sequence = engine.sequence()
        results[number] = [engine.run([(sequence, [token])])[0].tobytes() for token in IDS]

    workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == {n: want for n in range(3)}
