"""trace: which points are kept, what a file says about them, and every way in which a file is refused."""

import json

import numpy as np
import pytest
import tiny

from refmoe import checkpoint, trace
from refmoe.errors import TraceError, UsageError

IDS = [3, 1, 4, 1, 5]
NAMES = """attn_norm q k v q_norm k_norm q_rope k_rope attn o attn_out ffn_norm
router_logits route_ids route_weights expert_gate expert_up expert_act expert_down combine ffn_out
gate up act down ffn_out"""
BAD = ["Logits", "layers.3.*", "steps.1.logits", "layers.1.route_ids", "", "steps.01.embed"]


@pytest.fixture(scope="module")
def model():
    return tiny.model("qwen3_moe")


@pytest.fixture(scope="module")
def whole(model):
    return trace.record(model, IDS, steps=2)


def test_names_are_those_of_the_design(model, whole):
    attention, sparse, dense = (line.split() for line in NAMES.splitlines())
    expected = ["embed"]
    for layer, half in enumerate((sparse, dense, sparse)):
        expected += [f"layers.{layer}.{name}" for name in attention + half]
    expected += ["final_norm", "logits"]
    assert trace.names(model.program) == expected
    assert list(whole) == [prefix + name for prefix in ("", "steps.0.", "steps.1.") for name in expected]


def test_rows_dtypes_and_the_ids_of_the_steps(model, whole):
    for name, array in whole.items():
        assert array.shape[0] == (1 if name.startswith("steps.") else len(IDS)), name
        assert array.dtype == (np.int64 if name.endswith("route_ids") else np.float32), name
    assert whole.ids == IDS
    assert whole.step_ids == [int(whole["logits"][-1].argmax()), int(whole["steps.0.logits"][0].argmax())]
    forward = model.forward(IDS + whole.step_ids)
    rows = np.concatenate([whole["logits"], whole["steps.0.logits"], whole["steps.1.logits"]])
    assert rows.tobytes() == forward.tobytes()


@pytest.mark.parametrize("points, kept", [
    (("logits",), {"logits", "steps.0.logits"}),
    ("final_norm", {"final_norm", "steps.0.final_norm"}),
    (("layers.*.route_*",), {f"{p}layers.{n}.route_{w}" for p in ("", "steps.0.") for n in (0, 2)
                             for w in ("ids", "weights")}),
    (("steps.0.embed",), {"steps.0.embed"}),
    (("steps.*.layers.1.a?t", "embed"), {"steps.0.layers.1.act", "embed", "steps.0.embed"}),
    (("layers.[02].combine",), {f"{p}layers.{n}.combine" for p in ("", "steps.0.") for n in (0, 2)}),
])  # fmt: skip
def test_points(model, whole, points, kept):
    found = trace.record(model, IDS, points, 1)
    assert set(found) == kept
    assert list(found) == [name for name in whole if name in kept]
    assert all(found[name].tobytes() == whole[name].tobytes() for name in found)


@pytest.mark.parametrize("points", BAD)
def test_a_point_without_a_match_is_refused(model, points):
    with pytest.raises(UsageError) as problem:
        trace.record(model, IDS, ("logits", points), 1)
    assert "layers.*.route_ids" in str(problem.value) and "\n" not in str(problem.value)
    assert repr(points) in str(problem.value)


def test_arguments_are_refused(model):
    for points in (None, 5, [5], ["logits", b"x"]):
        with pytest.raises(UsageError, match=r"^points: expected strings, found "):
            trace.record(model, IDS, points)
    for ids, steps in (([], 0), ([97], 0), ([1], -1), ([1], True), ([1], 1.0)):
        with pytest.raises(UsageError):
            trace.record(model, ids, ("logits",), steps)


def test_a_long_prompt_keeps_only_what_was_asked_for(model, monkeypatch):
    """Three runs of the engine; rows of all of them are there, and logits are not computed for every position."""
    ids = [n % 97 for n in range(2 * trace.CHUNK + 3)]
    calls = []
    run = model.engine.run

    def spy(batch, every=False, record=None):
        calls.append((len(batch[0][1]), every))
        return run(batch, every=every, record=record)

    monkeypatch.setattr(model.engine, "run", spy)
    found = trace.record(model, ids, ("embed",))
    assert found.keys() == {"embed"} and found["embed"].shape == (len(ids), 36)
    assert calls == [(trace.CHUNK, False), (trace.CHUNK, False), (3, False)]
    assert trace.record(model, ids, ("logits",))["logits"].tobytes() == model.forward(ids).tobytes()


def test_written_and_read_again(model, whole, tmp_path):
    path = tmp_path / "t.safetensors"
    trace.write(path, model, whole)
    found = trace.read(path)
    assert found.ids == IDS and found.step_ids == whole.step_ids and found.keys() == whole.keys()
    for name, array in whole.items():
        assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes()
        assert found[name].shape == array.shape
    facts = found.metadata
    assert facts["program_digest"] == model.program.digest()
    assert facts["checkpoint_digest"] == model.checkpoint.content_digest()
    assert (facts["numerics_version"], facts["kv_dtype"], facts["activations"]) == (1, "f32", "f32")
    assert facts["versions"].keys() == {"refmoe", "python", "numpy", "numba"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.safetensors"]
    trace.write(path, model, whole)
    again = path.read_bytes()
    trace.write(path, model, whole)
    assert path.read_bytes() == again


def test_another_library_reads_it(model, whole, tmp_path):
    from safetensors import safe_open

    trace.write(tmp_path / "t.safetensors", model, whole)
    with safe_open(tmp_path / "t.safetensors", "numpy") as file:
        assert set(file.keys()) == set(whole)
        assert np.array_equal(file.get_tensor("layers.0.route_ids"), whole["layers.0.route_ids"])
        assert json.loads(file.metadata()["ids"]) == IDS


def test_a_folder_that_is_not_there(model, whole, tmp_path):
    with pytest.raises(TraceError, match="No such file"):
        trace.write(tmp_path / "none" / "t.safetensors", model, whole)
    with pytest.raises(TraceError, match="no such file"):
        trace.read(tmp_path / "none")


def _facts(**changes) -> dict:
    import hashlib

    rows = np.zeros((2, 3), np.float32)
    facts = {
        "kind": "trace", "numerics_version": 1, "program_digest": "0" * 64, "checkpoint_digest": "1" * 64,
        "ids": [1, 2], "step_ids": [], "kv_dtype": "f32", "activations": "f32", "versions": {},
        "sha256": {"embed": hashlib.sha256(rows.tobytes()).hexdigest()},
    }  # fmt: skip
    return facts | changes


def _write(path, texts, tensors=None):
    checkpoint.write(path, tensors or {"embed": ("F32", (2, 3), np.zeros((2, 3), np.float32))}, texts)
    return path


def _texts(**changes):
    return {key: json.dumps(value) for key, value in _facts(**changes).items()}


def test_a_small_file_is_accepted(tmp_path):
    found = trace.read(_write(tmp_path / "t", _texts()))
    assert found.ids == [1, 2] and found["embed"].shape == (2, 3)


@pytest.mark.parametrize("changes, words", [
    ({"kind": "vector"}, "kind: expected trace, found vector"),
    ({"numerics_version": "1"}, "numerics_version: expected int"),
    ({"numerics_version": True}, "numerics_version: expected int"),
    ({"ids": [1, -2]}, "ids: expected token ids"),
    ({"ids": [1, 2.0]}, "ids: expected token ids"),
    ({"ids": [1, 2, 3]}, "expected 3 rows, found shape"),
    ({"step_ids": {}}, "step_ids: expected list"),
    ({"program_digest": "0" * 63}, "program_digest: expected a sha256"),
    ({"sha256": {}}, "sha256: expected one for each tensor, found a difference in embed"),
    ({"sha256": {"embed": "0" * 64}}, "tensor embed: expected the sha256 of the metadata"),
    ({"more": 1}, "expected the keys kind"),
])  # fmt: skip
def test_false_metadata_is_refused(tmp_path, changes, words):
    with pytest.raises(TraceError) as problem:
        trace.read(_write(tmp_path / "t", _texts(**changes)))
    assert words in str(problem.value) and str(tmp_path) in str(problem.value) and "\n" not in str(problem.value)


@pytest.mark.parametrize("name, tensor, words", [
    ("embed", ("I64", (2, 1), np.zeros(2, np.int64)), "expected dtype F32, found I64"),
    ("layers.0.route_ids", ("F32", (2, 1), np.zeros(2, np.float32)), "expected dtype I64, found F32"),
    ("embed", ("F32", (2,), np.zeros(2, np.float32)), "expected 2 rows, found shape [2]"),
    ("steps.0.embed", ("F32", (1, 2), np.zeros(2, np.float32)), "expected a step below 0"),
])  # fmt: skip
def test_false_tensors_are_refused(tmp_path, name, tensor, words):
    texts = _texts(sha256={name: "0" * 64})
    with pytest.raises(TraceError) as problem:
        trace.read(_write(tmp_path / "t", texts, {name: tensor}))
    assert words in str(problem.value)


def test_metadata_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(TraceError, match="not JSON"):
        trace.read(_write(tmp_path / "t", _texts() | {"ids": "[1, 2"}))


def test_truncated_files_are_refused(tmp_path):
    raw = _write(tmp_path / "t", _texts()).read_bytes()
    for size in (0, 5, 60, len(raw) - 1):
        (tmp_path / "t").write_bytes(raw[:size])
        with pytest.raises(TraceError):
            trace.read(tmp_path / "t")
