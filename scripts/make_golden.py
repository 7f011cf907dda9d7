"""Write the golden vectors of ops and formats, and the manifest of everything under golden/.

    make_golden.py ops        golden/ops from scripts/golden_cases.py; results by the plain kernels
    make_golden.py formats    golden/formats from scripts/golden_formats.py
    make_golden.py manifest   golden/MANIFEST.json: sha256 and size of every file but itself and README.md
    make_golden.py check      everything again in memory; exit 1 and one line per file that differs

A file whose bits or words would change is refused, unless --new-version is given and refmoe.NUMERICS_VERSION differs
from the version in the file. A new case is written as it is. The same inputs give the same bytes on every machine.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import golden_cases  # noqa: E402
import golden_formats  # noqa: E402

from refmoe import NUMERICS_VERSION, ops, signature  # noqa: E402
from refmoe.checkpoint import read, read_header, write  # noqa: E402
from refmoe.golden import DTYPES, FORMAT_RESULT  # noqa: E402

GOLDEN = ROOT / "golden"
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
UNLISTED = ("MANIFEST.json", "README.md")
QUIET_NAN = np.uint32(0x7FC00000)


def canonical(array):
    """The array with every nan replaced by the positive quiet nan without payload."""
    if array.dtype != np.float32:
        return array
    bits = array.view(np.uint32).copy()
    bits[np.isnan(array)] = QUIET_NAN
    return bits.view(np.float32)


def dump(value):
    """Compact JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(", ", ": "))


def build_ops():
    """{path: (tensors, metadata)} of all op cases."""
    built = {}
    for draft in golden_cases.drafts():
        # floats become the binary32 value they stand for
        attrs = {k: float(np.float32(v)) if isinstance(v, float) else v for k, v in draft.attrs.items()}
        with np.errstate(all="ignore"):  # nan and inf are results
            results = ops.get(draft.op).plain(**draft.tensors, **attrs)
        results = results if isinstance(results, tuple) else (results,)
        outputs = [param.name for param in signature.load(draft.op)[0].results]
        tensors = draft.tensors | {n: canonical(r) for n, r in zip(outputs, results, strict=True)}
        metadata = {
            "op": draft.op,
            "case": draft.name,
            "numerics": str(NUMERICS_VERSION),
            "attrs": dump(attrs),
            "attrs_bits": dump({k: f"{np.float32(v).view(np.uint32):08x}" for k, v in attrs.items()
                                if isinstance(v, float)}),
            "outputs": dump(outputs),
            "hunts": draft.hunts,
            "bugs": dump(sorted(draft.bugs)),
            "generator": dump(draft.sources),
        }
        built[f"ops/{draft.op}/{draft.name}.safetensors"] = (tensors, metadata)
    return built


def build_formats():
    """{path: (tensors, metadata)} of all format cases."""
    built = {}
    for draft in golden_formats.drafts():
        metadata = {
            "format": draft.format,
            "case": draft.name,
            "numerics": str(NUMERICS_VERSION),
            "attrs": dump(draft.params),
            "outputs": dump([FORMAT_RESULT]),
            "hunts": draft.hunts,
            "bugs": dump(sorted(draft.bugs)),
            "generator": dump(draft.sources),
        }
        tensors = draft.tensors | {FORMAT_RESULT: canonical(draft.tensors[FORMAT_RESULT])} \
            if draft.format not in golden_formats.CODES \
            else draft.tensors
        built[f"formats/{draft.format}/{draft.name}.safetensors"] = (tensors, metadata)
    return built


def stored(path):
    """(tensors, metadata) of a file that exists."""
    header = read_header(path)
    infos = list(header.tensors.values())
    arrays = {i.name: raw.view(DTYPES[i.dtype]).reshape(i.shape) for i, raw in zip(infos, read(infos), strict=True)}
    return arrays, header.metadata


def differences(new, old):
    """Names of the tensors and metadata keys in which two vectors differ."""
    names = [name for name in sorted(new[0].keys() | old[0].keys())
             if name not in new[0] or name not in old[0] or new[0][name].dtype != old[0][name].dtype
             or new[0][name].shape != old[0][name].shape or new[0][name].tobytes() != old[0][name].tobytes()]
    return names + [key for key in sorted(new[1].keys() | old[1].keys()) if new[1].get(key) != old[1].get(key)]


def save(built, new_version):
    """Write new files; refuse changed ones. Returns the number of problems."""
    refused = 0
    for name, case in built.items():
        path = GOLDEN / name
        if path.exists():
            old = stored(path)
            changed = differences(case, old)
            if not changed:
                continue
            if not (new_version and old[1].get("numerics") != str(NUMERICS_VERSION)):
                print(f"{name}: refused: {', '.join(changed)} would change under numerics {old[1].get('numerics')}")
                refused += 1
                continue
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors, metadata = case
        write(path, {n: (NAMES[a.dtype], a.shape, np.ascontiguousarray(a)) for n, a in tensors.items()}, metadata)
        print(f"{name}: written")
    return refused


def manifest():
    """The text of MANIFEST.json."""
    paths = sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file())
    files = {}
    for name in paths:
        if name not in UNLISTED:
            content = (GOLDEN / name).read_bytes()
            files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return json.dumps({"numerics": NUMERICS_VERSION, "files": files}, indent=1) + "\n"


def check():
    """Everything again, compared with the files. Returns the number of problems."""
    built = build_ops() | build_formats()
    problems = [f"{name}: missing" for name in built if not (GOLDEN / name).exists()]
    for name, case in built.items():
        if (GOLDEN / name).exists() and (changed := differences(case, stored(GOLDEN / name))):
            problems.append(f"{name}: {', '.join(changed)} differ")
    for folder in ("ops", "formats"):
        for path in sorted((GOLDEN / folder).rglob("*")):
            name = path.relative_to(GOLDEN).as_posix()
            if path.is_file() and name not in built:
                problems.append(f"{name}: no case makes this file")
    listed = GOLDEN / "MANIFEST.json"
    if not listed.exists() or listed.read_bytes() != manifest().encode():
        problems.append("MANIFEST.json: does not list the files as they are; run the manifest command")
    print("\n".join(problems) if problems else f"{len(built)} vectors and the manifest are as made")
    return len(problems)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("ops", "formats", "manifest", "check"))
    parser.add_argument("--new-version", action="store_true", help="overwrite files of another NUMERICS_VERSION")
    args = parser.parse_args()
    if args.command == "manifest":
        (GOLDEN / "MANIFEST.json").write_bytes(manifest().encode())
        return 0
    if args.command == "check":
        return int(check() > 0)
    built = build_ops() if args.command == "ops" else build_formats()
    return int(save(built, args.new_version) > 0)


if __name__ == "__main__":
    sys.exit(main())
