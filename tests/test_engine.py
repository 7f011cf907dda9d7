"""The engine itself: it owns its weights, takes formats as they come, and refuses bad ids before any kernel."""

import numpy as np
import pytest

from refmoe import checkpoint, golden, program
from refmoe.engine import Engine
from refmoe.errors import UsageError
from refmoe.numerics.codecs import bf16_to_f32
from refmoe.weight import Weight

IDS = [1, 2, 3, 4, 5]


def parts(name):
    """Program and weights of a tiny model."""
    opened = checkpoint.open(golden.root() / "tiny" / name)
    built = program.build(opened.config, str(opened.path / "config.json"))
    return built, checkpoint.load(checkpoint.claim(opened, built))


def logits(built, weights, ids=IDS):
    engine = Engine(built, weights)
    (rows,) = engine.run([(engine.sequence(), ids)], every=True)
    return rows


def as_f32(weight):
    """The same matrix, stored as binary32."""
    if weight.format != "bf16":
        return weight
    wide = bf16_to_f32(weight.parts[".weight"].view(np.uint16))
    return Weight("f32", weight.rows, weight.cols, {".weight": wide.view(np.uint8)})


def test_the_engine_keeps_its_weights_alive():
    """Kernels hold addresses; the memory behind them must not go when the caller's dict goes."""
    built, weights = parts("mixtral")
    expected = logits(built, weights)

    def copied(value):
        if isinstance(value, list):
            return [copied(entry) for entry in value]
        if isinstance(value, Weight):
            return Weight(value.format, value.rows, value.cols, {k: v.copy() for k, v in value.parts.items()})
        return value.copy()

    engine = Engine(built, {key: copied(value) for key, value in weights.items()})
    junk = [np.full(4096, 7, np.uint8) for _ in range(2000)]
    (found,) = engine.run([(engine.sequence(), IDS)], every=True)
    assert len(junk) == 2000
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name,role", [("mixtral", "wq"), ("mixtral", "e_up"), ("qwen3", "wk"), ("qwen3", "w_up")])
def test_neighbours_may_have_different_formats(name, role):
    """q beside k, gate beside up: each in its own format, with the bits of the same values."""
    built, weights = parts(name)
    expected = logits(built, weights)
    mixed = {key: ([as_f32(w) for w in value] if isinstance(value, list) else as_f32(value))
             if key[0] == role else value for key, value in weights.items()}
    assert any(mixed[key] is not weights[key] for key in weights if key[0] == role)
    assert logits(built, mixed).tobytes() == expected.tobytes()


@pytest.mark.parametrize("ids", [[], [-1], [10**9], [1.5], [True], ["a"], [[1]], [2**70], None])
def test_bad_ids_are_refused(ids):
    built, weights = parts("qwen3")
    engine = Engine(built, weights)
    with pytest.raises(UsageError) as caught:
        engine.run([(engine.sequence(), ids)])
    assert "\n" not in str(caught.value)


def test_too_many_threads_are_refused():
    built, weights = parts("qwen3")
    with pytest.raises(UsageError, match="threads"):
        Engine(built, weights, threads=10**6)


def test_a_sequence_comes_once_in_a_batch():
    built, weights = parts("qwen3")
    engine = Engine(built, weights)
    sequence = engine.sequence()
    with pytest.raises(UsageError, match="twice"):
        engine.run([(sequence, [1]), (sequence, [2])])
