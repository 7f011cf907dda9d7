"""Headers against the reference library, malformed files, and the bytes that come out."""

import hashlib
import json
import os
import struct
import time
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refmoe.checkpoint.reading import read, sha256_each
from refmoe.checkpoint.safetensors import DTYPE_BITS, MAX_HEADER, read_header, write
from refmoe.errors import CheckpointError

U8 = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes):
    return packed({"layer.w": U8 | changes}, b"x")


def refused(path, limit=2.0):
    """The one line that read_header refuses `path` with; it must be quick and take little memory."""
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert seconds < limit
    assert peak < (32 << 20) + 4 * os.path.getsize(path)
    assert message.isprintable() and len(message) < 2500, message
    assert path.name in message
    return message


MALFORMED = {
    "empty": (b"", "0 bytes"),
    "seven_bytes": (b"\0" * 7, "7 bytes"),
    "length_only": (struct.pack("<Q", 0), "8 bytes"),
    "length_zero": (packed(b"", b"xx"), "begin with"),
    "length_2_63": (struct.pack("<Q", 1 << 63) + b"{}", str(1 << 63)),
    "length_over_limit": (struct.pack("<Q", MAX_HEADER + 1) + b"{}", str(MAX_HEADER)),
    "length_over_file": (struct.pack("<Q", 5000) + b"{}", "the header needs 5008 bytes, the file has 10"),
    "lfs_pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n", "LFS pointer"),
    "html": (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "HTML"),
    "zip": (b"PK\x03\x04\x14\0\0\0\x08\0 archive/data.pkl", "pickle"),
    "pickle": (b"\x80\x02}q\0(X\x05\0\0\0model", "pickle"),
    "gguf": (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0", "GGUF"),
    "not_json": (packed(b"{nonsense"), "not JSON"),
    "not_utf8": (packed(b'{"\xff":1}'), "UTF-8"),
    "array": (packed(b"[1,2,3]"), "begin with"),
    "leading_space": (packed(b" {}"), "begin with"),
    "trailing_text": (packed(b"{} x"), "not JSON"),
    "trailing_nul": (packed(b"{}\0\0"), "not JSON"),
    "deep": (packed(b'{"a":' * 100_000), "nested too deeply"),
    "deep_list": (packed(b'{"a":' + b"[" * 200_000), "nested too deeply"),
    "many_values": (packed(b'{"a":[' + b"0," * 2_000_000 + b"0]}"), "JSON values"),
    "huge_integer": (packed(b'{"a":{"dtype":"U8","shape":[%b],"data_offsets":[0,1]}}' % (b"9" * 5000), b"x"), "shape"),
    "many_keys": (packed(b"{%b}" % b",".join(b'"%d":0' % i for i in range(900_000))), "900000 keys"),
    "long_and_not_ascii": (packed('{"a": "é'.encode() + b"x" * (17 << 20) + b'"}'), "not all ASCII"),
    "duplicate": (packed(b'{"a":%b,"a":%b}' % ((json.dumps(U8).encode(),) * 2), b"x"), 'key "a" appears twice'),
    "duplicate_field": (packed(b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"), "twice"),
    "nan": (packed(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"x"), "shape"),
    "surrogate": (packed(b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "surrogate"),
    "minus_zero": (packed(b'{"layer.w":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'), "layer.w"),
    "metadata_number": (packed({"__metadata__": {"step": 3}}), '__metadata__ key "step" must be a string, found int'),
    "metadata_list": (packed({"__metadata__": []}), "__metadata__"),
    "metadata_null": (packed({"__metadata__": None}), "__metadata__"),
    "entry_number": (packed({"layer.w": 3}), "layer.w"),
    "entry_array": (packed({"layer.w": ["U8", [1], [0, 1]]}, b"x"), "layer.w"),
    "entry_empty": (packed({"layer.w": {}}), "layer.w"),
    "field_missing": (packed({"layer.w": {"dtype": "U8", "shape": [1]}}, b"x"), "data_offsets"),
    "field_extra": (entry(strides=[1]), "strides"),
    "dtype_unknown": (entry(dtype="Q4_K"), "dtype Q4_K is unknown"),
    "dtype_number": (entry(dtype=3), "dtype 3"),
    "dtype_list": (entry(dtype=["U8"]), "dtype"),
    "shape_number": (entry(shape=1), "shape"),
    "shape_negative": (entry(shape=[-1]), "shape"),
    "shape_two_negatives": (entry(shape=[-1, -1]), "shape"),
    "shape_float": (entry(shape=[1.0]), "shape"),
    "shape_bool": (entry(shape=[True]), "shape"),
    "shape_string": (entry(shape=["1"]), "shape"),
    "shape_nested": (entry(shape=[[1]]), "shape"),
    "shape_deep": (packed(b'{"w":{"dtype":"U8","data_offsets":[0,1],"shape":' + b"[" * 900 + b"]" * 900 + b"}}"), "w"),
    "shape_mismatch": (entry(shape=[2]), "shape [2] of U8 needs 2 bytes, data_offsets span 1"),
    "shape_overflow_2_64": (entry(shape=[1 << 32, 1 << 32]), "too large"),
    "shape_overflow_wraps": (entry(shape=[(1 << 63) + 1, 2]), "too large"),
    "shape_overflow_then_zero": (entry(shape=[1 << 63, 2, 0], data_offsets=[0, 0]), "too large"),
    "shape_many": (entry(shape=[1 << 62] * 200_000), "too large"),
    "half_a_byte": (packed({"layer.w": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, b"xx"), "1.5 bytes"),
    "offsets_one": (entry(data_offsets=[1]), "data_offsets"),
    "offsets_three": (entry(data_offsets=[0, 1, 2]), "data_offsets"),
    "offsets_negative": (entry(data_offsets=[-1, 0]), "data_offsets"),
    "offsets_backwards": (entry(data_offsets=[1, 0]), "backwards: 1 to 0"),
    "offsets_float": (entry(data_offsets=[0, 1.0]), "data_offsets"),
    "shape_of_a_petabyte": (entry(shape=[1 << 50], data_offsets=[0, 1 << 50]), "truncated"),
    "offsets_far": (entry(data_offsets=[1 << 62, (1 << 62) + 1]), "hole"),
    "hole_at_start": (packed({"layer.w": U8 | {"data_offsets": [1, 2]}}, b"xx"), "leaves a hole after the header"),
    "hole": (packed({"a": U8, "layer.w": U8 | {"data_offsets": [2, 3]}}, b"xxx"), "layer.w leaves a hole after a"),
    "overlap": (packed({"a": U8, "layer.w": U8}, b"x"), "overlaps"),
    "overlap_part": (
        packed({"a": U8 | {"shape": [3], "data_offsets": [0, 3]}, "layer.w": U8 | {"data_offsets": [2, 3]}}, b"xxx"),
        "layer.w overlaps a: begins at data offset 2, expected 3",
    ),
    "truncated": (packed({"layer.w": U8 | {"shape": [9], "data_offsets": [0, 9]}}, b"x" * 8), "truncated"),
    "over_long": (packed({"layer.w": U8}, b"xy"), "the tensors end at byte"),
    "newline_in_name": (packed({"a\nb" + "c" * 9999: 3}), "characters"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_refused_in_one_line(tmp_path, name):
    raw, needle = MALFORMED[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    assert needle in refused(path)


def test_every_truncation_of_a_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    whole = safetensors.numpy.save({"a": np.arange(4, dtype=np.float32), "b": np.arange(2, dtype=np.int64)})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "bytes" in refused(path)


def test_sparse_file_with_a_long_header_of_zeros_is_refused_quickly(tmp_path):
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER) + b"{")
        file.truncate(MAX_HEADER + 8)
    assert "not JSON" in refused(path)


def test_what_is_not_a_regular_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_header(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_header(tmp_path / "model.safetensors")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_header(tmp_path / "pipe")


# ---- the reference library as judge ----

STRANGE = [1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1, 1 << 64, 0.0, 1.0, True, None]
NUMBER = st.one_of(st.integers(0, 6), st.integers(-2, 70), st.sampled_from(STRANGE))
FIELDS = st.fixed_dictionaries(
    {"dtype": st.sampled_from([*DTYPE_BITS, "X"]), "shape": st.lists(NUMBER, max_size=4),
     "data_offsets": st.lists(NUMBER, min_size=2, max_size=2)},
    optional={"extra": NUMBER},
)  # fmt: skip
SANE = st.tuples(st.sampled_from(list(DTYPE_BITS)), st.lists(st.integers(0, 4), max_size=3))
BYTES = st.sampled_from([*b'0123456789-+.eE[]{},:"\\ \n\0u', 0xFF])
CHANGES = st.lists(st.tuples(st.integers(0, 400), BYTES), min_size=1, max_size=3)


def judge(path, raw):
    """Everything accepted here must be accepted by the library, with the same tensors and bytes."""
    path.write_bytes(raw)
    try:
        header = read_header(path)
    except CheckpointError as problem:
        assert str(problem).isprintable()
        return False
    theirs = dict(safetensors.deserialize(raw))
    assert theirs.keys() == header.tensors.keys()
    infos = list(header.tensors.values())
    for info, data in zip(infos, read(infos), strict=True):
        other = theirs[info.name]
        assert (info.dtype, list(info.shape)) == (other["dtype"], other["shape"])
        assert data.tobytes() == bytes(other["data"])
    return True


def laid_out(entries):
    position, header = 0, {}
    for i, (dtype, shape) in enumerate(entries):
        size = int(np.prod(shape, dtype=np.int64)) * DTYPE_BITS[dtype] // 8
        header[f"t{i}"] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    return header, bytes(i % 251 for i in range(position))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("judge") / "x.safetensors"


relaxed = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@relaxed
@given(entries=st.dictionaries(st.text(max_size=4), FIELDS, max_size=3), data=st.binary(max_size=40))
def test_random_headers_are_judged_like_the_library(scratch, entries, data):
    judge(scratch, packed(json.dumps(entries).encode("utf-8", "surrogatepass"), data))


@relaxed
@given(entries=st.lists(SANE, max_size=5), order=st.randoms())
def test_sane_headers_are_accepted_when_the_library_accepts_them(scratch, entries, order):
    header, data = laid_out(entries)
    names = list(header)
    order.shuffle(names)
    raw = packed({name: header[name] for name in names}, data)
    try:
        safetensors.deserialize(raw)
    except safetensors.SafetensorError:
        assert not judge(scratch, raw)
    else:
        assert judge(scratch, raw)


@relaxed
@given(entries=st.lists(SANE, min_size=1, max_size=3), changes=CHANGES)
def test_mutated_bytes_are_judged_like_the_library(scratch, entries, changes):
    header, data = laid_out(entries)
    raw = bytearray(packed(header, data))
    for position, byte in changes:
        raw[position % len(raw)] = byte
    judge(scratch, bytes(raw))


# ---- bytes ----


def test_foreign_file_is_read_to_the_same_bytes_in_aligned_memory(tmp_path):
    random = np.random.default_rng(1)
    arrays = {
        "f32": random.normal(size=(5, 7)).astype(np.float32),
        "f16": random.normal(size=(3,)).astype(np.float16),
        "bf16": random.normal(size=(4, 9)).astype(ml_dtypes.bfloat16),
        "i64": np.arange(6).reshape(2, 3),
        "scalar": np.array(7, np.int32),
        "none": np.zeros((0, 4), np.float32),
        "bool": np.array([True, False]),
    }
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    header = read_header(path)
    assert header.metadata == {"format": "pt"}
    assert header.size == path.stat().st_size
    infos = [header.tensors[name] for name in arrays]
    calls = []
    parts = read(infos, lambda done, total: calls.append((done, total)))
    for part, array, info in zip(parts, arrays.values(), infos, strict=True):
        assert part.tobytes() == array.tobytes()
        assert info.shape == array.shape
        assert part.dtype == np.uint8 and part.ndim == 1 and part.flags.c_contiguous and part.flags.writeable
        assert part.ctypes.data % 64 == 0
    total = sum(array.nbytes for array in arrays.values())
    assert calls[-1] == (total, total)


def test_pieces_larger_than_a_chunk_and_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("refmoe.checkpoint.reading.CHUNK", 64)
    random = np.random.default_rng(2)
    arrays, infos = [], []
    for i in range(3):
        files = {f"t{j}": random.integers(0, 256, 1 + 37 * j, dtype=np.uint8) for j in range(9)}
        safetensors.numpy.save_file(files, tmp_path / f"{i}.safetensors")
        header = read_header(tmp_path / f"{i}.safetensors")
        arrays += files.values()
        infos += [header.tensors[name] for name in files]
    order = random.permutation(len(infos))
    for i, part in zip(order, read([infos[i] for i in order]), strict=True):
        assert part.tobytes() == arrays[i].tobytes()
    assert sha256_each(infos) == [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]


@pytest.mark.parametrize("change", ["truncated", "replaced", "rewritten", "removed"])
def test_a_file_that_changes_after_its_header_was_read_is_an_error(tmp_path, change):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"w": np.zeros(100_000, np.float32)}, path)
    os.utime(path, ns=(1, 1))
    infos = list(read_header(path).tensors.values())
    if change == "truncated":
        os.truncate(path, 1000)
    elif change == "replaced":
        safetensors.numpy.save_file({"w": np.ones(100_001, np.float32)}, path)
    elif change == "rewritten":
        safetensors.numpy.save_file({"w": np.ones(100_000, np.float32)}, path)
    else:
        path.unlink()
    for function in (read, sha256_each):
        with pytest.raises(CheckpointError, match=r"model\.safetensors: (shrank|changed|no such file)") as caught:
            function(infos)
        assert str(caught.value).isprintable()


def test_a_failing_progress_callback_stops_the_reading(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"w": np.zeros(1000, np.float32)}, path)

    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(list(read_header(path).tensors.values()), progress)


# ---- writing ----


def test_written_file_equals_the_library_s_byte_for_byte(tmp_path):
    arrays = {
        "b": np.arange(3, dtype=np.float16),
        "a": np.ones((2, 2), np.float32),
        "ü": np.zeros(0, np.uint8),
        "i": np.arange(5, dtype=np.int8),
    }
    names = {"float16": "F16", "float32": "F32", "uint8": "U8", "int8": "I8"}
    write(
        tmp_path / "ours.safetensors",
        {name: (names[str(array.dtype)], array.shape, array) for name, array in arrays.items()},
        {"format": "pt"},
    )
    assert (tmp_path / "ours.safetensors").read_bytes() == safetensors.numpy.save(arrays, {"format": "pt"})
    assert os.listdir(tmp_path) == ["ours.safetensors"]


def test_written_bf16_and_fp8_are_read_back_by_the_library(tmp_path):
    values = np.arange(-4, 4, dtype=np.float32)
    path = tmp_path / "x.safetensors"
    tensors = {
        "bf16": ("BF16", [2, 4], values.astype(ml_dtypes.bfloat16)),
        "fp8": ("F8_E4M3", [8], values.astype(ml_dtypes.float8_e4m3fn).tobytes()),
        "lazy": ("F32", [8], lambda: values),
        "strided": ("F32", [4], values[::2]),
        "scalar": ("F32", [], np.float32(3).tobytes()),
    }
    write(path, tensors)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert sorted(file.keys()) == sorted(tensors)
        assert file.get_slice("fp8").get_dtype() == "F8_E4M3"
        assert np.array_equal(file.get_tensor("bf16").astype(np.float32), values.reshape(2, 4))
        assert np.array_equal(file.get_tensor("lazy"), values)
        assert np.array_equal(file.get_tensor("strided"), values[::2])


def test_failed_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, {"a": ("U8", [1], b"1")})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="tensor a needs 2 bytes, data has 1"):
        write(path, {"a": ("U8", [2], b"1")})

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, {"a": ("U8", [2], interrupt)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]
    for place in ("x.safetensors/below", "nowhere/x"):
        with pytest.raises(CheckpointError, match="cannot be written"):
            write(tmp_path / place, {"a": ("U8", [1], b"1")})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and symbolic links")
def test_writing_keeps_pipes_and_symbolic_links(tmp_path):
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(real)
    write(link, {"a": ("U8", [1], b"1")})
    assert link.is_symlink() and real.is_file() and list(read_header(real).tensors) == ["a"]
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, {"a": ("U8", [1], b"1")})  # a device is treated like a pipe; replacing /dev/null would hurt everyone
    assert os.read(reader, 10_000) == real.read_bytes() and not pipe.is_file()
    os.close(reader)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe", "real"]
