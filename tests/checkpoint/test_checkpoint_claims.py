"""Claims of a program on tensors, and loading. The programs and formats are small stand-ins."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from refmoe import checkpoint
from refmoe.checkpoint import matrices
from refmoe.checkpoint.directory import Checkpoint
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.errors import CheckpointError
from refmoe.weight import Weight

HIDDEN, WIDE, EXPERTS, LAYERS, VOCAB = 6, 5, 3, 2, 11
EMBED = "model.embed_tokens.weight"


class Tensor(NamedTuple):
    kind: str
    name: str


class Program:
    """Embedding, one norm and `EXPERTS` expert matrices per layer, a tied head."""

    ignored_tensors = (("model.layers.*.rotary_emb.inv_freq", "recomputed"), ("*.mtp.*", "not used for inference"))
    copies = (("lm_head", "model.embed_tokens"),)

    def expected(self):
        yield "embed", None, None, Tensor("matrix", "model.embed_tokens"), (VOCAB, HIDDEN)
        yield "head", None, None, Tensor("matrix", "model.embed_tokens"), (VOCAB, HIDDEN)
        for layer in range(LAYERS):
            yield "norm", layer, None, Tensor("vector", f"model.layers.{layer}.norm.weight"), (HIDDEN,)
            for expert in range(EXPERTS):
                stem = f"model.layers.{layer}.experts.{expert}.up_proj"
                yield "up", layer, expert, Tensor("matrix", stem), (WIDE, HIDDEN)
            yield "bias", layer, None, Tensor("vector", f"model.layers.{layer}.bias"), (WIDE,)


def plain(name, dtype):
    return SimpleNamespace(
        __name__=f"refmoe.formats.{name}",
        suffixes=(".weight",),
        dtypes=(dtype,),
        stored_shapes=lambda rows, cols: {".weight": (rows, cols)},
    )


FP8 = SimpleNamespace(
    __name__="refmoe.formats.fp8",
    suffixes=(".weight", ".weight_scale_inv"),
    dtypes=("F8_E4M3", "F32"),
    stored_shapes=lambda rows, cols: {".weight": (rows, cols), ".weight_scale_inv": (-(-rows // 4), -(-cols // 4))},
)
PLAIN = (plain("bf16", "BF16"), plain("f16", "F16"), plain("f32", "F32"))


@pytest.fixture(autouse=True)
def known_formats(monkeypatch):
    monkeypatch.setattr(matrices, "formats", lambda: (FP8, *PLAIN))


@pytest.fixture
def arrays():
    random = np.random.default_rng(3)
    kinds = [np.float32, np.float16, ml_dtypes.bfloat16]
    result = {"model.embed_tokens.weight": random.normal(size=(VOCAB, HIDDEN)).astype(ml_dtypes.bfloat16)}
    for layer in range(LAYERS):
        result[f"model.layers.{layer}.norm.weight"] = random.normal(size=HIDDEN).astype(kinds[layer % 3])
        result[f"model.layers.{layer}.bias"] = random.normal(size=WIDE).astype(kinds[(layer + 1) % 3])
        for expert in range(EXPERTS):
            stem = f"model.layers.{layer}.experts.{expert}.up_proj"
            result[stem + ".weight"] = random.normal(size=(WIDE, HIDDEN)).astype(kinds[(layer + expert) % 3])
    return result


def opened(path, arrays, **config):
    (path / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(arrays, path / "model.safetensors")
    return checkpoint.open(path)


def refused(path, arrays, program=None):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.claim(opened(path, arrays), program or Program())
    message = str(caught.value)
    assert message.isprintable() and str(path) in message
    return message


def test_everything_is_claimed_and_loaded_in_its_stored_form(tmp_path, arrays):
    arrays["model.layers.0.rotary_emb.inv_freq"] = np.zeros(4, np.float32)
    arrays["model.layers.1.mtp.x"] = np.zeros(1, np.float64)
    claims = checkpoint.claim(opened(tmp_path, arrays), Program())
    assert claims.ignored == {
        "model.layers.0.rotary_emb.inv_freq": "recomputed",
        "model.layers.1.mtp.x": "not used for inference",
    }
    sizes = {"vector": sum(a.nbytes for a in arrays.values() if a.ndim == 1) - 24, "ignored": 24}
    for array, name in ((np.float32, "f32"), (np.float16, "f16"), (ml_dtypes.bfloat16, "bf16")):
        sizes[name] = sum(a.nbytes for a in arrays.values() if a.ndim == 2 and a.dtype == array)
    assert claims.nbytes == sizes
    calls = []
    weights = checkpoint.load(claims, lambda done, total: calls.append((done, total)))
    total = sum(array.nbytes for array in arrays.values()) - 24
    assert calls[-1] == (total, total)
    assert calls == sorted(calls)
    assert list(weights["up", 0]) == weights["up", 0] and len(weights["up", 0]) == EXPERTS
    for layer in range(LAYERS):
        for role, name in (("norm", "norm.weight"), ("bias", "bias")):
            vector, array = weights[role, layer], arrays[f"model.layers.{layer}.{name}"]
            assert vector.dtype == np.float32
            assert np.array_equal(vector, array.astype(np.float32))
        for expert, weight in enumerate(weights["up", layer]):
            array = arrays[f"model.layers.{layer}.experts.{expert}.up_proj.weight"]
            assert weight.format == {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[str(array.dtype)]
            assert (weight.rows, weight.cols) == (WIDE, HIDDEN)
            assert weight.parts[".weight"].tobytes() == array.tobytes()
            assert weight.parts[".weight"].ctypes.data % 64 == 0
            assert weight.nbytes == array.nbytes
    embed, head = weights["embed", None], weights["head", None]
    assert isinstance(embed, Weight)
    assert embed.parts[".weight"] is head.parts[".weight"]  # one tensor, read once


def test_nan_and_inf_are_loaded(tmp_path, arrays):
    arrays["model.layers.0.norm.weight"][:3] = np.nan, np.inf, -np.inf
    weights = checkpoint.load(checkpoint.claim(opened(tmp_path, arrays), Program()))
    assert np.array_equal(weights["norm", 0], arrays["model.layers.0.norm.weight"], equal_nan=True)


def test_missing_tensors_are_listed(tmp_path, arrays):
    del arrays["model.layers.1.bias"], arrays["model.layers.0.experts.2.up_proj.weight"]
    message = refused(tmp_path, arrays)
    assert "2 missing tensors: model.layers.0.experts.2.up_proj.weight, model.layers.1.bias" in message
    message = refused(tmp_path, {"x": np.zeros(1, np.float32)})
    assert "11 missing tensors: model.embed_tokens.weight, " in message
    assert "and 6 more; 1 unknown tensors: x" in message


def test_extra_tensors_are_listed(tmp_path, arrays):
    arrays["model.layers.2.norm.weight"] = np.zeros(HIDDEN, np.float32)
    arrays["strange\nname"] = np.zeros(HIDDEN, np.float32)
    assert "2 unknown tensors: model.layers.2.norm.weight, 'strange\\nname'" in refused(tmp_path, arrays)


@pytest.mark.parametrize(
    ("name", "array", "needle"),
    [
        ("model.layers.0.bias", np.zeros(WIDE + 1, np.float32), "bias in model.safetensors has shape [6], the config"),
        ("model.layers.0.bias", np.zeros((WIDE, 1), np.float32), "has shape [5, 1], the config asks for [5]"),
        ("model.layers.0.bias", np.zeros(WIDE, np.int64), "has dtype I64, supported for a vector: F32, BF16, F16"),
        (EMBED, np.zeros((HIDDEN, VOCAB), np.float32), "has shape [6, 11], the config asks for [11, 6]"),
        (EMBED, np.zeros((VOCAB, HIDDEN), np.int64), "has dtype I64, supported for a matrix: BF16, F16, F32"),
        (EMBED, np.zeros((VOCAB, HIDDEN), np.float64), "has dtype F64"),
        (EMBED, np.zeros((0, HIDDEN), np.float32), "has shape [0, 6]"),
    ],
)
def test_misshapen_and_mistyped_tensors_are_refused(tmp_path, arrays, name, array, needle):
    message = refused(tmp_path, arrays | {name: array})
    assert needle in message
    assert "unknown" not in message and "missing" not in message


def test_the_format_with_more_suffixes_wins(tmp_path, arrays):
    stem = "model.layers.1.experts.0.up_proj"
    arrays[stem + ".weight_scale_inv"] = np.ones((2, 2), np.float32)
    assert f"{stem}.weight in model.safetensors has dtype" in refused(tmp_path, arrays)
    ck = opened(tmp_path, arrays)
    old = ck.tensors[stem + ".weight"]
    ck.tensors[old.name] = TensorInfo(old.name, "F8_E4M3", old.shape, old.file, old.offset, 30, old.stamp)
    claims = checkpoint.claim(ck, Program())
    assert claims.matrices["up", 1, 0].format == "fp8"
    assert sorted(claims.matrices["up", 1, 0].parts) == [".weight", ".weight_scale_inv"]
    assert claims.nbytes["fp8"] == 30 + 16
    arrays[stem + ".weight_scale_inv"] = np.ones((2, 1), np.float32)
    ck = opened(tmp_path, arrays)
    ck.tensors[old.name] = TensorInfo(old.name, "F8_E4M3", old.shape, old.file, old.offset, 30, old.stamp)
    with pytest.raises(CheckpointError, match=r"scale_inv in .* has shape \[2, 1\], the config asks for \[2, 2\]"):
        checkpoint.claim(ck, Program())


def test_a_stored_copy_of_a_tied_tensor_must_be_equal(tmp_path, arrays, monkeypatch):
    monkeypatch.setattr("refmoe.checkpoint.reading.CHUNK", 64)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"].copy()
    claims = checkpoint.claim(opened(tmp_path, arrays), Program())
    assert claims.ignored == {"lm_head.weight": "repeats model.embed_tokens.weight; compared when loaded"}
    checkpoint.load(claims)
    arrays["lm_head.weight"][-1, -1] += 1
    claims = checkpoint.claim(opened(tmp_path, arrays), Program())
    with pytest.raises(CheckpointError, match=r"tensor lm_head.weight must equal model.embed_tokens.weight by"):
        checkpoint.load(claims)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"].astype(np.float32)
    message = refused(tmp_path, arrays)
    assert "lm_head.weight in model.safetensors must be a copy of model.embed_tokens.weight" in message
    assert "unknown" not in message


def test_a_program_far_larger_than_the_checkpoint_is_refused_quickly(tmp_path, arrays):
    class Endless(Program):
        def expected(self):
            layer = 0
            while True:
                yield "norm", layer, None, Tensor("vector", f"model.layers.{layer}.norm.weight"), (HIDDEN,)
                layer += 1

    message = refused(tmp_path, arrays, Endless())
    assert "at least 1000 missing tensors" in message and "unknown" not in message


def test_139644_tensors():
    class Large(Program):
        ignored_tensors = tuple((f"*.pattern{i}", "") for i in range(10))

        def expected(self):
            for layer in range(120):
                for expert in range(384 * 3):
                    yield "up", layer, expert, Tensor("matrix", f"layers.{layer}.experts.{expert}"), (2048, 7168)

    tensors = {}
    for _, _, _, tensor, shape in Large().expected():
        name = tensor.name + ".weight"
        tensors[name] = TensorInfo(name, "BF16", shape, Path("x"), 0, 2048 * 7168 * 2, (0, 0))
    for i in range(1404):
        tensors[f"{i}.pattern9"] = TensorInfo(f"{i}.pattern9", "F32", (1,), Path("x"), 0, 4, (0, 0))
    assert len(tensors) == 139_644
    claims = checkpoint.claim(Checkpoint(Path("x"), {}, tensors, {}, ()), Large())
    assert len(claims.matrices) == 138_240 and len(claims.ignored) == 1404


def test_too_little_memory_is_refused_with_sizes(tmp_path, arrays, monkeypatch):
    claims = checkpoint.claim(opened(tmp_path, arrays), Program())
    monkeypatch.setattr(sys.modules["refmoe.checkpoint.load"], "available_memory", lambda: 100)
    with pytest.raises(CheckpointError, match=r"the weights need 0\.0 GiB of memory, 0\.0 GiB are available"):
        checkpoint.load(claims)
    monkeypatch.setattr(sys.modules["refmoe.checkpoint.load"], "available_memory", lambda: None)
    checkpoint.load(claims)


def test_available_memory_is_plausible():
    available = sys.modules["refmoe.checkpoint.load"].available_memory()
    assert available is None or 1 << 20 < available < 1 << 50


def test_a_file_that_shrinks_between_claim_and_load(tmp_path, arrays):
    claims = checkpoint.claim(opened(tmp_path, arrays), Program())
    os.truncate(tmp_path / "model.safetensors", os.path.getsize(tmp_path / "model.safetensors") - 1)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: (shrank|changed)"):
        checkpoint.load(claims)


def test_formats_are_discovered(monkeypatch):
    monkeypatch.undo()
    found = matrices.formats()
    assert {module.__name__.rpartition(".")[2] for module in found} >= {"f32", "bf16", "f16"}
    assert [len(module.suffixes) for module in found] == sorted((len(m.suffixes) for m in found), reverse=True)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc/self/status to read the peak memory")
def test_peak_memory_of_loading_is_the_weights_once(tmp_path):
    """A process that loads 256 MB grows by little more (the reader's own pages included)."""
    program = """
import sys
from types import SimpleNamespace
from refmoe import checkpoint, formats
from refmoe.checkpoint import matrices
formats.get("bf16")  # what it imports is not the weights'
plain = SimpleNamespace(__name__="x.bf16", suffixes=(".weight",), dtypes=("BF16",),
                        stored_shapes=lambda rows, cols: {".weight": (rows, cols)})
matrices.formats = lambda: (plain,)
expected = [("m", i, None, SimpleNamespace(kind="matrix", name=f"m{i}"), (4096, 2048)) for i in range(16)]
program = SimpleNamespace(expected=lambda: expected, ignored_tensors=(), copies=())
claimed = checkpoint.claim(checkpoint.open(sys.argv[1]), program)
def peak():  # kB; ru_maxrss would begin with the parent's
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
weights = checkpoint.load(claimed)
print(peak() - before, sum(w.nbytes for w in weights.values()))
"""
    (tmp_path / "config.json").write_text("{}")
    block = bytes(4096 * 2048 * 2)
    tensors = {f"m{i}.weight": ("BF16", (4096, 2048), lambda: block) for i in range(16)}
    checkpoint.write(tmp_path / "model.safetensors", tensors)
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    grown, size = map(int, run.stdout.split())
    assert size == 256 << 20
    assert (256 << 10) < grown < (256 + 24) << 10
