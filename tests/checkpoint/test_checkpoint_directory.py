"""Where models are found, what a directory must hold, and the JSON files in it."""

import json
import os
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

from refmoe import checkpoint
from refmoe.checkpoint.directory import EMBEDDED, INDEX
from refmoe.errors import CheckpointError, ConfigError, TokenizerError

A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def save(path, **arrays):
    safetensors.numpy.save_file({name: np.asarray(array, np.float32) for name, array in arrays.items()}, path)


def index(path, weight_map):
    (path / INDEX).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    return path


@pytest.fixture
def sharded(model):
    save(model / A, a=[1, 2])
    save(model / B, b=[3], c=[4])
    index(model, {"a": A, "b": B, "c": B})
    return model


def refused(location, error=CheckpointError):
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(error) as caught:
        checkpoint.open(location)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert seconds < 2 and peak < 256 << 20
    assert message.isprintable()
    return message


def test_single_file(model):
    save(model / "model.safetensors", a=[[1, 2]])
    opened = checkpoint.open(str(model))
    assert opened.path == model
    assert opened.config == {"model_type": "llama"}
    assert opened.tensors["a"].shape == (1, 2)
    assert opened.files == {"model.safetensors": (model / "model.safetensors").stat().st_size}
    assert opened.file("config.json") == model / "config.json"
    assert opened.file("tokenizer.json") is None


def test_shards_with_an_index_and_a_file_that_it_does_not_name(sharded):
    save(sharded / "consolidated.safetensors", other=[1])
    opened = checkpoint.open(sharded)
    assert {name: info.file.name for name, info in opened.tensors.items()} == {"a": A, "b": B, "c": B}
    assert opened.unused_files == ("consolidated.safetensors",)


def test_shards_without_an_index_are_all_taken(sharded):
    (sharded / INDEX).unlink()
    assert sorted(checkpoint.open(sharded).tensors) == ["a", "b", "c"]
    save(sharded / B, a=[3])
    assert "tensor a is in two files, model-00001" in refused(sharded)


@pytest.mark.parametrize(
    ("weight_map", "needle"),
    [
        ({"a": A, "b": B, "c": "model-00003.safetensors"}, "shards that are not there: model-00003.safetensors"),
        ({"a": A, "b": A, "c": B}, "tensor b should be in model-00001-of-00002.safetensors, but is in model-00002"),
        ({"a": A, "b": B}, "does not name 1 tensors of its shards: c"),
        ({"a": A, "b": B, "c": B, "d": B}, "names 1 tensors that no shard has: d"),
        ({"a": "../../etc/passwd"}, "tensor a: expected a plain *.safetensors file name, found ../../etc/passwd"),
        ({"a": "../x.safetensors"}, "tensor a: expected a plain"),
        ({"a": "/x.safetensors"}, "tensor a: expected a plain"),
        ({"a": "sub/x.safetensors"}, "tensor a: expected a plain"),
        ({"a": "sub\\x.safetensors"}, "tensor a: expected a plain"),
        ({"a": "c:x.safetensors"}, "tensor a: expected a plain"),
        ({"a": "x\0.safetensors"}, "tensor a: expected a plain"),
        ({"a": "pytorch_model.bin"}, "tensor a: expected a plain"),
        ({"a": 3}, "tensor a: expected a plain"),
        ({"a": None}, "tensor a: expected a plain"),
        ({}, "weight_map must be an object of tensor name: shard name, found an empty object"),
        ([], "weight_map must be"),
        (None, "weight_map must be"),
        ({f"t{i}": f"{i}.safetensors" for i in range(1000)}, "and 995 more"),
    ],
)
def test_index_that_lies_is_refused(sharded, weight_map, needle):
    index(sharded, weight_map)
    message = refused(sharded)
    assert needle in message and INDEX in message


@pytest.mark.parametrize(
    ("raw", "needle"),
    [
        (b"", "is empty (0 bytes)"),
        (b"{}", "weight_map must be"),
        (b'{"weight_map": {"a": "x", "a": "y"}}', 'key "a" appears twice'),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
        (b'{"weight_map": [' + b"{}," * 2_000_000 + b"0]}", "JSON values"),
        (b'{"a": "' + b"x" * (65 << 20) + b'"}', "at most"),
    ],
)
def test_malformed_index_is_refused(sharded, raw, needle):
    (sharded / INDEX).write_bytes(raw)
    assert needle in refused(sharded)


def test_a_tensor_in_two_shards_is_refused(sharded):
    save(sharded / B, b=[3], c=[4], a=[1])
    assert "tensor a is in two files" in refused(sharded)


def test_a_single_file_beside_an_index_that_does_not_name_it_is_refused(sharded):
    save(sharded / "model.safetensors", a=[1])
    assert "holds model.safetensors and model.safetensors.index.json" in refused(sharded)


def test_an_index_of_one_file(model):
    save(model / "model.safetensors", a=[1])
    index(model, {"a": "model.safetensors"})
    assert list(checkpoint.open(model).tensors) == ["a"]


@pytest.mark.parametrize(
    ("raw", "needle"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"[]", "must be a JSON object, found list"),
        (b"null", "must be a JSON object, found NoneType"),
        (b'{"a": NaN}', 'key "a": NaN, Infinity'),
        (b'{"a": -Infinity}', 'key "a": NaN, Infinity'),
        (b'{"a": [1, [2.0, 1e999]]}', 'key "a": NaN, Infinity'),
        (b'{"a": {"b": 1e999}}', 'key "b": NaN, Infinity'),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", 'key "hidden_size"'),
        (b'{"a": 1, "a": 1}', 'key "a" appears twice'),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter at character 7"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} trailing', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "line\nbreak"}', "not JSON"),
        (b"\x80\x02}q\0.", "pickle"),
        (b"<html></html>", "HTML"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"a": "' + b"x" * (5 << 20) + b'"}', "bytes, at most"),
        (b'{"a": [' + b"[]," * 1_300_000 + b"0]}", "JSON values"),
    ],
)
def test_malformed_config_is_refused(model, raw, needle):
    save(model / "model.safetensors", a=[1])
    (model / "config.json").write_bytes(raw)
    message = refused(model, ConfigError)
    assert needle in message and "config.json" in message


def test_json_that_is_unusual_but_fine(model):
    text = '{"a": 10000000000000000000000000000000, "b": "\\ud83d\\ude00é", "c": 1e-999, "d": -0, "e": [[], {}, null]}'
    (model / "config.json").write_text(text, encoding="utf-8")
    expected = {"a": 10**31, "b": "\U0001f600é", "c": 0.0, "d": 0, "e": [[], {}, None]}
    assert checkpoint.read_json(model / "config.json", "x") == expected
    with pytest.raises(TokenizerError, match="the thing has 105 bytes"):
        checkpoint.read_json(model / "config.json", "the thing", TokenizerError, 10)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", INDEX])
@pytest.mark.parametrize("kind", ["outside", "dangling", "loop", "pipe", "folder"])
def test_links_and_pipes_in_place_of_files(sharded, tmp_path, name, kind):
    if name == "model.safetensors":
        (sharded / INDEX).unlink()
    (sharded / name).unlink(missing_ok=True)
    if kind == "outside":
        save(tmp_path / "other", a=[1])
        (sharded / name).symlink_to(tmp_path / "other")
    elif kind == "dangling":
        (sharded / name).symlink_to("nothing")
    elif kind == "loop":
        (sharded / name).symlink_to(name)
    elif kind == "pipe":
        os.mkfifo(sharded / name)
    else:
        (sharded / name).mkdir()
    message = refused(sharded, ConfigError if name == "config.json" else CheckpointError)
    assert name in message
    if kind == "outside":
        assert "a symbolic link out of the model directory" in message


def test_links_inside_the_directory_and_a_link_to_the_directory_are_followed(sharded, tmp_path):
    (sharded / "real").mkdir()
    (sharded / A).rename(sharded / "real" / A)
    (sharded / A).symlink_to(sharded / "real" / A)
    (tmp_path / "link").symlink_to(sharded)
    assert sorted(checkpoint.open(tmp_path / "link").tensors) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "error", "needle"),
    [
        ([], CheckpointError, "no config.json, no model.safetensors"),
        (["config.json"], CheckpointError, "not a model: no model.safetensors, no model.safetensors.index.json"),
        (["config.json", "a.bin", "b.pth"], CheckpointError, "only a.bin, b.pth: pickle files are never opened"),
        (["config.json", "m.gguf"], CheckpointError, "m.gguf: must begin with"),
        (["model.safetensors"], ConfigError, "config.json: no such file"),
    ],
)
def test_what_a_directory_lacks_is_named(tmp_path, names, error, needle):
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    if "model.safetensors" in names:
        save(tmp_path / "model.safetensors", a=[1])
    assert needle in refused(tmp_path, error)


def test_files_in_place_of_a_directory(tmp_path):
    for name, needle in [("m.gguf", "GGUF"), ("model.safetensors", "directory")]:
        (tmp_path / name).write_bytes(b"")
        assert needle in refused(tmp_path / name)
        assert needle in refused(str(tmp_path / name))


NOTHING = ["", "./nowhere", "a/b/c", "/nowhere", "../x", "a\0b", "x" * 5000, "a\nb", "--help", "a//b", "\ud800"]


@pytest.mark.parametrize("text", NOTHING)
def test_locations_that_are_nothing(text):
    assert "no such directory" in refused(text)


# ---- the hub cache ----

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--some-org--Some.Name"
    snapshot = folder / "snapshots" / COMMIT
    for path in (folder / "blobs", folder / "refs", snapshot):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "blobs" / "1111").write_text('{"model_type": "llama"}')
    save(folder / "blobs" / "2222", a=[1])
    (snapshot / "config.json").symlink_to("../../blobs/1111")
    (snapshot / "model.safetensors").symlink_to("../../blobs/2222")
    return folder


def test_hub_id_is_found_by_branch_and_by_commit(hub):
    (hub / "refs" / "refs" / "pr").mkdir(parents=True)
    (hub / "refs" / "refs" / "pr" / "1").write_text(COMMIT + "\n")
    for revision in ("", "@main", f"@{COMMIT}", "@refs/pr/1"):
        opened = checkpoint.open(f"some-org/Some.Name{revision}")
        assert opened.path == hub / "snapshots" / COMMIT
        assert list(opened.tensors) == ["a"]


def test_hub_cache_agrees_with_huggingface_hub(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    program = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    cases: list[dict[str, str]] = [{}, {"HF_HOME": "/h"}, {"XDG_CACHE_HOME": "/x"}, {"HF_HOME": "~/$USER/h"}]
    cases += [{"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, {"HUGGINGFACE_HUB_CACHE": "~/c", "HF_HOME": "/h"}]
    for variables in cases:
        for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        theirs = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert str(checkpoint.hub_cache()) == theirs.strip()


def test_hub_id_that_is_not_there_names_paths_and_command(hub):
    message = refused("some-org/other")
    assert "models--some-org--other" in message and "`hf download some-org/other`" in message
    message = refused("some-org/Some.Name@v2")
    assert "`hf download some-org/Some.Name --revision v2`" in message
    (hub / "refs" / "main").write_text("../../../../etc")
    assert "must hold a commit id" in refused("some-org/Some.Name")
    for revision in ("../../x", "", "/etc", "a b", "-x"):
        assert "is not a branch, tag or commit name" in refused(f"some-org/Some.Name@{revision}")
    for name in ("some-org/..", "../hub", "a--b/c"):
        assert "not a hub id" in refused(name)


def test_snapshot_links_out_of_the_blob_store_are_refused(hub, tmp_path):
    link = hub / "snapshots" / COMMIT / "model.safetensors"
    link.unlink()
    save(tmp_path / "secret", a=[1])
    link.symlink_to(tmp_path / "secret")
    assert "a symbolic link out of the model directory" in refused("some-org/Some.Name")


def test_nothing_means_the_embedded_model(monkeypatch, tmp_path):
    assert checkpoint.locate(None) == EMBEDDED
    monkeypatch.setattr("refmoe.checkpoint.directory.EMBEDDED", tmp_path / "none")
    assert "embedded model is missing" in refused(None)


# ---- digests ----


def test_digest_depends_on_config_and_headers_only(sharded):
    digest, content = checkpoint.open(sharded).digest(), checkpoint.open(sharded).content_digest()
    save(sharded / A, a=[1, 3])
    assert checkpoint.open(sharded).digest() == digest
    assert checkpoint.open(sharded).content_digest() != content
    save(sharded / A, a=[[1, 2]])
    assert checkpoint.open(sharded).digest() != digest
    assert checkpoint.open(sharded).content_digest() != content
    save(sharded / A, a=[1, 2])
    (sharded / "config.json").write_text('{ "model_type" : "llama" }')
    assert checkpoint.open(sharded).digest() == digest
    (sharded / "config.json").write_text('{"model_type": "qwen2"}')
    assert checkpoint.open(sharded).digest() != digest


def test_content_digest_does_not_depend_on_shards_and_reports_progress(sharded, tmp_path):
    calls = []
    content = checkpoint.open(sharded).content_digest(lambda done, total: calls.append((done, total)))
    assert calls[-1] == (16, 16)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    save(other / "model.safetensors", c=[4], a=[1, 2], b=[3])
    assert checkpoint.open(other).content_digest() == content
