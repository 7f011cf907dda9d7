"""Tiny models of all families: within the binary32 bound of another implementation, bit-equal to golden traces."""

import importlib.util

import numpy as np
import pytest
import tiny

from refmoe import checkpoint, trace

UNIT = 2.0**-24  # unit roundoff of binary32


def bound(name: str, largest: float) -> float:
    """How far binary32 may be from exact arithmetic on logits of size `largest`.

    A step that sums K products in 16 lanes and a tree makes a relative error of at most about (K/16 + 6) u of its
    terms. Roundings of different steps are independent, so after S steps the error is about sqrt(S) of that, carried to
    the logits at their own size: the norms keep the scale of what they are given. With K about 60, S about 50, size 12:
    5e-5. Measured: 4e-6 to 1.3e-5.
    """
    program = tiny.model(name).program
    widest = max(max(program.sizes(tensor.shape)[1:], default=0) for tensor in program.tensors.values())
    steps = len(program.head) + len(program.tail) + sum(len(program.blocks[kind]) for kind in program.kinds)
    return (widest / 16 + 6) * UNIT * steps**0.5 * largest


@pytest.mark.parametrize("name", tiny.NAMES)
def test_outside(name):
    expected, metadata = tiny.outside(name)
    facts = tiny.facts(name)
    assert metadata["ids"] == facts["prompt"]
    assert expected["greedy"].tolist() == facts["greedy"]
    found = trace.record(tiny.model(name), facts["prompt"] + facts["greedy"])
    difference = np.abs(found["logits"].astype(np.float64) - expected["logits"])
    limit = bound(name, np.abs(expected["logits"]).max())
    assert difference.max() < limit < 1e-4
    for key in expected:
        if key.endswith("route_ids"):
            assert np.array_equal(found[key], expected[key]), key
        elif key.endswith("router_logits"):
            assert np.abs(found[key] - expected[key]).max() < limit, key
    assert {key for key in expected if "route" in key} == {key for key in found if key.endswith(("ids", "r_logits"))}
    assert min(facts["greedy_gaps"]) > 100 * limit
    assert facts["router_gap"] is None or facts["router_gap"] > 100 * limit


@pytest.mark.parametrize("name", tiny.NAMES)
def test_greedy_continuation(name):
    facts = tiny.facts(name)
    assert [step.id for step in tiny.model(name).generate(facts["prompt"], max_tokens=8)] == facts["greedy"]


@pytest.mark.parametrize("name", tiny.NAMES)
def test_golden_trace(name):
    golden = trace.read(tiny.TINY / name / "trace.safetensors")
    model = tiny.model(name)
    found = trace.record(model, golden.ids, steps=len(golden.step_ids))
    assert golden.ids == tiny.facts(name)["prompt"]
    assert found.step_ids == golden.step_ids == tiny.facts(name)["greedy"][:2]
    assert found.keys() == golden.keys() and len(golden) == 3 * len(trace.names(model.program))
    assert [key for key in golden if found[key].tobytes() != golden[key].tobytes()] == []
    stored, fresh = dict(golden.metadata), trace.metadata(model, found)
    assert stored.pop("versions").keys() == fresh.pop("versions").keys()
    assert stored == fresh


def test_golden_trace_with_the_jit_off():
    """Eight tokens: more than the windows of three models see."""
    code = f"""
import sys
import refmoe
from refmoe import jit, trace
assert not jit.ENABLED
for name in sys.argv[1:]:
    golden = trace.read(f"{tiny.TINY}/{{name}}/trace.safetensors")
    found = trace.record(refmoe.load(f"{tiny.TINY}/{{name}}"), golden.ids[:8])
    print(len([key for key in found if found[key].tobytes() != golden[key][:8].tobytes()]), name)
"""
    lines = tiny.python(code, *tiny.NAMES, NUMBA_DISABLE_JIT="1").splitlines()
    assert lines == [f"0 {name}" for name in tiny.NAMES]


def test_every_family_and_storage_is_there():
    models = [tiny.model(name) for name in tiny.NAMES]
    assert {m.program.arch for m in models} == {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe"}
    dtypes = {info.dtype for m in models for info in m.checkpoint.tensors.values()}
    assert dtypes == {"F32", "F16", "BF16"}
    assert {bool(m.program.copies) for m in models} == {True, False}
    assert {m.program.tables["rope"]["kind"] for m in models} == {"default", "linear", "llama3", "yarn"}
    assert sum("rope_parameters" in m.checkpoint.config for m in models) >= 2
    assert sum(len(m.checkpoint.files) > 1 for m in models) >= 1
    blocks = [set(m.program.kinds) for m in models]
    assert {"full_dense", "full_sparse"} in blocks and {"window_sparse"} in blocks
    assert {"full_dense", "window_dense"} in blocks and {"window_dense"} in blocks


def model_vectors(model) -> dict[str, np.ndarray]:
    """Norm weights and biases of layer 0 and outside the layers, by role."""
    weights = checkpoint.load(checkpoint.claim(model.checkpoint, model.program))
    return {role: w for (role, layer), w in weights.items() if layer in (None, 0) and isinstance(w, np.ndarray)}


@pytest.mark.parametrize("name", tiny.NAMES)
def test_awkward(name):
    model, facts = tiny.model(name), tiny.facts(name)
    dims = model.program.dims
    assert dims["N"] * dims["D"] != dims["H"] and dims["H"] % 16 and dims["D"] % 16 and dims["V"] % 16
    assert dims["N"] // dims["G"] not in (4, 8) and (dims["N"] % 2 or dims["N"] // dims["G"] == 3 or dims["N"] == 4)
    assert len(facts["prompt"]) > dims.get("window", 0)
    assert {0, dims["V"] - 1} < set(facts["prompt"]) and len(set(facts["prompt"])) < len(facts["prompt"])
    assert 2 not in facts["greedy"]  # the end id: a generation would stop there
    for role, weight in model_vectors(model).items():
        if role.endswith("norm"):
            assert (np.abs(weight) < 0.05).any() and (weight < 0).any() and (np.abs(weight) > 0.8).any(), role
        else:
            assert np.abs(weight).max() > 0.1, role


def test_sizes():
    files = [path for path in tiny.TINY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    for name in tiny.NAMES:
        weights = [path for path in (tiny.TINY / name).glob("model*.safetensors")]
        assert 0 < sum(path.stat().st_size for path in weights) < 300_000


@pytest.mark.parametrize("name", tiny.NAMES)
def test_weights_come_from_the_counter(name):
    spec = importlib.util.spec_from_file_location("make_tiny", tiny.ROOT / "scripts" / "make_tiny.py")
    make_tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tiny)
    opened = checkpoint.open(tiny.TINY / name)
    fresh = make_tiny.weights(name, make_tiny.RECIPES[name][3])
    infos = list(opened.tensors.values())
    assert {info.name for info in infos} == fresh.keys()
    for info, raw in zip(infos, checkpoint.read(infos), strict=True):
        assert raw.tobytes() == fresh[info.name].tobytes(), info.name


def test_every_outside_file_says_who_made_it():
    for name in tiny.NAMES:
        metadata = tiny.outside(name)[1]
        assert metadata["kind"] == "outside" and "float64" in metadata["implementation"]
        assert set(metadata["versions"]) == {"transformers", "torch"}
