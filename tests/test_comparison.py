"""compare: a trace of ours is exact, correct ports in bfloat16 conform, planted mistakes are found where they are."""

import json

import numpy as np
import pytest
import tiny

from refmoe import checkpoint, comparison
from refmoe.errors import TraceError, UsageError
from refmoe.numerics import codecs

MODELS = ("mixtral", "qwen3_moe", "kimi_k2", "gpt_oss", "qwen2_moe", "olmoe", "mistral-window", "deepseek_v2-groups")
INSIDE = ("expert_gate", "expert_up", "expert_act", "expert_down", "q_rope", "k_rope", "act", "q_latent", "attn_latent")


def write(path, arrays, ids):
    """A recorded run: arrays and the prompt."""
    stored = {name: ("I64" if a.dtype == np.int64 else "F32", a.shape, np.ascontiguousarray(a))
              for name, a in arrays.items()}  # fmt: skip
    checkpoint.write(path, stored, {"ids": json.dumps(ids)})
    return path


def port(name, change=None, narrow=True):
    """Results of a port that keeps every result in bfloat16; `change(point, rows)` plants a mistake."""
    model, found = tiny.model(name), {}
    ids = tiny.facts(name)["prompt"]

    def record(point, rows):
        if change is not None:
            change(point, rows)
        if narrow and rows.dtype == np.float32 and "route" not in point:
            rows[...] = codecs.bf16_to_f32(codecs.f32_to_bf16(rows))
        found[point] = rows.copy()

    model.engine.run([(model.engine.sequence(), ids)], every=True, record=record)
    return found, ids


@pytest.mark.parametrize("name", [name for name in MODELS if name in tiny.NAMES])
def test_our_own_trace_is_exact(name):
    path = tiny.TINY / name / "trace.safetensors"
    report = comparison.compare(path, model=tiny.model(name))
    assert report.code == 0 and report.count("EXACT") == len(report.entries) and not report.absent
    assert {entry.point.partition(".")[0] for entry in report.entries} >= {"embed", "layers", "steps", "logits"}
    assert report.free.first is None and report.logits["kl_largest"] == 0.0


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "kimi_k2", "gpt_oss"])
def test_a_correct_port_in_bfloat16_conforms(name, tmp_path):
    arrays, ids = port(name)
    report = comparison.compare(write(tmp_path / "a.safetensors", arrays, ids), model=tiny.model(name), profile="bf16")
    assert report.code == 0 and report.wrong == [] and not report.absent
    assert report.free.first == "layers.0.attn_norm"
    outside = {point: a for point, a in arrays.items() if point.rpartition(".")[2] not in INSIDE}
    report = comparison.compare(write(tmp_path / "b.safetensors", outside, ids), model=tiny.model(name), profile="bf16")
    assert report.code == 0 and any(len(entry.steps) > 1 for entry in report.entries)
    strict = comparison.compare(tmp_path / "a.safetensors", model=tiny.model(name))
    assert strict.code == 1  # bfloat16 is not binary32


def scale(point, factor):
    """A mistake: one result multiplied."""
    def change(name, rows):
        if name == point:
            rows *= np.float32(factor)

    return change


@pytest.mark.parametrize("name", ["mixtral", "kimi_k2"])
@pytest.mark.parametrize(("point", "factor"), [("layers.1.combine", 1.5), ("layers.0.attn_norm", 1.03),
                                               ("layers.1.o", 0.97), ("layers.0.q_rope", -1.0)])
def test_a_planted_mistake_is_found_where_it_is(name, point, factor, tmp_path):
    arrays, ids = port(name, scale(point, factor))
    report = comparison.compare(write(tmp_path / "a.safetensors", arrays, ids), model=tiny.model(name), profile="bf16")
    assert report.code == 1 and [entry.point for entry in report.wrong] == [point]


def test_a_mistake_inside_a_fused_stretch_names_the_stretch(tmp_path):
    arrays, ids = port("mixtral", scale("layers.1.expert_act", 1.5))
    outside = {point: a for point, a in arrays.items() if point.rpartition(".")[2] not in INSIDE}
    report = comparison.compare(write(tmp_path / "a.safetensors", outside, ids), model=tiny.model("mixtral"),
                                profile="bf16")  # fmt: skip
    (entry,) = report.wrong
    assert entry.point == "layers.1.combine" and "layers.1.expert_act" in entry.steps


def test_what_was_not_recorded_is_said(tmp_path):
    arrays, ids = port("mixtral", narrow=False)
    few = {point: arrays[point] for point in ("layers.0.ffn_norm", "layers.0.router_logits", "layers.1.combine")}
    report = comparison.compare(write(tmp_path / "a.safetensors", few, ids), model=tiny.model("mixtral"))
    verdicts = {entry.point: entry for entry in report.entries}
    assert report.code == 3 and "layers.0.route_ids" in report.absent
    assert verdicts["layers.0.router_logits"].verdict.status == "EXACT"
    assert "layers.0.attn" in verdicts["layers.0.ffn_norm"].steps  # follows from the ids
    assert "not recorded" in verdicts["layers.1.combine"].reason and verdicts["layers.1.combine"].verdict is None


def test_two_runs_without_a_model(tmp_path):
    arrays, ids = port("mixtral", narrow=False)
    one = write(tmp_path / "a.safetensors", arrays, ids)
    assert comparison.compare(one, one).code == 0
    other, _ = port("mixtral", scale("layers.1.k", 1.01), narrow=False)
    report = comparison.compare(write(tmp_path / "b.safetensors", other, ids), one)
    assert report.code == 1 and report.free.first == "layers.1.k" and report.logits["kl_mean"] > 0
    assert sum(router.agree for router in report.free.routers) > 0


def test_logits_only(tmp_path):
    arrays, ids = port("mixtral")
    np.savez(tmp_path / "a.npz", logits=arrays["logits"], ids=np.array(ids))
    report = comparison.compare(tmp_path / "a.npz", model=tiny.model("mixtral"), mode="logits")
    assert report.code == 4 and 0 < report.logits["kl_mean"] < 0.1 and report.logits["positions"] == len(ids)
    assert report.logits["log_perplexity_error"] > 0 and report.free is None


def test_names_and_layouts_of_others(tmp_path):
    """A fused qkv, heads before tokens, neighbours rotated together, a batch axis."""
    model = tiny.model("mixtral")
    arrays, ids = port("mixtral", narrow=False)
    heads, size = model.program.dims["N"], model.program.dims["D"]
    fused = np.concatenate([arrays[f"layers.0.{p}"] for p in "qkv"], axis=1)
    turned = arrays["layers.0.q_rope"].reshape(len(ids), heads, 2, size // 2).swapaxes(-1, -2)
    other = {"L0.qkv": fused[None], "L0.rot": turned.reshape(len(ids), heads, size).swapaxes(0, 1)[None],
             "L0.norm": arrays["layers.0.attn_norm"], "extra": fused}  # fmt: skip
    lines = [{"theirs": "L{l}.qkv", "ours": [f"layers.{{l}}.{p}" for p in "qkv"]},
             {"theirs": "L{l}.rot", "ours": "layers.{l}.q_rope", "dims": "b n t d", "rope": "pairs"},
             {"theirs": "L{l}.norm", "ours": "layers.{l}.nothing | layers.{l}.attn_norm"}]  # fmt: skip
    (tmp_path / "map.json").write_text(json.dumps({"name": "mine", "entries": lines}))
    report = comparison.compare(write(tmp_path / "a.safetensors", other, ids), model=model, map=tmp_path / "map.json")
    assert {entry.point: entry.verdict.status for entry in report.entries if entry.verdict} == {
        f"layers.0.{p}": "EXACT" for p in ("attn_norm", "q", "k", "v", "q_rope")}
    assert report.unknown == ["extra"] and report.code == 3


@pytest.mark.parametrize(("content", "message"), [
    ({"layers.0.attn_norm": np.zeros((3, 7), np.float32)}, "layers.0.attn_norm: shape: expected"),
    ({"nothing": np.zeros((3, 7), np.float32)}, "expected names of a trace of refmoe, found nothing"),
])  # fmt: skip
def test_misfits_are_one_line(tmp_path, content, message):
    path = write(tmp_path / "a.safetensors", content, tiny.facts("mixtral")["prompt"])
    try:
        report = comparison.compare(path, model=tiny.model("mixtral"))
        text = report.entries[0].reason
    except TraceError as problem:
        text = str(problem)
    assert message in text and "\n" not in text


def test_bad_arguments(tmp_path):
    model = tiny.model("mixtral")
    (tmp_path / "weights.pt").write_bytes(b"\x80\x04")
    (tmp_path / "map.json").write_text('{"entries": [{"theirs": "a"}]}')
    for arguments, message in (
        ({"left": tmp_path}, "which is a pickle and is not opened"),
        ({"left": tmp_path / "no"}, "no such file"),
        ({"left": tmp_path, "map": "no_map"}, "expected .safetensors"),
        ({"left": tiny.TINY / "mixtral" / "trace.safetensors", "map": tmp_path / "map.json"}, "expected a map"),
        ({"left": tmp_path, "mode": "other"}, "mode: expected one of"),
    ):
        with pytest.raises(UsageError, match=message):
            comparison.compare(model=model, **arguments)
    with pytest.raises(UsageError, match="expected a model or a second run"):
        comparison.compare(tmp_path)
