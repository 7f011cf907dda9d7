"""verify - does this installation, on this machine, give the bits of the specification?

`install()` runs every golden vector of every op (plain kernel and fast schedule) and format, and the traces of the tiny
models, after checking the processor's arithmetic and the sha256 of every golden file. The digest of the report is the
sha256 over all results as computed here (name, NUL, bytes; every nan counted as 7fc00000): once for each tensor, and
again for each further path that gave other bits. So equal digests mean equal bits, whatever the number of threads.
"""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import refmoe
from refmoe import formats, golden, jit, ops, trace
from refmoe.engine import check_arithmetic
from refmoe.errors import RefmoeError, TraceError
from refmoe.model import load
from refmoe.numerics.fma import fma

Progress = Callable[[str], object]
Arrays = Mapping[str, np.ndarray]
NOTABLE = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vnni", "neon", "sve")


@dataclass
class Family:
    """One line of the table: cases run, cases with all bits right, and what is wrong with the others."""

    name: str
    cases: int = 0
    exact: int = 0
    failures: list[str] = field(default_factory=list)

    def count(self, problems: list[str]) -> None:
        """Add one case."""
        self.cases += 1
        self.exact += not problems
        self.failures += problems


@dataclass
class Report:
    """What was run where, family by family."""

    environment: dict[str, Any]
    families: list[Family]
    digest: str
    seconds: float

    @property
    def exact(self) -> bool:
        """True if every case of every family is."""
        return all(family.cases == family.exact for family in self.families)

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "exact": self.exact,
            "digest": self.digest,
            "environment": self.environment,
            "families": [
                {"name": f.name, "cases": f.cases, "exact": f.exact, "failed": f.cases - f.exact} for f in self.families
            ],
            "failures": [line for family in self.families for line in family.failures],
            "seconds": round(self.seconds, 2),
        }


def install(progress: Progress | None = None) -> Report:
    """Run everything; `progress` gets the name of each family before it runs. TraceError if there is no golden data."""
    begin = time.perf_counter()
    say = progress or (lambda name: None)
    digest = hashlib.sha256()
    runs: list[tuple[str, Callable[[Family, Any], None]]] = [("arithmetic", _arithmetic), ("files", _files)]
    runs += [(f"ops/{name}", _vectors) for name in ops.names()]
    runs += [(f"formats/{name}", _vectors) for name in formats.names()]
    runs += [(f"tiny/{path.name}", _tiny) for path in _models()]
    families = []
    for name, run in runs:
        say(name)
        family = Family(name)
        run(family, digest)
        if not family.cases:
            family.count([f"golden/{name}: expected at least one case, found none"])
        families.append(family)
    return Report(environment(), families, digest.hexdigest(), time.perf_counter() - begin)


def environment() -> dict[str, Any]:
    """What the machine code of this process depends on."""
    name, features = "Python only (JIT off)", ""
    if jit.ENABLED:
        codegen = jit.numba.core.registry.cpu_target.target_context.codegen()
        name, features = codegen._get_host_cpu_name(), codegen._tm_features
    return {
        "refmoe": refmoe.__version__,
        "numerics": refmoe.NUMERICS_VERSION,
        "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "numba", "llvmlite")},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": name,
        "features": sorted(word[1:] for word in features.split(",") if word.startswith("+")),
        "jit": jit.ENABLED,
        "threads": jit.max_threads(),
    }


def _models() -> list[Path]:
    return sorted(path for path in (golden.root() / "tiny").glob("*") if (path / "config.json").is_file())


def _arithmetic(family: Family, digest) -> None:
    """Subnormals kept, ties to even, one rounding in fma, correctly rounded square root: through compiled kernels."""
    try:
        check_arithmetic()
        family.count([])
    except RefmoeError as problem:
        family.count([str(problem)])
    one, ulp, half = np.float32(1.0), np.float32(2.0**-23), np.float32(2.0**-24)
    sums = ops.get("add").plain(np.array([[one, one + ulp]]), np.array([[half, half]]))
    fused = np.array([fma(one + ulp, one - ulp, -one), fma(half, half, one)], np.float32)
    three = np.array([[3.0, 3.0, 3.0]], np.float32)
    roots = ops.get("rms_norm").plain(three, np.ones(3, np.float32), np.float32(0.0))
    for name, found, expected in (
        ("ties to even", sums[0], [1.0, 1.0 + 2.0**-22]),
        ("fma", fused, [-(2.0**-46), 1.0]),
        ("square root and division", roots[0], [1.0, 1.0, 1.0]),
    ):
        family.count(_compare("arithmetic", {name: np.array(expected, np.float32)}, {name: found}, digest))


def _files(family: Family, digest) -> None:
    """Every file of the manifest has its sha256, and no other file is there."""
    root = golden.root()
    listed = golden.manifest()
    for name in sorted(listed):
        try:
            golden.check_file(root / name)
            family.count([])
        except TraceError as problem:
            family.count([str(problem)])
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    for name in sorted(found - listed.keys() - {"MANIFEST.json", "README.md"}):
        family.count([f"{root / name}: expected an entry in MANIFEST.json, found none"])


def _vectors(family: Family, digest) -> None:
    """All vectors of one op or format; of an op both paths, the fast one for one and for all threads."""
    kind, _, name = family.name.partition("/")
    shares = sorted({1, jit.max_threads()})
    paths = [("plain", 1), *(("fast", n) for n in shares)] if kind == "ops" and jit.ENABLED else [("plain", 1)]
    for file in golden.cases(op=name) if kind == "ops" else golden.cases(format=name):
        problems = []
        try:
            case = golden.load(file)
            for path, parts in paths:
                found = golden.run(case, path, parts)
                where = f"{family.name}/{file.name} ({path})"
                problems += _compare(where, case.expected, found, digest, first=path == "plain")
        except RefmoeError as problem:
            problems.append(str(problem))
        family.count(problems)


def _tiny(family: Family, digest) -> None:
    """Every tensor of one model's traces is a case."""
    for path in sorted((golden.root() / family.name).glob("trace*.safetensors")):
        where = f"{family.name}/{path.name}"
        try:
            stored = trace.read(path)
            model = load(path.parent, activations=stored.metadata["activations"])
            found = trace.record(model, stored.ids, steps=len(stored.step_ids))
        except RefmoeError as problem:
            family.count([str(problem)])
            continue
        expected = trace.metadata(model, found)
        for key in ("numerics_version", "program_digest", "checkpoint_digest", "step_ids"):
            if stored.metadata[key] != expected[key]:
                family.count([f"{where}: {key}: expected {stored.metadata[key]}, found {expected[key]}"])
        for name in {**stored, **found}:
            left, right = ({name: side[name]} if name in side else {} for side in (stored, found))
            family.count(_compare(where, left, right, digest))


def _compare(where: str, expected: Arrays, found: Arrays, digest, first: bool = True) -> list[str]:
    """One line for each tensor that is not as expected. What was found goes to the digest if `first`, or if wrong."""
    problems = []
    for name in {**expected, **found}:
        if name not in expected or name not in found:
            problems.append(f"{where}: {name}: expected {name in expected}, found {name in found}")
            continue
        wrong = list(_first_difference(f"{where}: {name}", expected[name], found[name]))
        if first or wrong:
            digest.update(f"{where}/{name}".encode() + b"\0" + _canonical(found[name]).tobytes())
        problems += wrong
    return problems


def _canonical(array: np.ndarray) -> np.ndarray:
    """The array with every nan replaced by the one of the digest."""
    if array.dtype != np.float32:
        return array
    return np.where(np.isnan(array), np.uint32(0x7FC00000), np.ascontiguousarray(array).view(np.uint32))


def _first_difference(where: str, expected: np.ndarray, found: np.ndarray) -> Iterator[str]:
    """Nothing if all bits agree, else one line: the first coordinate, both values and their bits, how many differ."""
    if (expected.dtype, expected.shape) != (found.dtype, found.shape):
        yield f"{where}: expected {expected.dtype}{list(expected.shape)}, found {found.dtype}{list(found.shape)}"
        return
    left, right = _canonical(expected), _canonical(found)
    places = np.argwhere(left != right)
    if len(places):
        at = tuple(places[0].tolist())
        bits = f" (bits {left[at]:08x}, {right[at]:08x})" if expected.dtype == np.float32 else ""
        yield (f"{where}{list(at)}: expected {expected[at]!s}, found {found[at]!s}{bits}; "
               f"{len(places)} of {expected.size} values differ")  # fmt: skip
