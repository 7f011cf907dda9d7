"""Tiny models of all families: within the binary32 bound of another implementation, bit-equal to golden traces."""

import hashlib
import importlib.util
import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny

from refmoe import checkpoint, trace
from refmoe.program import supported

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
    assert {m.program.arch for m in models} == set(supported())
    dtypes = {info.dtype for m in models for info in m.checkpoint.tensors.values()}
    assert dtypes == {"F32", "F16", "BF16", "F8_E4M3", "I8", "U8", "I32"}
    encodings = {scheme.format for m in models if m.program.quantization for scheme in m.program.quantization.schemes}
    assert encodings >= {"fp8_block", "int8_scaled", "int_packed", "gptq", "awq", "mxfp4_blocks"}
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
    assert (dims["N"] * dims["D"] != dims["H"]) == (model.program.arch != "olmoe")  # there its q norm forbids it
    assert (dims["H"] % 16 or name == "gpt_oss-mxfp4") and dims["D"] % 16 and dims["V"] % 16  # mxfp4: groups of 32
    ratio = dims["N"] // dims.get("G", dims["N"])  # latent attention has no KV heads
    assert ratio not in (4, 8) and (dims["N"] % 2 or ratio == 3 or dims["N"] == 4)
    if "R" in dims:
        assert all(dims[letter] % 16 for letter in "RCUWPQ") and len({dims[letter] for letter in "RUPQ"}) == 4
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
    assert sum(path.stat().st_size for path in files) < 10_000_000
    for name in tiny.NAMES:
        weights = [path for path in (tiny.TINY / name).glob("model*.safetensors")]
        assert 0 < sum(path.stat().st_size for path in weights) < 300_000


README = (tiny.ROOT / "golden" / "README.md").read_text("utf-8")


def _philox(seed: int, block: int, stream: int) -> list[int]:
    """Philox4x32-10 in Python integers."""
    x, mask = [block, 0, stream, 0], 0xFFFFFFFF
    k0, k1 = seed & mask, seed >> 32
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [q >> 32 ^ x[1] ^ k0, q & mask, p >> 32 ^ x[3] ^ k1, p & mask]
        k0, k1 = k0 + 0x9E3779B9 & mask, k1 + 0xBB67AE85 & mask
    return x


def _by_the_readme(name: str, count: int, scale: float, seed: int) -> tuple[list[np.float32], int]:
    """The first values of a tensor and its stream, as golden/README.md says it."""
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    step = np.float32(np.float32(scale) * np.uint32(0x37DDB3D7).view(np.float32))
    values = []
    for i in range(count):
        a, b = _philox(seed, i // 2, stream)[i % 2 * 2 :][:2]
        values.append(np.float32(np.float32((a >> 16) + (a & 0xFFFF) + (b >> 16) + (b & 0xFFFF) - 131070) * step))
    return values, stream


def test_recipe_of_the_readme():
    opened = checkpoint.open(tiny.TINY / "llama")
    for name, info in opened.tensors.items():
        raw = checkpoint.read([info])[0].view(np.uint16)[:40]
        cols = info.shape[-1]
        scale = {1: 0.3}.get(len(info.shape), 1.6 / math.sqrt(cols))
        scale = {"model.embed_tokens.weight": 1.0, "lm_head.weight": 3.5 / math.sqrt(cols)}.get(name, scale)
        values, _ = _by_the_readme(name, len(raw), scale, 12)
        if "norm" in name:
            values = [np.float32(1) + v for v in values]
            values = [v * np.float32(2.0**-6) if i % 7 == 3 else v for i, v in enumerate(values)]
            values = [-v if i % 5 == 2 else v for i, v in enumerate(values)]
        bits = [int(v.view(np.uint32)) for v in values]
        assert [(b + 0x7FFF + (b >> 16 & 1)) >> 16 for b in bits] == raw.tolist(), name
    values, stream = _by_the_readme("model.layers.0.self_attn.q_proj.weight", 4, 1.6 / math.sqrt(42), 12)
    words = [f"{stream:x};", *(f"{word:08x}" for word in _philox(12, 0, stream))]
    words += [f"{v.view(np.uint32):08x}" for v in values]
    assert all(word in README.split("There\n")[1] for word in words)


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_c_reader_of_the_readme(tmp_path):
    source = re.search(r"```c\n(.*?)```", README, re.DOTALL)[1]
    (tmp_path / "reader.c").write_text(source)
    subprocess.run(["cc", "-Wall", "-Werror", "-o", "reader", "reader.c"], cwd=tmp_path, check=True)
    path = tiny.TINY / "mixtral" / "trace.safetensors"
    stored = trace.read(path)
    for name in ("embed", "layers.1.route_ids", "steps.1.logits"):
        done = subprocess.run([tmp_path / "reader", path, name], capture_output=True, text=True, check=True)
        words = [line.split() for line in done.stdout.splitlines()]
        if name.endswith("ids"):
            assert [int(word[0]) for word in words] == stored[name].reshape(-1).tolist()
        else:
            assert [int(word[0], 16) for word in words] == stored[name].view(np.uint32).reshape(-1).tolist()
            assert [np.float32(word[1]) for word in words] == stored[name].reshape(-1).tolist()
    assert subprocess.run([tmp_path / "reader", path, "none"], check=False).returncode == 2
    assert subprocess.run([tmp_path / "reader", tmp_path / "none", "embed"], check=False).returncode == 1


def test_readme_lists_every_model_and_op():
    for name in tiny.NAMES:
        assert f"| `{name}` |" in README
    settings = {name: json.loads((tiny.TINY / name / "config.json").read_text("utf-8")) for name in tiny.NAMES}
    assert {config["model_type"] for config in settings.values()} == {name.partition("-")[0] for name in tiny.NAMES}
    for kind in ("ops", "formats"):
        for path in (tiny.ROOT / "refmoe" / kind).glob("[!_]*.py"):
            assert re.search(rf"\b{path.stem}\b", README)


@pytest.fixture
def make_tiny():
    """The script."""
    sys.path.append(str(tiny.ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("make_tiny", tiny.ROOT / "scripts" / "make_tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_builder_refuses_to_change_bits(make_tiny, tmp_path, monkeypatch, capsys):
    shutil.copytree(tiny.TINY / "llama", tmp_path / "llama")
    monkeypatch.setattr(make_tiny, "ROOT", tmp_path)
    assert make_tiny.main(["llama"]) == make_tiny.main(["check", "llama"]) == 0
    path = tmp_path / "llama" / "trace.safetensors"
    changed = trace.read(path)
    changed["layers.0.q"].view(np.uint32)[0, 0] ^= 1
    trace.write(path, tiny.model("llama"), changed)
    raw = path.read_bytes()
    capsys.readouterr()
    assert make_tiny.main(["llama"]) == make_tiny.main(["check", "llama"]) == 1
    assert "tensor layers.0.q has other bits (numerics 1: a changed bit needs a new" in capsys.readouterr().out
    assert path.read_bytes() == raw
    monkeypatch.setattr(make_tiny.refmoe, "NUMERICS_VERSION", 2)
    assert make_tiny.main(["llama"]) == 0  # allowed now, and right again
    assert trace.read(path).metadata["numerics_version"] == 2
    assert trace.read(path)["layers.0.q"].view(np.uint32)[0, 0] ^ 1 == changed["layers.0.q"].view(np.uint32)[0, 0]
    (tmp_path / "llama" / "ids.json").unlink()
    assert make_tiny.main(["check", "llama"]) == 1
    assert make_tiny.main(["llama"]) == 0 and (tmp_path / "llama" / "ids.json").is_file()


@pytest.mark.parametrize("name", tiny.NAMES)
def test_weights_come_from_the_counter(name, make_tiny):
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
