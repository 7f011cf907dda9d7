"""foreign - results as ports write them: safetensors, npz, npy, or raw numbers.

For the case ops/linear/one_row the results may lie in one file, ops/linear/one_row.safetensors or .npz, named as in
the clause; or in one file for each result, ops/linear/one_row.y.npy or ops/linear/one_row.y.bin. A raw .bin may have a
.json beside it, {"dtype": "bf16", "shape": [2, 5]}; without one it holds the expected shape in binary64, binary32 or
bfloat16, or integers of 64 or 32 bits, told by its size, little-endian. The leading ops/ or formats/ may be left out,
and so may the name of the result where there is only one. No pickle is opened, no more read than is expected.
"""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.checkpoint import read, read_header
from refmoe.errors import RefmoeError, TraceError
from refmoe.numerics import codecs

WIDTHS: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
}  # fmt: skip
ALIASES = {"FLOAT64": "F64", "FLOAT32": "F32", "FLOAT16": "F16", "BFLOAT16": "BF16", "HALF": "F16", "FLOAT": "F32",
           "DOUBLE": "F64", **{f"INT{n}": f"I{n}" for n in (8, 16, 32, 64)},
           **{f"UINT{n}": f"U{n}" for n in (8, 16, 32, 64)}}  # fmt: skip
LARGEST = 8 << 30  # bytes of one result

Wanted = Mapping[str, np.ndarray]  # results by name: only their types and shapes are used


def results(folder: Path, names: tuple[str, ...], wanted: Wanted) -> tuple[dict[str, np.ndarray], list[Path]]:
    """The results of one case, and the files they were in. `names` are the paths without ending under which the case
    may lie. Nothing found: an empty dict. TraceError for a file that cannot be read."""
    for name in names:
        base = folder / name
        for suffix, reader in ((".safetensors", _safetensors), (".npz", _npz)):
            path = base.with_name(base.name + suffix)
            if path.is_file():
                return _named(reader(path, wanted), wanted), [path]
        found, used = {}, []
        for result, like in wanted.items():
            for path in _single(base, result, len(wanted) == 1):
                found[result] = plain(_npy(path) if path.suffix == ".npy" else _raw(path, like), like)
                used.append(path)
                break
        if found:
            return found, used
    return {}, []


def _single(base: Path, result: str, only: bool) -> Iterator[Path]:
    for suffix in (".npy", ".bin"):
        for path in (base.with_name(f"{base.name}.{result}{suffix}"), base / f"{result}{suffix}",
                     *([base.with_name(base.name + suffix)] if only else [])):  # fmt: skip
            if path.is_file():
                yield path


def _named(arrays: dict[str, np.ndarray], wanted: Wanted) -> dict[str, np.ndarray]:
    """Those that are wanted; a lone array needs no name."""
    if len(wanted) == len(arrays) == 1 and not wanted.keys() & arrays.keys():
        arrays = dict(zip(wanted, arrays.values(), strict=True))
    return {name: plain(array, wanted[name]) for name, array in arrays.items() if name in wanted}


def plain(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Floats as f32 or f64, integers as i64; whole numbers that are stored as floats become integers."""
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if like.dtype.kind in "iu" and bool((np.isfinite(array) & (np.rint(array) == array) & (abs(array) < 2**53)).all()):
        return array.astype(np.int64)
    return array


def _safetensors(path: Path, wanted: Wanted) -> dict[str, np.ndarray]:
    try:
        header = read_header(path)
        infos = [info for name, info in header.tensors.items() if name in wanted or len(header.tensors) == 1]
        raws = read(infos)
    except RefmoeError as problem:
        raise TraceError(str(problem)) from None
    found = {}
    for info, raw in zip(infos, raws, strict=True):
        found[info.name] = _typed(raw, info.dtype, info.shape, f"{path}: {info.name}")
    return found


def _typed(raw: np.ndarray, dtype: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    kind = ALIASES.get(dtype.upper(), dtype.upper())
    if kind not in WIDTHS:
        raise TraceError(f"{where}: dtype: expected one of {', '.join(WIDTHS)}, found {dtype[:40]!r}")
    array = np.ascontiguousarray(raw).view(WIDTHS[kind]).reshape(shape)
    return codecs.bf16_to_f32(array) if kind == "BF16" else array


def _npz(path: Path, wanted: Wanted) -> dict[str, np.ndarray]:
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if info.filename.endswith(".npy")]
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if info.filename not in names or (name not in wanted and len(names) > 1):
                    continue
                if info.file_size > LARGEST:
                    raise TraceError(f"{path}: {name}: expected at most {LARGEST} bytes, found {info.file_size}")
                with archive.open(info) as file:
                    found[name] = _stream(file, info.file_size, f"{path}: {name}")
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as problem:
        raise TraceError(f"{path}: expected an npz archive: {problem}") from None
    return found


def _npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return _stream(file, path.stat().st_size, str(path))


def _stream(file, size: int, where: str) -> np.ndarray:
    """One npy array; its header is checked against the bytes there are before memory is taken."""
    try:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = reader(file)
        count = 1
        for n in shape:
            count *= n
        if dtype.kind not in "iufb" or count * dtype.itemsize > size:
            raise TraceError(f"{where}: expected numbers, {size} bytes, found {dtype}{list(shape)}")
        raw = file.read(count * dtype.itemsize)
        flat = np.frombuffer(raw, dtype, count).astype(dtype.newbyteorder("="))
    except (ValueError, KeyError, SyntaxError, OverflowError, MemoryError) as problem:
        raise TraceError(f"{where}: expected an npy array: {str(problem)[:160]}") from None
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _raw(path: Path, like: np.ndarray) -> np.ndarray:
    """Raw little-endian numbers, described by a .json beside them or by their size."""
    size = path.stat().st_size
    shape, dtype = like.shape, _guess(size, like)
    note = path.with_suffix(".json")
    if note.is_file():
        with contextlib.suppress(OSError):
            size_note = note.stat().st_size
        try:
            facts = json.loads(note.read_text("utf-8") if size_note < 1 << 16 else "")
            dtype, shape = facts["dtype"], tuple(facts.get("shape", shape))
            if type(dtype) is not str or not all(type(n) is int and n >= 0 for n in shape):
                raise ValueError("dtype must be a string, shape a list of numbers")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise TraceError(f'{note}: expected {{"dtype": "f32", "shape": [...]}}: {str(problem)[:120]}') from None
    kind = ALIASES.get((dtype or "").upper(), (dtype or "").upper())
    count = 1
    for n in shape:
        count *= n
    if kind not in WIDTHS or count * np.dtype(WIDTHS[kind]).itemsize != size:
        raise TraceError(f"{path}: expected {list(shape)} {dtype or 'numbers of 2, 4 or 8 bytes'}, found {size} bytes")
    return _typed(np.fromfile(path, np.uint8), kind, shape, str(path))


def _guess(size: int, like: np.ndarray) -> str:
    """The type of a raw file without description."""
    width = size // like.size if like.size else 0
    if like.dtype.kind in "iu":
        return {8: "I64", 4: "I32"}.get(width, "")
    return {8: "F64", 4: "F32", 2: "BF16"}.get(width, "")
