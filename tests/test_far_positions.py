"""Positions as far out as published contexts reach: what the engine computes there, and where it stops."""

import json

import numpy as np
import pytest
import tiny

import refmoe
from refmoe import jit
from refmoe.engine import POSITION_LIMIT
from refmoe.errors import UsageError
from tests.oracles import rope_half, rope_pairs

FAR = pytest.mark.parametrize("position", [131071, 262143, 1048575, POSITION_LIMIT - 1])


def jump(model, position):
    """A sequence that believes it holds `position` tokens; their keys and values are zero.

    All chunks but the last share one block of zeros.
    """
    sequence = model.engine.sequence()
    for layer in sequence.layers:
        zeros = [np.zeros(shape, layer.tag.dtype) for shape in layer.shapes()]
        while len(layer.k_chunks) < position // 512:
            layer.grow(*zeros)
        layer.length = position // 512 * 512
    sequence.reserve(512)
    for layer in sequence.layers:
        layer.length = position
    return sequence


@pytest.mark.skipif(not jit.ENABLED, reason="the JIT is off: attention over a million positions takes hours")
@FAR
@pytest.mark.parametrize("name", ["qwen3_moe-step-raw", "llama-llama3-bias-tied", "kimi_k2"])
def test_rotation_at_far_positions(name, position):
    """q and k turned by yarn and by llama3 as the oracle turns them, from what the engine itself recorded."""
    model = tiny.model(name)
    steps = {}
    logits = model.engine.run([(jump(model, position), [1])], record=steps.__setitem__)[0]
    assert np.isfinite(logits).all()
    table, amplitude = model.engine.tables["rope"]
    pairs = any(step.op == "rope_pairs" for block in model.program.blocks.values() for step in block)
    for part in "qk":
        before = next(steps[key] for end in ("_pe", "_norm", "") if (key := f"layers.0.{part}{end}") in steps)
        oracle = rope_pairs if pairs else rope_half
        turned = oracle.bits(x=before, positions=np.array([position]), inv_freq=table, amplitude=amplitude)["y"]
        assert np.array_equal(steps[f"layers.0.{part}_rope"].view(np.uint32), turned.view(np.uint32))


def test_the_limit_is_one_line():
    model = tiny.model("qwen3_moe")
    with pytest.raises(UsageError, match=f"^position: expected less than {POSITION_LIMIT}, found 4194305$"):
        model.engine.run([(jump(model, POSITION_LIMIT - 1), [1, 2])])


def with_yarn(folder):
    """qwen3_moe with a context of 12 positions, stretched to 48."""
    source = tiny.TINY / "qwen3_moe"
    config = json.loads((source / "config.json").read_text("utf-8")) | {
        "max_position_embeddings": 12,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12},
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for path in source.glob("model*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return refmoe.load(folder)


def test_yarn_lets_generate_past_the_trained_context(tmp_path):
    model = with_yarn(tmp_path / "yarn")
    ids = [3, 1, 4, 1, 5, 9, 2, 6] * 5
    assert model.context == 48
    generation = model.generate(ids, max_tokens=100)
    made = [step.id for step in generation]
    assert len(ids) + len(made) == 49 and generation.finish_reason == "length"
    assert model.forward(ids + made)[39].argmax() == made[0]
    with pytest.raises(UsageError, match="prompt has 49 tokens, the model's context is 48"):
        model.generate(ids + made)
    assert model.forward(ids + made + ids).shape[0] == 89  # forward and trace know no context, only the limit
    assert model.trace(ids + made + ids, points=["logits"])["logits"].shape[0] == 89


@pytest.mark.slow
@pytest.mark.skipif(not jit.ENABLED, reason="the JIT is off: a quarter of a million tokens take hours")
def test_a_quarter_of_a_million_tokens(tmp_path):
    """262,144 tokens through a window of 5: however they are cut, the last one has the same bits."""
    model = tiny.model("mistral-window")
    ids = (np.arange(262144) * 7919 % model.vocab).tolist()
    whole = model.engine.run([(model.engine.sequence(), ids)])[0]
    sequence = model.engine.sequence()
    model.engine.run([(sequence, ids[:131072])], chunk=499)
    model.engine.run([(sequence, ids[131072:-1])])
    last = model.engine.run([(sequence, ids[-1:])])[0]
    assert sequence.length == 262144 and np.array_equal(whole.view(np.uint32), last.view(np.uint32))
