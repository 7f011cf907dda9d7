"""vectors - choose golden vectors, and write them out for people who have no refmoe.

`select` finds vectors by op, format, catalogue id or name; `export` copies them with a manifest, the schemas, the bug
catalogue, and for each case the op in binary64, its sums of |a||b| and the bounds of two profiles (bounds/). These are
computed when they are exported, from the inputs and by the independent evaluation of verifier.bounds.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from refmoe import NUMERICS_VERSION, __version__, checkpoint, formats, golden, ops
from refmoe.errors import TraceError, UsageError
from refmoe.verifier.arithmetic import Arithmetic
from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import get as bounds_of
from refmoe.verifier.catalogue import get as bug_of
from refmoe.verifier.profiles import load

STORED = {np.dtype(dtype): name for name, dtype in golden.DTYPES.items()} | {np.dtype(np.float64): "F64"}
SUMS = ("linear", "linear_bias", "logits", "expert_linear", "combine", "add")  # ops that are sums of products
README = """\
# Vectors of refmoe {version}, numerics {numerics}

{count} cases: inputs of one operation or weight format{results}. Your program reads a case, computes, and writes its
results to a file of the same name in another folder; then `refmoe check THIS_FOLDER YOUR_FOLDER` says what is right,
what is wrong, and which known bug it looks like.

- `ops/<op>/<case>.safetensors`, `formats/<format>/<case>.safetensors`: arrays by the names of the clause
  (`refmoe spec <op>`); scalars are in the metadata `attrs`, their binary32 bits in `attrs_bits`
- `MANIFEST.json`: for each case its arrays, scalars, sha256, what it hunts; schema in `schemas/`
- `catalogue.json`: the bugs that cases hunt{bounds}

Your results: `ops/<op>/<case>.safetensors` or `.npz` with the arrays that the manifest lists as outputs; or one file
for each, `ops/<op>/<case>.<output>.npy`, or `.bin` with raw little-endian numbers in row-major order. F32, F64, F16,
BF16 and integers of any width are taken. A port that does not compute in binary32 says so in `profile.toml` beside its
results, for example `based_on = "bf16"`; see `refmoe check --help`.

A .safetensors file is: 8 bytes, the length N of the header (little-endian); N bytes of JSON; the data. The header maps
a name to {{"dtype", "shape", "data_offsets"}}, offsets count from the end of the header.
"""
BOUNDS = """
- `bounds/<op>/<case>.safetensors`: `<output>.value` F64, the operation in binary64; `<output>.sum` F64, the sums of
  |a||b|; `<output>.within.f32-any-order` and `<output>.within.bf16` F64, how far a result may lie from the value"""


def select(
    names: Iterable[str] = (), op: str | None = None, format: str | None = None, bug: str | None = None
) -> list[golden.Case]:
    """Vectors of the package. `names` are ops, formats, or <op>/<case>. UsageError for what does not exist."""
    if bug is not None:
        bug = bug_of(bug).id
    found = []
    for name in names or [""]:
        family, _, case = name.rpartition("/") if "/" in name else (name, "", "")
        family = family.removeprefix("ops/").removeprefix("formats/")
        if name and family not in (*ops.names(), *formats.names()):
            known = ", ".join((*ops.names(), *formats.names()))
            raise UsageError(f"vectors: expected an op or a format, found {name[:80]!r}; there are {known}")
        kind = {"op": op, "format": format}
        if name:
            kind = {"op": family} if family in ops.names() else {"format": family}
        chosen = [golden.load(path) for path in golden.cases(**kind)]
        if case and case not in {one.name for one in chosen}:
            raise UsageError(f"vectors: expected a case of {family}, found {case[:80]!r}; "
                             f"there are {', '.join(one.name for one in chosen)}")  # fmt: skip
        found += [one for one in chosen if not case or one.name == case]
    unique = {(case.op, case.format, case.name): case for case in found if bug is None or bug in case.bugs}
    return list(unique.values())


def path_of(case: golden.Case) -> str:
    """Where a case lies below a folder of vectors."""
    return f"{'ops' if case.op else 'formats'}/{case.op or case.format}/{case.name}.safetensors"


def name_of(case: golden.Case) -> str:
    """linear/one_row, formats/bf16/all_codes."""
    return path_of(case).removeprefix("ops/").removesuffix(".safetensors")


def facts(case: golden.Case) -> dict[str, Any]:
    """One entry of the list and of the manifest."""
    def shapes(arrays):
        return {name: {"dtype": STORED[array.dtype], "shape": list(array.shape)} for name, array in arrays.items()}

    return {"path": path_of(case), "op": case.op or None, "format": case.format or None, "case": case.name,
            "hunts": case.hunts, "bugs": list(case.bugs), "attrs": case.attrs, "inputs": shapes(case.inputs),
            "outputs": shapes(case.expected)}  # fmt: skip


def export(chosen: list[golden.Case], folder: str | Path, blind: bool = False) -> dict[str, Any]:
    """Write the cases to a folder; returns the manifest. A blind export has no results and no bounds."""
    target = Path(folder)
    if not chosen:
        raise UsageError("vectors: expected at least one case, found none")
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not (target / "MANIFEST.json").is_file():
        raise UsageError(f"{target}: expected an empty or new folder, or an earlier export, found something else")
    try:
        entries = [_one(case, target, blind) for case in chosen]
        manifest = {"kind": "vectors", "numerics": NUMERICS_VERSION, "refmoe": __version__, "blind": blind,
                    "cases": entries}  # fmt: skip
        (target / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        shutil.copy(golden.root() / "catalogue.json", target / "catalogue.json")
        shutil.copytree(golden.root() / "schemas", target / "schemas", dirs_exist_ok=True)
        text = README.format(version=__version__, numerics=NUMERICS_VERSION, count=len(chosen),
                             results=", without the results" if blind else " and its results",
                             bounds="" if blind else BOUNDS)  # fmt: skip
        (target / "README.md").write_text(text, "utf-8")
    except OSError as problem:
        raise TraceError(f"{problem.filename or target}: cannot be written: {problem.strerror}") from None
    return manifest


def _one(case: golden.Case, target: Path, blind: bool) -> dict[str, Any]:
    source, path = golden.root() / path_of(case), target / path_of(case)
    path.parent.mkdir(parents=True, exist_ok=True)
    if blind:
        shapes = json.dumps({name: array.shape for name, array in case.expected.items()})
        metadata = checkpoint.read_header(source).metadata | {"blind": "true", "shapes": shapes}
        write(path, case.inputs, metadata)
    else:
        shutil.copy(source, path)
        _bounds(case, target / "bounds" / path_of(case))
    content = path.read_bytes()
    bits = json.loads(checkpoint.read_header(source).metadata.get("attrs_bits", "{}"))
    return facts(case) | {"attrs_bits": bits, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _bounds(case: golden.Case, path: Path) -> None:
    function = bounds_of(case.op)
    if function is None:
        return
    arrays: dict[str, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for name in ("f32-any-order", "bf16"):
            real = function(Arithmetic(load(name).where(case.op)), **case.inputs, **case.attrs)
            if not isinstance(real, dict):
                real = {"weights": real.weigh(case.expected["ids"])}
            for output, value in real.items():
                if isinstance(value, Ball):
                    arrays.setdefault(f"{output}.value", np.array(value.v))
                    arrays[f"{output}.within.{name}"] = abs(value.v - arrays[f"{output}.value"]) + value.e
        if case.op in SUMS:
            sizes = {n: abs(x) if x.dtype == np.float32 else x for n, x in case.inputs.items()}
            y = function(Arithmetic(load("f32-any-order")), **sizes, **case.attrs)["y"]
            arrays["y.sum"] = np.array(y.v)
    if arrays:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, arrays, {"op": case.op, "case": case.name, "numerics": str(NUMERICS_VERSION)})


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """A safetensors file."""
    tensors = {name: (STORED[a.dtype], a.shape, np.ascontiguousarray(a)) for name, a in arrays.items()}
    checkpoint.write(path, tensors, metadata)
