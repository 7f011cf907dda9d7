"""The only importer of Numba's decorators: flags, compile cache, JIT on or off.

Flags: no fastmath anywhere (it would fuse and reorder), error_model="numpy" (division by zero gives inf or nan as
IEEE 754 says, and costs no branch), nogil, disk cache.

Cache: Numba notices an edit in a function's own file only; an edited helper in another file keeps returning the
old machine code. The cache directory is therefore named by the sha256 of every source file of the package, of the
versions of numpy, numba and llvmlite, and of the environment switches that change code but not Numba's key. It lives
under REFMOE_CACHE_DIR, else the user's cache folder, else the temporary folder; when none is writable, kernels are
compiled in memory. Numba's own settings of the process are left as they were.
"""

import hashlib
import os
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("NUMBA_DISABLE_INTEL_SVML", "1")

import numba  # after the switch above
from numba.extending import intrinsic, overload

ENABLED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
_SWITCHES = ("NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE", "NUMBA_ENABLE_AVX")


def source_digest() -> str:
    """sha256 over all package sources, tool versions and switches: the name of the compile cache."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for package in ("numpy", "numba", "llvmlite"):
        digest.update(f"{package}={version(package)};".encode())
    for switch in _SWITCHES:
        digest.update(f"{switch}={os.environ.get(switch, '')};".encode())
    digest.update(sys.version.encode())
    return digest.hexdigest()


def _roots():
    if "REFMOE_CACHE_DIR" in os.environ:
        yield Path(os.environ["REFMOE_CACHE_DIR"])
    if "XDG_CACHE_HOME" in os.environ:
        yield Path(os.environ["XDG_CACHE_HOME"]) / "refmoe"
    elif sys.platform == "darwin":
        yield Path(os.path.expanduser("~/Library/Caches/refmoe"))
    elif sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        yield Path(os.environ["LOCALAPPDATA"]) / "refmoe"
    else:
        yield Path(os.path.expanduser("~/.cache/refmoe"))
    yield Path(tempfile.gettempdir()) / f"refmoe-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def _cache_directory() -> Path | None:
    name = source_digest()[:24]
    for root in _roots():
        path = root / name
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                continue  # someone else's folder in a shared temporary directory: its code is not ours to run
            with tempfile.NamedTemporaryFile(dir=path):
                return path
        except OSError:
            continue
    return None


CACHE_DIRECTORY = _cache_directory() if ENABLED else None


def cache_is_cold() -> bool:
    """True when nothing was compiled into the cache yet: the first run will take some seconds longer."""
    return ENABLED and (CACHE_DIRECTORY is None or not any(CACHE_DIRECTORY.glob("*/*.nbi")))


def _in_our_cache(compile_now):
    """Run a decoration with the process-wide cache directory set to ours."""
    saved = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(CACHE_DIRECTORY or "")
    try:
        return compile_now()
    finally:
        numba.config.CACHE_DIR = saved


def kernel(function):
    """Compile a serial kernel. With the JIT off the function itself runs, with the same bits."""
    if not ENABLED:
        return function
    options = {"cache": CACHE_DIRECTORY is not None, "nogil": True, "error_model": "numpy"}
    return _in_our_cache(lambda: numba.njit(function, **options))


def item_kernel(function):
    """A work item function(block i64, item i64, slot i64) for kernels.team: a call that compiles it when first asked
    and returns its address as a C function."""
    @cache
    def compiled():
        options = {"cache": CACHE_DIRECTORY is not None, "error_model": "numpy"}
        return _in_our_cache(lambda: numba.cfunc("void(int64, int64, int64)", **options)(function))

    return lambda: compiled().address


def max_threads() -> int:
    """The number of threads that NUMBA_NUM_THREADS, or else the machine, offers."""
    return numba.config.NUMBA_NUM_THREADS if ENABLED else 1  # type: ignore[attr-defined]


__all__ = ["CACHE_DIRECTORY", "ENABLED", "cache_is_cold", "intrinsic", "item_kernel", "kernel", "max_threads",
           "overload", "source_digest"]
