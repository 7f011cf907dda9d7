"""8-bit activations end to end: golden traces, every product against the exact oracle, one result however it is run."""

import importlib
from functools import cache

import numpy as np
import pytest
import tiny

import refmoe
from refmoe import checkpoint, formats, jit, trace
from refmoe.kvcache import DTYPES

NAMES = sorted(path.parent.name for path in tiny.TINY.glob("*/trace-int8.safetensors"))
LONG = [n * n % 37 for n in range(40)]  # more rows than a register tile


@cache
def model(name, kv_dtype="f32", threads=None):
    return refmoe.load(tiny.TINY / name, activations="int8", kv_dtype=kv_dtype, threads=threads)


def golden(name):
    return trace.read(tiny.TINY / name / "trace-int8.safetensors")


def test_all_four_ops_are_there():
    ops = {step.op for name in NAMES for steps in model(name).program.blocks.values() for step in steps}
    assert {op for op in ops if op.endswith("a8")} == {
        "linear_a8", "linear_bias_a8", "expert_linear_a8", "expert_linear_bias_a8"}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_golden_trace(name):
    stored = golden(name)
    found = trace.record(model(name), stored.ids, steps=len(stored.step_ids))
    assert found.step_ids == stored.step_ids and stored.metadata["activations"] == "int8"
    assert stored.metadata["program_digest"] == model(name).program.digest()
    assert found.keys() == stored.keys()
    assert [key for key in stored if found[key].tobytes() != stored[key].tobytes()] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_product_is_the_oracles(name):
    """Each product of the golden trace, from the inputs in the trace and the stored weights, in exact arithmetic."""
    stored, program, judged = golden(name), model(name).program, set()
    weights = checkpoint.load(checkpoint.claim(model(name).checkpoint, program))
    for layer, kind in enumerate(program.kinds):
        for step in (step for step in program.blocks[kind] if step.op.endswith("a8")):
            own, *rest = (weights[role, layer] for role in step.weights)
            experts = own if isinstance(own, list) else [own]
            coded = [formats.codes(weight) for weight in experts]
            if coded[0] is None:
                continue  # stored without integer codes: the op is the one without a8, see test_tiny
            arrays = [np.stack(part) if isinstance(own, list) else part[0] for part in zip(*coded, strict=True)]
            bits = importlib.import_module(f"tests.oracles.{step.op}").bits
            for prefix in (f"layers.{layer}.", f"steps.1.layers.{layer}."):
                inputs = (stored[prefix + source][:3] for source in step.inputs)
                (expected,) = bits(*inputs, *arrays, *rest).values()
                assert expected.tobytes() == stored[prefix + step.out[0]][:3].tobytes(), (prefix, step.out)
            judged.add(step.out[0])
    assert {"gate", "up", "down"} & judged or any("gate" in out for out in judged), judged


@pytest.mark.parametrize("kv_dtype", list(DTYPES))
@pytest.mark.parametrize("name", NAMES)
def test_one_result(name, kv_dtype):
    """Prefill, decode by the engine's plan, and a batch."""
    engine = model(name, kv_dtype).engine
    (whole,) = engine.run([(engine.sequence(), LONG)], every=True)
    assert whole[-1].tobytes() != tiny.model(name, kv_dtype).forward(LONG)[-1].tobytes()  # other ops, other bits
    sequence, rows = engine.sequence(), []
    engine.run([(sequence, LONG[:9])])
    for token in LONG[9:]:
        rows += engine.run([(sequence, [token])])
    assert np.concatenate(rows).tobytes() == whole[9:].tobytes()
    assert not jit.ENABLED or engine._plan is not None
    both = engine.run([(engine.sequence(), LONG[:33]), (engine.sequence(), LONG[5:12])], every=True, chunk=17)
    assert both[0].tobytes() == whole[:33].tobytes()


@pytest.mark.skipif(jit.max_threads() < 2, reason="one thread on this machine")
@pytest.mark.parametrize("name", NAMES)
def test_one_thread_and_two(name):
    one, two = (model(name, threads=n).forward(LONG).tobytes() for n in (1, 2))
    assert one == two


def test_jit_off():
    code = """
import sys
import refmoe
from refmoe import jit, trace
assert not jit.ENABLED
for folder in sys.argv[1:]:
    golden = trace.read(folder + "/trace-int8.safetensors")
    found = trace.record(refmoe.load(folder, activations="int8"), golden.ids[:5])
    print(len([key for key in found if found[key].tobytes() != golden[key][:5].tobytes()]))
"""
    folders = [str(tiny.TINY / name) for name in NAMES]
    assert tiny.python(code, *folders, NUMBA_DISABLE_JIT="1").split() == ["0"] * len(NAMES)
