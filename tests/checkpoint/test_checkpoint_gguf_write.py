"""GGUF files written by the package: read back, equal to the tests' own writer, complete or not there."""

import numpy as np
import pytest

from refmoe.checkpoint import gguf
from refmoe.checkpoint.gguf_write import write
from refmoe.checkpoint.reading import read
from refmoe.errors import CheckpointError
from tests import gguf_maker

METADATA = {
    "general.architecture": "llama", "a.bool": True, "a.int": 7, "a.negative": -7, "a.large": 1 << 40, "a.float": 0.1,
    "a.u16": np.uint16(3), "a.f64": np.float64(0.1), "a.words": ["x", "", "é"], "a.none": [],
    "a.numbers": np.array([1, -2], np.int32), "a.flags": np.array([True, False]),
}  # fmt: skip
TENSORS = {
    "a.weight": ("F32", (2, 3), np.arange(6, dtype=np.float32).reshape(2, 3)),
    "b.weight": ("Q8_0", (2, 3, 64), lambda: bytes(range(136)) * 3),
    "c": ("F16", (5,), np.arange(5, dtype=np.float16)),
}  # fmt: skip


def test_read_back(tmp_path):
    path = tmp_path / "m.gguf"
    write(path, METADATA, TENSORS)
    header = gguf.read_header(path)
    found = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in header.metadata.items()}
    assert found == METADATA | {"a.float": float(np.float32(0.1)), "a.u16": 3, "a.f64": 0.1, "a.numbers": [1, -2],
                                "a.flags": [True, False]}  # fmt: skip
    shapes = {name: (info.dtype, info.shape) for name, info in header.tensors.items()}
    assert shapes == {"a.weight": ("F32", (2, 3)), "b.weight": ("Q8_0", (2, 3, 68)), "c": ("F16", (5,))}
    a, b, c = read(list(header.tensors.values()))
    assert a.view("<f4").tolist() == [0, 1, 2, 3, 4, 5] and b.tobytes() == bytes(range(136)) * 3
    assert c.view("<f2").tolist() == [0, 1, 2, 3, 4]
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_bytes_are_those_of_the_tests_own_writer(tmp_path):
    path = tmp_path / "m.gguf"
    write(path, METADATA, TENSORS)
    kinds = {"a.negative": "i32", "a.large": "i64", "a.u16": "u16", "a.f64": "f64", "a.none": ["str"],
             "a.numbers": ["i32"], "a.flags": ["bool"]}  # fmt: skip
    keys = {key: (kinds[key], value) if key in kinds else value for key, value in METADATA.items()}
    tensors = {}
    for name, (kind, shape, data) in TENSORS.items():
        data = data() if callable(data) else data.tobytes()
        tensors[name] = (kind, tuple(reversed(shape)), data)
    assert path.read_bytes() == gguf_maker.pack(keys, tensors)


@pytest.mark.parametrize(("tensors", "message"), [
    ({"a": ("F32", (2,), b"1234567")}, "tensor a needs 8 bytes, data has 7"),
    ({"a": ("Q4_K", (2, 128), b"")}, r"shape \[2, 128\] does not fit type Q4_K"),
    ({"a": ("F32", (), b"")}, r"shape \[\] does not fit"),
    ({"a": ("F32", (1, 1, 1, 1, 1), b"1234")}, "does not fit type F32"),
])  # fmt: skip
def test_what_does_not_fit_leaves_nothing(tmp_path, tensors, message):
    with pytest.raises(CheckpointError, match=message):
        write(tmp_path / "m.gguf", METADATA, tensors)
    assert list(tmp_path.iterdir()) == []


def test_values_without_a_form(tmp_path):
    for value in (None, [1, 2], {"a": 1}, np.zeros((2, 2)), np.complex64(1)):
        with pytest.raises(CheckpointError, match="key k: a value of type"):
            write(tmp_path / "m.gguf", {"k": value}, {})
