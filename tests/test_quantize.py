"""quantize: nearest codes, what the config says, streaming, going on after a stop, one line for what cannot be done."""

import json

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

import refmoe
from refmoe import checkpoint, formats, info, quantize
from refmoe.cli.quantize import command
from refmoe.errors import CheckpointError, UsageError
from refmoe.numerics import counter
from refmoe.quantize import encoders
from refmoe.quantize import rewrite as run
from refmoe.quantize.targets import GGUF, TARGETS
from refmoe.weight import Weight
from tests import fakes

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 96, "hidden_size": 256,
    "intermediate_size": 256, "moe_intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "num_experts": 3, "num_experts_per_tok": 2, "norm_topk_prob": True,
    "decoder_sparse_step": 1, "mlp_only_layers": [1], "attention_bias": False, "use_sliding_window": False,
    "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model whose widths all encodings fit."""
    folder = fakes.random_checkpoint(tmp_path_factory.mktemp("source"), CONFIG, "BF16", 0.1)
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    return folder


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """The same with experts in every layer, as GGUF has it."""
    return fakes.random_checkpoint(tmp_path_factory.mktemp("sparse"), CONFIG | {"mlp_only_layers": []}, "BF16", 0.1)


HEADS = {"q8_0": (34, 2), "q4_0": (18, 2), "q4_k": (144, 16)}  # bytes of a block, and of the scales in front of it


@pytest.mark.parametrize("name", TARGETS)
def test_every_code_is_the_nearest(name):
    """No other code of the format, with the scale that was chosen, would be closer."""
    target = TARGETS[name]
    w = counter.fill_normal(2, counter.stream_of(name), 8 * 256, 0.5).reshape(8, 256)
    w[0], w[1, :40] = 0.0, np.float32(1e-30)
    parts = target.encode(w)
    stored = {suffix: np.ascontiguousarray(a).reshape(-1).view(np.uint8) for suffix, (_, a) in parts.items()}
    weight = Weight(target.format, 8, 256, stored, target.params | {s: dtype for s, (dtype, _) in parts.items()})
    error = abs(formats.decode(weight).astype(np.float64) - w)
    assert (error[0] == 0).all()
    first = next(iter(parts))
    for flip in range(8):  # any other code in any place is no better
        other = dict(stored)
        size, head = HEADS.get(name, (1, 0))
        other[first] = stored[first].copy()
        other[first].reshape(-1, size)[:, head:] ^= np.uint8(1 << flip)
        changed = formats.decode(Weight(target.format, 8, 256, other, weight.params)).astype(np.float64)
        worse = abs(changed - w) >= error - 1e-7  # a tie that the division rounded
        assert worse[2:].all() | np.isnan(changed[2:]).any(), flip


def test_blocks_of_very_large_weights():
    """Beyond the scales of binary16 the largest code of the largest scale; no warning, nothing undefined."""
    w = np.full((2, 256), 3e38, np.float32)
    w[1, ::2] = -3e38
    for name in ("q8_0", "q4_0", "q4_k"):
        stored = {".weight": TARGETS[name].encode(w)[".weight"][1].reshape(-1)}
        back = formats.decode(Weight(name, 2, 256, stored))
        assert np.isfinite(back).all() and abs(back).max() <= 65504 * 127


@pytest.mark.parametrize(("kind", "values"), [
    (encoders._E2M1, [0, 0.5, 1, 1.5, 2, 3, 4, 6]),
    (encoders._E4M3, [*(n / 512 for n in range(8)),
                      *(2.0**e * (1 + n / 8) for e in range(-6, 9) for n in range(8))][:127]),
])  # fmt: skip
def test_codes_are_the_nearest(kind, values):
    """Every number, every middle and its neighbours, and numbers beyond both ends, by comparing with all values."""
    table = np.array(values)
    middles = ((table[1:] + table[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(middles, np.float32(end)) for end in (0, 1e9)]
    sizes = np.concatenate([table, middles, *near, [1e-45, 1e-38, 449, 1e30, 3.4e38]]).astype(np.float32)
    apart = abs(np.minimum(sizes[:, None].astype(float), table[-1]) - table)
    ties = [np.flatnonzero(row == row.min()) for row in apart]
    expected = [int(codes[0] if len(codes) == 1 else codes[codes % 2 == 0][0]) for codes in ties]
    assert encoders.nearest_code(sizes, *kind).tolist() == expected


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "bf16"])
def test_the_result_runs_and_stays_close(source, sparse, tmp_path, name):
    out = tmp_path / ("out.gguf" if name in GGUF else "out")
    source, dense = (sparse, set()) if name in GGUF else (source, {"w_gate", "w_up", "w_down"})
    report = quantize.run(source, out, name)
    assert report.after < 0.75 * report.before and not report.kept
    assert {entry.role for entry in report.entries} == {"wq", "wk", "wv", "wo", "e_gate", "e_up", "e_down", *dense}
    assert all(0 < entry.relative_error < 0.15 for entry in report.entries)
    for way in (source, source / "config.json"):  # the sizes that info states, with and without headers
        assert info.describe(way)["quantize"][name]["weights"] == report.after
    facts = info.describe(out)
    assert facts["weights"]["roles"]["router"]["formats"] == ["f32" if name in GGUF else "bf16"]
    assert facts["weights"]["roles"]["e_up"]["formats"] == [TARGETS[name].format]
    ours, theirs = (refmoe.load(path).forward([1, 2, 3]) for path in (out, source))
    assert 0 < abs(ours - theirs).max() < 0.5 * abs(theirs).max()
    if name in GGUF:
        return
    files = {path.name for path in out.iterdir()}
    assert files == {"config.json", "generation_config.json", "model-00001-of-00001.safetensors",
                     "model.safetensors.index.json", run.REPORT}  # fmt: skip


def test_experts_only_and_from_an_encoded_source(source, tmp_path):
    report = quantize.run(source, tmp_path / "experts", "int4-g32", experts_only=True)
    assert {entry.role for entry in report.entries} == {"e_gate", "e_up", "e_down"}
    assert info.describe(source)["quantize"]["int4-g32"]["experts_only"] == report.after
    config = json.loads((tmp_path / "experts" / "config.json").read_text())
    ignored = config["quantization_config"]["ignore"]
    assert "lm_head" in ignored and any("self_attn" in word for word in ignored)
    again = quantize.run(tmp_path / "experts", tmp_path / "again", "fp8")
    assert {entry.role for entry in again.entries} >= {"wq", "e_up"}
    assert refmoe.load(tmp_path / "again").forward([1]).shape == (1, 96)


def test_narrow_rows_of_q4_k(tmp_path):
    config = CONFIG | {"mlp_only_layers": [], "moe_intermediate_size": 96}
    folder = fakes.random_checkpoint(tmp_path / "m", config, "BF16", 0.1)
    report = quantize.run(folder, tmp_path / "m.gguf", "q4_k")
    assert set(report.narrow.values()) == {"96 columns, no multiple of 256"} and len(report.narrow) == 2 * 3
    roles = info.describe(tmp_path / "m.gguf")["weights"]["roles"]
    assert roles["e_down"]["formats"] == ["q4_0"] and roles["e_up"]["formats"] == ["q4_k"]
    assert info.describe(folder)["quantize"]["q4_k"]["weights"] == report.after


def test_a_stopped_run_goes_on(source, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SHARD", 100_000)
    whole = quantize.run(source, tmp_path / "whole", "int4-g32")
    shards = sorted((tmp_path / "whole").glob("*.safetensors"))
    assert len(shards) > 3

    class Stop(Exception):
        pass

    def stop(done, total):
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        quantize.run(source, tmp_path / "out", "int4-g32", progress=stop)
    assert not (tmp_path / "out" / "config.json").exists() and (tmp_path / "out" / run.STATE).exists()
    with pytest.raises(UsageError, match="unfinished run of the same model and format"):
        quantize.run(source, tmp_path / "out", "fp8")
    report = quantize.run(source, tmp_path / "out", "int4-g32")
    assert 0 < report.resumed < len(shards) and len(report.entries) == len(whole.entries)
    for shard in shards:
        assert (tmp_path / "out" / shard.name).read_bytes() == shard.read_bytes()
    assert not (tmp_path / "out" / run.STATE).exists()


def test_what_cannot_be_done_is_one_line(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("here first")
    for arguments, error, message in (
        ((source, tmp_path / "full", "int8"), UsageError, "expected a new or empty folder"),
        ((source, source, "int8"), UsageError, "expected another folder"),
        ((source, tmp_path / "x", "int3"), UsageError, "format: expected one of int4-g32"),
        ((tiny.TINY / "mixtral", tmp_path / "x", "int4-g32"), UsageError, "fits no matrix of this model"),
        ((tiny.TINY / "llama", tmp_path / "x", "int8", True), UsageError, "no experts"),
        ((tiny.TINY / "gpt_oss", tmp_path / "x", "int8"), UsageError,
         r"gate_up_proj\[0\]: experts stored as one stack are only written as GGUF: expected q8_0, .*, found int8"),
        ((source, tmp_path / "x", "q8_0"), UsageError, "output: expected a new file that ends in .gguf for q8_0"),
    ):
        with pytest.raises(error, match=message):
            quantize.run(*arguments)
    assert not (tmp_path / "x").exists()


def test_weights_that_are_not_finite_are_named(source, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    raw = bytearray((source / "model.safetensors").read_bytes())
    header = checkpoint.read_header(source / "model.safetensors")
    at = header.tensors["model.layers.0.self_attn.q_proj.weight"].offset
    raw[at : at + 2] = b"\xc0\x7f"
    (bad / "model.safetensors").write_bytes(raw)
    (bad / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.q_proj\.weight: expected finite weights"):
        quantize.run(bad, tmp_path / "out", "int8")
    assert not (tmp_path / "out" / "config.json").exists()


def test_command(source, tmp_path):
    result = CliRunner().invoke(command, ["-m", str(source), "-o", str(tmp_path / "a"), "--format", "mxfp4"])
    assert result.exit_code == 0 and "e_up" in result.output and "of the source" in result.output
    result = CliRunner().invoke(command, ["-m", str(source), "-o", str(tmp_path / "b"), "--format", "int8", "--json"])
    facts = json.loads(result.output)
    assert facts["target"] == "int8" and facts["entries"][0]["relative_error"] > 0
