"""Golden vectors: find them, read them strictly, run one through an op or a format.

`golden/ops/<op>/<case>.safetensors` holds the inputs, weights and results of one op as stored bits, named as in its
Signature. Metadata (strings): op, case, numerics, attrs (JSON; a float is the shortest decimal of its binary32 value),
attrs_bits (JSON; the binary32 pattern of each float in hexadecimal), outputs, hunts, bugs (ids of the bug catalogue),
generator (JSON; how each input is rebuilt). `golden/formats/<format>/<case>.safetensors` holds the stored tensors of a
matrix, named as their suffix without its dot, and `decoded` f32[rows, cols]; its attrs are the numbers a format reads
from the config and the dtypes of scales. Codes of any type are stored as unsigned integers of their size.
`golden/MANIFEST.json` lists every file.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import NUMERICS_VERSION, formats, ops, signature
from refmoe.checkpoint import read, read_header, read_json
from refmoe.errors import RefmoeError, TraceError, UsageError
from refmoe.kvcache import Sequence
from refmoe.steps import CacheRow
from refmoe.weight import Weight

DTYPES: dict[str, Any] = {"F32": np.float32, "I64": np.int64, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32}
SPEC_DTYPES = {"f32": np.float32, "i64": np.int64, "matrix": np.float32}
TABLES = ("inv_freq",)  # one-axis parameters that travel with the attributes, not with the weights
HEADS = {"N": "heads", "G": "kv_heads"}  # axes that attributes state
FORMAT_RESULT = "decoded"


@dataclass(frozen=True)
class Case:
    """One vector. `tensors` holds inputs, weights and expected results; `op` or `format` is empty."""

    op: str
    name: str
    tensors: dict[str, np.ndarray]
    attrs: dict[str, Any]
    outputs: tuple[str, ...]
    hunts: str
    bugs: tuple[str, ...]
    format: str = ""

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """Everything that is not a result, weights included."""
        return {name: array for name, array in self.tensors.items() if name not in self.outputs}

    @property
    def expected(self) -> dict[str, np.ndarray]:
        """The stored results."""
        return {name: self.tensors[name] for name in self.outputs}


def root() -> Path:
    """The golden folder: inside the installed package, or beside it in a checkout. TraceError if there is none."""
    package = Path(__file__).parent
    for path in (package / "golden", package.parent / "golden"):
        if path.is_dir():
            return path
    raise TraceError(f"golden vectors: expected a folder {package / 'golden'}, found none")


@cache
def manifest() -> dict[str, dict[str, Any]]:
    """The files of MANIFEST.json: {path: {"sha256": hex, "bytes": int}}."""
    path = root() / "MANIFEST.json"
    content = read_json(path, "manifest of golden files", TraceError)
    if set(content) != {"numerics", "files"} or not isinstance(content["files"], dict):
        raise TraceError(f"{path}: expected the keys numerics and files, found {', '.join(sorted(content))}")
    if content["numerics"] != NUMERICS_VERSION:
        raise TraceError(f"{path}: numerics: expected {NUMERICS_VERSION}, found {content['numerics']}")
    for name, entry in content["files"].items():
        if not isinstance(entry, dict) or set(entry) != {"sha256", "bytes"}:
            raise TraceError(f"{path}: {name}: expected sha256 and bytes, found {str(entry)[:40]}")
    return content["files"]


def check_file(path: Path) -> None:
    """TraceError unless a file below root() has the bytes that the manifest states."""
    name = path.relative_to(root()).as_posix()
    entry = manifest().get(name)
    if entry is None:
        raise TraceError(f"{path}: expected an entry in MANIFEST.json, found none")
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise TraceError(f"{path}: cannot be read: {problem.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise TraceError(f"{path}: sha256: expected {entry['sha256']}, found {found} ({len(content)} bytes)")


def cases(op: str | None = None, format: str | None = None, bug: str | None = None) -> list[Path]:
    """Vector files in alphabetical order: all, those of one op or of one format, those that hunt one catalogued bug."""
    if op is not None:
        ops.get(op)
    if format is not None:
        formats.get(format)
    folders = ["ops/" + (op or "*")] if format is None else []
    if op is None:
        folders.append("formats/" + (format or "*"))
    found = sorted(path for folder in folders for path in root().glob(folder + "/*.safetensors"))
    return [path for path in found if bug is None or bug in load(path).bugs]


def load(path: Path | str) -> Case:
    """Read one vector. TraceError for bytes other than the manifest's, another version, wrong names, types, shapes."""
    path = Path(path)
    if path.resolve().is_relative_to(root().resolve()):
        check_file(root() / path.resolve().relative_to(root().resolve()))
    try:
        header = read_header(path)
        arrays = {}
        infos = list(header.tensors.values())
        for info, raw in zip(infos, read(infos), strict=True):
            if info.dtype not in DTYPES:
                raise TraceError(f"{path}: {info.name}: dtype: expected {', '.join(DTYPES)}, found {info.dtype}")
            arrays[info.name] = raw.view(DTYPES[info.dtype]).reshape(info.shape)
        case = _case(header.metadata, arrays)
        problem = _op_problem(case, json.loads(header.metadata["attrs_bits"])) if case.op else _format_problem(case)
    except TraceError:
        raise
    except (KeyError, TypeError, ValueError) as found:
        raise TraceError(f"{path}: metadata: expected the keys of a vector, found a bad or no value: {found}") from None
    except RefmoeError as found:
        raise TraceError(str(found)) from None
    if problem:
        raise TraceError(f"{path}: {case.op or case.format}: {problem}")
    return case


def _case(metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> Case:
    if metadata["numerics"] != str(NUMERICS_VERSION):
        raise ValueError(f"numerics {metadata['numerics']!r}, expected {NUMERICS_VERSION}")
    if ("op" in metadata) == ("format" in metadata):
        raise ValueError("op and format, expected one of them")
    parsed = [json.loads(metadata[key]) for key in ("attrs", "outputs", "bugs")]
    if [type(value) for value in parsed] != [dict, list, list]:
        raise ValueError("attrs, outputs or bugs, expected an object and two lists")
    return Case(metadata.get("op", ""), metadata["case"], arrays, parsed[0], tuple(parsed[1]), metadata["hunts"],
                tuple(parsed[2]), metadata.get("format", ""))


def _op_problem(case: Case, bits: dict[str, str]) -> str | None:
    """What does not fit the op's Signature, or None."""
    for name, value in case.attrs.items():
        if isinstance(value, float) and f"{np.float32(value).view(np.uint32):08x}" != bits.get(name):
            return f"{name}: expected the binary32 {bits.get(name)}, found {value!r}"
    heads = {axis: case.attrs[key] for axis, key in HEADS.items() if key in case.attrs}
    return " | ".join(problems) if all(problems := [_mismatch(case, one, heads) for one in signature.load(case.op)]) \
        else None


def _mismatch(case: Case, one: signature.Signature, heads: dict[str, int]) -> str:
    """What does not fit one alternative, or an empty string."""
    slots = {param.name: param for param in (*one.params, *one.results) if param.axes is not None}
    if set(slots) != set(case.tensors) or tuple(param.name for param in one.results) != case.outputs:
        return f"expected tensors {', '.join(slots)}, found {', '.join(case.tensors)}"
    for name, param in slots.items():
        if case.tensors[name].dtype != SPEC_DTYPES[param.dtype]:
            return f"{name}: expected {param.dtype}, found {case.tensors[name].dtype}"
    arrays = {param.name: (param.dtype, case.tensors[param.name].shape) for param in one.params if param.axes}
    results = signature.match(one, arrays, case.attrs | heads)
    if isinstance(results, str):
        return results
    for name, (_, shape) in zip(case.outputs, results, strict=True):
        if case.tensors[name].shape != shape:
            return f"{name}: expected shape {list(shape)}, found {list(case.tensors[name].shape)}"
    return ""


def _format_problem(case: Case) -> str | None:
    """What does not fit the format's stored shapes, or None."""
    result = case.tensors.get(FORMAT_RESULT, np.empty(0))
    if case.outputs != (FORMAT_RESULT,) or result.dtype != np.float32 or result.ndim != 2:
        return f"expected one result {FORMAT_RESULT} f32[rows, cols], found {', '.join(case.tensors)}"
    module = formats.get(case.format)
    settings = {name: case.attrs[name] for name in getattr(module, "params", ())}
    shapes = module.stored_shapes(*result.shape, **settings)
    wanted = {suffix.removeprefix("."): shape if isinstance(shape, list) else [shape]
              for suffix, shape in shapes.items()}
    free = {suffix.removeprefix(".") for suffix in getattr(module, "unused", {})} - wanted.keys()
    found = {name: array.shape for name, array in case.inputs.items() if name not in free}
    absent = [name for name in wanted.keys() - found.keys() if None not in wanted[name]]
    if absent or any(name not in wanted or shape not in wanted[name] for name, shape in found.items()):
        return f"expected stored shapes {wanted}, found {found}"
    return None


def stored(case: Case) -> Weight:
    """The matrix that a format case stores."""
    module = formats.get(case.format)
    known = (*module.suffixes, *getattr(module, "extras", {}), *getattr(module, "unused", {}))
    names = {suffix.removeprefix("."): suffix for suffix in known}
    parts = {names[name]: array.reshape(-1).view(np.uint8) for name, array in case.inputs.items()}
    rows, cols = case.tensors[FORMAT_RESULT].shape
    return Weight(case.format, rows, cols, parts, case.attrs)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal type, shape and bits; any nan equals any nan, since processors differ in the nan they make."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype != np.float32:
        return bool(np.array_equal(a, b))
    nan = np.isnan(a)
    left, right = (np.ascontiguousarray(x).view(np.uint32) for x in (a, b))
    return bool(np.array_equal(nan, np.isnan(b)) and np.array_equal(left[~nan], right[~nan]))


def run(case: Case, path: str = "plain", parts: int = 1) -> dict[str, np.ndarray]:
    """The results of our own implementation for a case.

    `path` is "plain" (the plain kernel) or "fast" (what the engine calls, with the work cut into `parts` shares). A
    format has one path, its decode.
    """
    if path not in ("plain", "fast"):
        raise UsageError(f"path: expected plain or fast, found {path!r}")
    if case.format:
        return {FORMAT_RESULT: formats.decode(stored(case))}
    if path == "plain":
        results = ops.get(case.op).plain(**case.inputs, **case.attrs)
    else:
        results = _attend(case, parts) if _cached(case.op) else _fast(case, parts)
    results = results if isinstance(results, tuple) else (results,)
    return dict(zip(case.outputs, results, strict=True))


def _cached(op: str) -> list[str]:
    """The inputs of an op that a sequence's cache keeps: their first axis is S."""
    return [param.name for param in signature.load(op)[0].params if param.axes and param.axes[0] == "S"]


def _is_vector(param: signature.Param) -> bool:
    """Vectors of weights have other axes than rows of tokens (T), of a cache (S), or of any shape."""
    return param.dtype == "f32" and param.axes is not None and param.axes[0] not in ("T", "S", "...")


def alternative(case: Case) -> signature.Signature:
    """The alternative of the Signature that has the arrays of a case."""
    return next(one for one in signature.load(case.op)
                if {param.name for param in one.params if param.axes} == case.inputs.keys())


def _fast(case: Case, parts: int) -> Any:
    attrs, weights, inputs = dict(case.attrs), list[Any](), []
    for param in alternative(case).params:
        if param.axes is None or ("minimum" in case.tensors and param.name in ("scale", "minimum")):
            continue
        array = case.tensors[param.name]
        if param.name in TABLES:
            attrs[param.name] = array
        elif param.name == "q" and "minimum" in case.tensors:  # codes of a matrix, or of one for each expert
            codes = [case.tensors[name] for name in ("q", "scale", "minimum")]
            weights.append(ops.wrap_codes(*codes) if array.ndim == 2 else
                           [ops.wrap_codes(*one) for one in zip(*codes, strict=True)])
        elif param.stack:
            weights.append([ops.wrap(matrix) for matrix in array])
        elif param.dtype == "matrix":
            weights.append(ops.wrap(array))
        elif _is_vector(param):
            weights.append(array)
        else:
            inputs.append(array)
    return ops.get(case.op).bind(tuple(weights), attrs, parts)(*inputs)


def _attend(case: Case, parts: int) -> np.ndarray:
    """Attention over a cache: the earlier rows are stored first, the last T rows belong to the queries."""
    slots = [param for param in signature.load(case.op)[0].params if param.axes]
    arrays = {param.name: case.tensors[param.name] for param in slots if not _is_vector(param)}
    weights = tuple(case.tensors[param.name] for param in slots if _is_vector(param))
    kept = _cached(case.op)
    positions, (a, b) = arrays["positions"], (arrays[name] for name in kept)
    first = a.shape[0] - positions.shape[0]
    if not np.array_equal(positions, np.arange(first, a.shape[0])):
        raise TraceError(f"{case.op} {case.name}: positions: expected the last {positions.shape[0]} of {a.shape[0]}, "
                         "found others")
    heads = case.attrs.get("kv_heads", 1)
    row = CacheRow(heads, (a.shape[1] // heads, b.shape[1] // heads), case.op == "latent_attention")
    sequence = Sequence([row], "f32")
    sequence.reserve(a.shape[0])
    layer = sequence.layers[0]
    layer.append(a[:first], b[:first])
    new = {name: array[first:] if name in kept else array for name, array in arrays.items()}
    return ops.get(case.op).bind(weights, case.attrs, parts)(*new.values(), [(0, positions.shape[0], layer)])
