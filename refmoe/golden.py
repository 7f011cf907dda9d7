"""Golden vectors: find them, read them strictly, run one through an op or a format.

`golden/ops/<op>/<case>.safetensors` holds the inputs, weights and results of one op as stored bits, named as in the op's
Signature. Metadata (strings): op, case, numerics, attrs (JSON; a float is the shortest decimal of its binary32 value),
attrs_bits (JSON; the binary32 pattern of each float in hexadecimal), outputs, hunts, bugs (ids of the bug catalogue),
generator (JSON; how each input is rebuilt). `golden/formats/<format>/<case>.safetensors` holds the stored tensors of a
matrix, named as their suffix without its dot, and `decoded` f32[rows, cols]. `golden/MANIFEST.json` lists every file.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import NUMERICS_VERSION, formats, ops, signature
from refmoe.checkpoint import read, read_header, read_json
from refmoe.errors import RefmoeError, TraceError, UsageError
from refmoe.kvcache import Sequence
from refmoe.weight import Weight

DTYPES: dict[str, Any] = {"F32": np.float32, "I64": np.int64, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32}
SPEC_DTYPES = {"f32": "float32", "i64": "int64", "matrix": "float32"}
TABLES = ("inv_freq",)  # one-axis parameters that travel with the attributes, not with the weights
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
    metadata: dict[str, str] = field(default_factory=dict)

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
    """Read one vector. TraceError for other bytes than the manifest's, a foreign version, wrong names or dtypes."""
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
        return _case(path, header.metadata, arrays)
    except TraceError:
        raise
    except RefmoeError as problem:
        raise TraceError(str(problem)) from None


def _case(path: Path, metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> Case:
    if metadata.get("numerics") != str(NUMERICS_VERSION):
        raise TraceError(f"{path}: numerics: expected {NUMERICS_VERSION}, found {metadata.get('numerics')}")
    texts = {key: _text(path, metadata, key) for key in ("case", "hunts")}
    attrs, bugs, outputs = (_parsed(path, metadata, key, kind)
                            for key, kind in (("attrs", dict), ("bugs", list), ("outputs", list)))
    if ("op" in metadata) == ("format" in metadata):
        raise TraceError(f"{path}: metadata: expected one of op and format, found both or none")
    case = Case(metadata.get("op", ""), texts["case"], arrays, attrs, tuple(outputs), texts["hunts"], tuple(bugs),
                metadata.get("format", ""), metadata)
    if case.op:
        _check_op(path, case)
    else:
        _check_format(path, case)
    return case


def _text(path: Path, metadata: dict[str, str], key: str) -> str:
    if not metadata.get(key):
        raise TraceError(f"{path}: metadata key {key}: expected a text, found none")
    return metadata[key]


def _parsed(path: Path, metadata: dict[str, str], key: str, kind: type) -> Any:
    try:
        value = json.loads(_text(path, metadata, key))
    except ValueError:
        raise TraceError(f"{path}: metadata key {key}: expected JSON, found {metadata[key][:40]!r}") from None
    if not isinstance(value, kind):
        raise TraceError(f"{path}: metadata key {key}: expected a JSON {kind.__name__}, found {metadata[key][:40]!r}")
    return value


def _check_op(path: Path, case: Case) -> None:
    """Names, types and shapes as the op's Signature says; scalars exact."""
    bits = _parsed(path, case.metadata, "attrs_bits", dict)
    for name, value in case.attrs.items():
        if isinstance(value, float) and f"{np.float32(value).view(np.uint32):08x}" != bits.get(name):
            raise TraceError(f"{path}: attrs: {name}: expected the binary32 {bits.get(name)}, found {value!r}")
    found = {name: (str(array.dtype), array.shape) for name, array in case.tensors.items()}
    letters = {"N": "heads", "G": "kv_heads"}
    scalars = case.attrs | {axis: case.attrs[key] for axis, key in letters.items() if key in case.attrs}
    problems = []
    for one in signature.load(case.op):
        names = {param.name for param in (*one.params, *one.results) if param.axes is not None}
        if names != set(found) or tuple(param.name for param in one.results) != case.outputs:
            problems.append(f"expected tensors {', '.join(sorted(names))}, found {', '.join(sorted(found))}")
            continue
        arrays = {param.name: (param.dtype, found[param.name][1]) for param in one.params if param.axes is not None}
        results = signature.match(one, arrays, scalars)
        if isinstance(results, str):
            problems.append(results)
            continue
        wanted = {param.name: (SPEC_DTYPES[param.dtype], found[param.name][1]) for param in one.params
                  if param.axes is not None}
        wanted |= {param.name: (SPEC_DTYPES[kind], shape)
                   for param, (kind, shape) in zip(one.results, results, strict=True)}
        wrong = [name for name in sorted(wanted) if wanted[name] != found[name]]
        if not wrong:
            return
        problems.append(f"{wrong[0]}: expected {wanted[wrong[0]]}, found {found[wrong[0]]}")
    raise TraceError(f"{path}: {case.op}: {' | '.join(problems)}")


def _check_format(path: Path, case: Case) -> None:
    suffixes = formats.get(case.format).suffixes
    names = {suffix.removeprefix(".") for suffix in suffixes}
    if set(case.inputs) != names or case.outputs != (FORMAT_RESULT,):
        raise TraceError(f"{path}: {case.format}: expected tensors {', '.join(sorted(names))} and {FORMAT_RESULT}, "
                         f"found {', '.join(sorted(case.tensors))}")
    result = case.tensors[FORMAT_RESULT]
    if result.dtype != np.float32 or result.ndim != 2:
        raise TraceError(f"{path}: {FORMAT_RESULT}: expected f32[rows, cols], found {result.dtype}{list(result.shape)}")
    for suffix, shape in formats.get(case.format).stored_shapes(*result.shape).items():
        if case.tensors[suffix.removeprefix(".")].shape != tuple(shape):
            raise TraceError(f"{path}: {suffix}: expected shape {list(shape)}, "
                             f"found {list(case.tensors[suffix.removeprefix('.')].shape)}")


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
        rows, cols = case.tensors[FORMAT_RESULT].shape
        parts_ = {f".{name}": np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                  for name, array in case.inputs.items()}
        return {FORMAT_RESULT: formats.decode(Weight(case.format, rows, cols, parts_))}
    if path == "plain":
        results = ops.get(case.op).plain(**case.inputs, **case.attrs)
    else:
        results = _attend(case, parts) if case.op == "attention" else _fast(case, parts)
    results = results if isinstance(results, tuple) else (results,)
    return dict(zip(case.outputs, results, strict=True))


def _fast(case: Case, parts: int) -> Any:
    attrs, weights, inputs = dict(case.attrs), [], []
    for param in signature.load(case.op)[0].params:
        if param.axes is None:
            continue
        array = case.tensors[param.name]
        if param.name in TABLES:
            attrs[param.name] = array
        elif param.stack:
            weights.append([ops.wrap(matrix) for matrix in array])
        elif param.dtype == "matrix":
            weights.append(ops.wrap(array))
        elif len(param.axes) == 1 and param.dtype == "f32" and param.axes != ("...",):
            weights.append(array)
        else:
            inputs.append(array)
    return ops.get(case.op).bind(tuple(weights), attrs, parts)(*inputs)


def _attend(case: Case, parts: int) -> np.ndarray:
    """Attention over a cache: the earlier rows of k and v are stored first, the last T rows belong to the queries."""
    q, k, v, positions = (case.tensors[name] for name in ("q", "k", "v", "positions"))
    new, kv_heads = q.shape[0], case.attrs["kv_heads"]
    first = k.shape[0] - new
    if not np.array_equal(positions, np.arange(first, first + new)):
        raise TraceError(f"attention {case.name}: positions: expected the last {new} of {k.shape[0]} rows, found others")
    sequence = Sequence(1, kv_heads, k.shape[1] // kv_heads, "f32")
    sequence.reserve(k.shape[0])
    layer = sequence.layers[0]
    layer.append(k[:first], v[:first])
    call = ops.get("attention").bind((), case.attrs, parts)
    return call(q, k[first:], v[first:], positions, [(0, new, layer)])
