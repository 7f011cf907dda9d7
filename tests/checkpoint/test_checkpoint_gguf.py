"""GGUF headers: what is read, malformed files, split models."""

import dataclasses
import os
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refmoe import checkpoint
from refmoe.checkpoint import gguf
from refmoe.checkpoint.gguf_files import open_files
from refmoe.checkpoint.reading import read
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.errors import CheckpointError, FormatError, RefmoeError
from tests import gguf_maker
from tests.gguf_maker import pack

ONE = {"a.weight": ("F32", (1,), b"\0\0\0\0")}


def refused(path, error=RefmoeError, limit=2.0, opener=gguf.read_header):
    """The one line that `path` is refused with; it must be quick and take little memory."""
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(error) as caught:
        opener(path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert seconds < limit
    assert peak < (32 << 20) + 4 * os.path.getsize(path)
    assert message.isprintable() and len(message) < 2500, message
    assert path.name in message
    return message


def numbers(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def head(tensors=0, keys=0, version=3):
    return b"GGUF" + struct.pack("<I", version) + numbers(tensors, keys)


def array(kind, count):
    return struct.pack("<IIQ", 9, kind, count)


def tensor(name=b"a.weight", rank=1, dims=(1,), kind=0, offset=0, data=bytes(64)):
    """A file with one key and one tensor that says what it likes."""
    start = head(1, 1) + gguf_maker.text("general.architecture") + gguf_maker.value("str", "llama")
    info = gguf_maker.text(name) + struct.pack("<I", rank) + numbers(*dims) + struct.pack("<IQ", kind, offset)
    raw = start + info
    return raw + bytes(-len(raw) % 32) + data


KEY = gguf_maker.text("k")
MALFORMED = {
    "empty": (b"", "must begin with"),
    "three_bytes": (b"GGU", "must begin with"),
    "magic_only": (b"GGUF", "truncated: the version"),
    "other_magic": (b"GGML" + head()[4:], "must begin with b'GGUF', found b'GGML'"),
    "lfs_pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n", "LFS pointer"),
    "html": (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "HTML"),
    "version_1": (head(version=1), "version must be 2 or 3, found 1"),
    "version_4": (head(version=4), "found 4"),
    "big_endian": (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
    "no_counts": (head()[:12], "truncated"),
    "tensors_2_60": (head(tensors=1 << 60), f"states {1 << 60} tensors"),
    "tensors_2_64": (head(tensors=(1 << 64) - 1), "tensors; at most"),
    "tensors_million": (head(tensors=10**6) + bytes(1000), "states 1000000 tensors"),
    "tensors_more_than_bytes": (head(tensors=4) + bytes(100), "states 4 tensors, of at least 33 bytes each; 100 bytes"),
    "keys_2_60": (head(keys=1 << 60), f"states {1 << 60} keys"),
    "keys_more_than_bytes": (head(keys=3) + bytes(30), "states 3 keys"),
    "key_length_2_63": (head(keys=1) + numbers(1 << 63) + bytes(64), f"{(1 << 63) + 32} bytes, the file has"),
    "key_empty": (head(keys=1) + numbers(0) + bytes(64), "key 0 has 0 characters"),
    "key_long": (head(keys=1) + numbers(2000) + b"x" * 2000, "key 0 has 2000 characters"),
    "key_not_utf8": (head(keys=1) + gguf_maker.text(b"a\xff") + bytes(64), "key 0 is not UTF-8 at byte 1"),
    "key_twice": (head(keys=2)
                  + 2 * (KEY + gguf_maker.value("u32", 1)), "key k appears twice"),
    "value_type": (head(keys=1) + KEY + struct.pack("<I", 13) + bytes(64), "value type must be from 0 to 12, found 13"),
    "value_missing": (head(keys=1) + KEY + struct.pack("<I", 10) + b"\0\0\0", "truncated"),
    "string_2_63": (head(keys=1) + KEY + struct.pack("<I", 8) + numbers(1 << 63), "truncated: key k"),
    "string_over_file": (head(keys=1) + KEY + struct.pack("<I", 8) + numbers(100) + bytes(99), "truncated: key k"),
    "string_not_utf8": (pack({"k": ("str", b"\xc3")}, {}), "key k is not UTF-8"),
    "bool_2": (head(keys=1) + KEY + struct.pack("<IB", 7, 2), "a bool must be 0 or 1, found 2"),
    "float_nan": (pack({"k": ("f32", float("nan"))}, {}), "must be a finite number, found nan"),
    "float_inf": (pack({"k": ("f64", float("inf"))}, {}), "must be a finite number, found inf"),
    "array_2_60": (head(keys=1) + KEY + array(4, 1 << 60), f"{1 << 60} values"),
    "array_of_bytes_2_60": (head(keys=1) + KEY + array(0, 1 << 60) + bytes(99), f"{1 << 60} values"),
    "array_10_8": (head(keys=1) + KEY + array(5, 10**8) + bytes(4000), "100000000 values"),
    "array_of_strings_2_60": (head(keys=1) + KEY + array(8, 1 << 60), f"{1 << 60} strings; at most"),
    "array_of_strings_10_6": (head(keys=1) + KEY + array(8, 10**6) + bytes(4000), "1000000 strings, at byte"),
    "array_of_strings_long": (head(keys=1) + KEY + array(8, 2) + numbers(1, 1 << 62), "truncated"),
    "array_of_strings_not_utf8": (pack({"k": (["str"], [b"a", b"\xfe"])}, {}), "string 1 is not UTF-8"),
    "array_of_arrays": (head(keys=1) + KEY + array(9, 1) + array(4, 1)[4:] + bytes(64), "nothing nested"),
    "array_of_unknown": (head(keys=1) + KEY + array(99, 1) + bytes(64), "an array of type 99"),
    "array_of_bools": (head(keys=1) + KEY + array(7, 2) + b"\1\2", "a bool must be 0 or 1, found 2"),
    "alignment_0": (pack({"general.alignment": 0}, ONE), "power of two, found 0"),
    "alignment_24": (pack({"general.alignment": 24}, ONE), "power of two, found 24"),
    "alignment_negative": (pack({"general.alignment": ("i32", -32)}, ONE), "power of two, found -32"),
    "alignment_string": (pack({"general.alignment": "32"}, ONE), "power of two, found 32"),
    "alignment_2_31": (pack({"general.alignment": 1 << 31}, ONE), "truncated"),
    "rank_0": (tensor(rank=0, dims=()), "must have 1 to 4 dimensions, found 0"),
    "rank_5": (tensor(rank=5, dims=(1,) * 5), "found 5"),
    "rank_10_6": (tensor(rank=10**6), "found 1000000"),
    "rank_2_32": (tensor(rank=(1 << 32) - 1), "found 4294967295"),
    "name_2_63": (head(1) + numbers(1 << 63) + bytes(64), "truncated: tensor 0"),
    "name_empty": (tensor(name=b""), "tensor 0 has 0 characters"),
    "name_not_utf8": (tensor(name=b"\x80"), "tensor 0 is not UTF-8"),
    "name_newline": (tensor(name=b"a\nb", kind=99), "type 99 is unknown"),
    "dims_0": (tensor(dims=(0,)), "no dimension may be 0"),
    "dims_2_63": (tensor(dims=(1 << 63,)), "too large"),
    "dims_product_wraps": (tensor(rank=2, dims=(1 << 32, 1 << 32)), "too large"),
    "dims_product_wraps_to_1": (tensor(rank=4, dims=((1 << 63) + 1, 1, 2, 1 << 62)), "too large"),
    "dims_petabyte": (tensor(dims=(1 << 48,)), "truncated: the tensors need"),
    "block_remainder": (tensor(dims=(48,), kind=8), "rows of 48 elements are no multiple of the 32 of a Q8_0 block"),
    "block_remainder_k": (tensor(rank=2, dims=(128, 2), kind=12), "no multiple of the 256 of a Q4_K block"),
    "type_unknown": (tensor(kind=99), "type 99 is unknown"),
    "type_2_32": (tensor(kind=(1 << 32) - 1), "is unknown"),
    "type_removed": (tensor(kind=4), "type Q4_2 was removed"),
    "offset_unaligned": (tensor(offset=4), "offset 4 is no multiple of the alignment 32"),
    "offset_beyond": (tensor(offset=1 << 40), "leaves a hole after the header"),
    "offset_2_63": (tensor(offset=1 << 63), "leaves a hole"),
    "data_missing": (tensor(data=b""), "truncated: the tensors need"),
    "data_short": (tensor(dims=(20,), data=bytes(79)), "truncated: the tensors need"),
    "data_long": (tensor(data=bytes(33)), "the tensors end at byte"),
    "name_twice": (pack({}, ONE | {"b.weight": ONE["a.weight"]}).replace(b"b.weight", b"a.weight"), "a.weight appears"),
    "overlap": (pack({}, {"a": ("F32", (16,), bytes(32)), "b": ("F32", (8,), bytes(32))}), "b overlaps a"),
    "hole": (pack({}, {"a": ("F32", (8,), bytes(96)), "b": ("F32", (8,), bytes(32))}), "b leaves a hole after a"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_refused_in_one_line(tmp_path, name):
    raw, needle = MALFORMED[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    assert needle in refused(path)


def sample():
    """Every kind of value, two tensors."""
    values = {kind: (kind, 1) for kind in gguf_maker.CODES if kind not in ("str", "bool")} | {
        "i8": ("i8", -3), "i64": ("i64", -(1 << 62)), "u64": ("u64", (1 << 64) - 1), "f32": 0.5, "f64": ("f64", 1e300),
        "text": "é\nx", "empty": "", "yes": True, "no": False, "words": ["a", "", "ü"], "none": (["str"], []),
        "flags": [True, False], "counts": (["u16"], [1, 65535]), "long": (["i64"], [-1]), "nums": (["f32"], [0.25]),
    }  # fmt: skip
    tensors = {"a": ("F32", (3, 2), np.arange(6, dtype=np.float32).tobytes()),
               "b.weight": ("Q8_0", (64, 3), bytes(range(204)))}  # fmt: skip
    return pack(values, tensors), tensors


@pytest.mark.parametrize(("version", "alignment"), [(2, 32), (3, 32), (3, 64), (3, 8)])
def test_what_is_read(tmp_path, version, alignment):
    path = tmp_path / "m.gguf"
    _, tensors = sample()
    path.write_bytes(pack({"general.alignment": alignment, "x": "y"}, tensors, version, alignment))
    header = gguf.read_header(path)
    assert (header.version, header.metadata, header.size) == \
        (version, {"general.alignment": alignment, "x": "y"}, path.stat().st_size)  # fmt: skip
    assert {n: (i.dtype, i.shape, i.nbytes) for n, i in header.tensors.items()} == \
        {"a": ("F32", (2, 3), 24), "b.weight": ("Q8_0", (3, 68), 204)}  # fmt: skip
    a, b = read(list(header.tensors.values()))
    assert a.view("<f4").tolist() == [0, 1, 2, 3, 4, 5] and b.tolist() == list(range(204))


def test_values(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(sample()[0])
    found = gguf.read_header(path).metadata
    lists = {k: v.tolist() for k, v in found.items() if isinstance(v, np.ndarray)}
    assert lists == {"flags": [True, False], "counts": [1, 65535], "long": [-1], "nums": [0.25]}
    assert {k: v for k, v in found.items() if k not in lists} == {
        "u8": 1, "i8": -3, "u16": 1, "i16": 1, "u32": 1, "i32": 1, "f32": 0.5, "u64": (1 << 64) - 1, "i64": -(1 << 62),
        "f64": 1e300, "text": "é\nx", "empty": "", "yes": True, "no": False, "words": ["a", "", "ü"], "none": [],
    }  # fmt: skip


def test_offsets_need_not_follow_the_order_of_the_header(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(pack({}, {"a": ("F32", (8,), bytes(32)), "b": ("F32", (8,), b"\1" * 32)}))
    raw = path.read_bytes()
    first, second = (gguf_maker.text(n) + struct.pack("<IQI", 1, 8, 0) for n in ("a", "b"))
    swapped = raw.replace(first + numbers(0), first + numbers(32)).replace(second + numbers(32), second + numbers(0))
    assert swapped != raw
    path.write_bytes(swapped)
    assert read([gguf.read_header(path).tensors["a"]])[0].tolist() == [1] * 32


def test_many_strings_come_whole_across_the_pieces_in_which_they_are_read(tmp_path, monkeypatch):
    words = [f"word {n} é" * (n % 7) for n in range(3000)]
    path = tmp_path / "m.gguf"
    path.write_bytes(pack({"tokens": words, "more": "x" * 5000, "last": words[::-1]}, {}))
    for chunk in (16, 1000, 4 << 20):
        monkeypatch.setattr(gguf, "CHUNK", chunk)
        found = gguf.read_header(path).metadata
        assert found["tokens"] == words and found["last"] == words[::-1] and found["more"] == "x" * 5000


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    whole, _ = sample()
    ends = len(whole.rstrip(b"\0"))
    for length in range(0, ends, 3):
        path.write_bytes(whole[:length])
        refused(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_bytes_are_read_or_refused(tmp_path, data):
    whole = bytearray(sample()[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    path = tmp_path / "m.gguf"
    path.write_bytes(whole)
    try:
        header = gguf.read_header(path)
    except RefmoeError as problem:
        assert str(problem).isprintable()
    else:
        assert all(info.offset + info.nbytes <= len(whole) for info in header.tensors.values())


def test_sparse_file_of_zeros_after_a_long_string_is_refused_quickly(tmp_path):
    path = tmp_path / "m.gguf"
    with open(path, "wb") as file:
        file.write(head(keys=1) + KEY + struct.pack("<I", 8) + numbers(1 << 40))
        file.truncate(1 << 41)
    assert "more than" in refused(path)


@pytest.fixture
def split(tmp_path):
    """A model in three parts."""
    names = [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for n, name in enumerate(names):
        keys = {"split.no": ("u16", n), "split.count": ("u16", 3), "split.tensors.count": ("i32", 3)}
        tensors = {f"t{n}": ("F32", (2,), np.float32([n, n]).tobytes())}
        (tmp_path / name).write_bytes(pack(keys | ({"general.name": "x"} if n == 0 else {}), tensors))
    return [tmp_path / name for name in names]


def test_split_model(split):
    for path in split:
        model = open_files(path)
        assert model.path == split[0] and model.metadata == {"general.name": "x"}
        assert list(model.files) == [path.name for path in split]
        assert [raw.view("<f4").tolist() for raw in read(list(model.tensors.values()))] == [[0, 0], [1, 1], [2, 2]]


def test_faults_of_split_models(split):
    def keys(n=1, count=3, total=3):
        return {"split.no": ("u16", n), "split.count": ("u16", count), "split.tensors.count": ("i32", total)}

    other = {"t1": ("F32", (2,), bytes(8))}
    for content, needle in [
        (pack(keys(n=2), other), "split.no must be 1 by its name, found 2"),
        (pack(keys(count=2), other), "split.count must be 3"),
        (pack({}, other), "split.no must be 1"),
        (pack(keys(), {"t0": other["t1"]}), "tensor t0 is in two files, m-00001-of-00003.gguf and"),
        (pack(keys() | {"general.name": "y"}, other), "key general.name differs"),
        (pack(keys(), other | {"t9": other["t1"]}), "split.tensors.count is 3, the parts have 4 tensors"),
    ]:
        split[1].write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            open_files(split[0])
        assert needle in str(caught.value)
    split[1].unlink()
    assert "missing beside it: m-00002-of-00003.gguf" in refused(split[0], opener=open_files)
    alone = split[0].with_name("alone.gguf")
    alone.write_bytes(split[2].read_bytes())
    assert "split.no must be 0 because its name is not that of a part" in refused(alone, opener=open_files)
    bad = split[0].with_name("m-00004-of-00003.gguf")
    bad.write_bytes(split[0].read_bytes())
    assert "part 4 of 3 parts" in refused(bad, opener=open_files)


def test_a_directory_with_one_model(split):
    folder = split[0].parent
    assert checkpoint.directory.gguf_file(folder) == split[0]
    (folder / "mmproj-model-f16.gguf").write_bytes(b"")
    assert checkpoint.directory.gguf_file(folder) == split[0]
    (folder / "other.gguf").write_bytes(split[0].read_bytes())
    with pytest.raises(FormatError, match="holds 2 GGUF models, give one of them: m-00001-of-00003"):
        checkpoint.open(folder)


@pytest.mark.parametrize("heads", [1, 3])
def test_rows_stored_pair_by_pair_are_put_in_order(tmp_path, heads):
    rows = np.arange(heads * 8 * 5, dtype=np.float32).reshape(heads * 8, 5)
    path = tmp_path / "m.gguf"
    stored = gguf_maker.paired(rows, heads)
    path.write_bytes(pack({}, {"q": gguf_maker.plain(stored), "b": gguf_maker.plain(stored[:, 0])}))
    infos = [dataclasses.replace(info, pairs=heads) for info in gguf.read_header(path).tensors.values()]
    assert all(isinstance(info, TensorInfo) for info in infos)
    q, b = read(infos)
    assert np.array_equal(q.view("<f4").reshape(rows.shape), rows) and np.array_equal(b.view("<f4"), rows[:, 0])
