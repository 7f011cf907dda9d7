"""The only importer of Numba's decorators: flags, compile cache, JIT on or off.

Flags: no fastmath anywhere (it would fuse and reorder), error_model="numpy" (division by zero gives inf or nan as
IEEE 754 says, and costs no branch), nogil, disk cache.

Cache: Numba notices an edit in a function's own file only; an edited helper in another file keeps returning the
old machine code. The cache directory is therefore named by the sha256 of all sources that hold kernels or what kernels
use, of the versions of numpy, numba and llvmlite, and of the environment switches that change code but not Numba's key.
It lives where refmoe.places says; when no folder is writable, kernels are compiled in memory, and so they are when a
cached file is damaged or the disk is full. Numba's own settings of the process are left as they were.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("NUMBA_DISABLE_INTEL_SVML", "1")

import numba  # after the switch above
from numba.core import sigutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic, overload

from refmoe import places

ENABLED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
SOURCES = ("jit.py", "numerics", "kernels", "formats", "ops", "weight.py", "kvcache.py", "engine.py", "decode.py",
           "sampler.py", "bench.py")  # a test checks that no kernel uses a name from elsewhere
_SWITCHES = ("NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE", "NUMBA_ENABLE_AVX")


def source_digest() -> str:
    """sha256 over the sources of kernels, tool versions and switches: the name of the compile cache."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    places = [root / name for name in SOURCES]
    for path in sorted(file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for package in ("numpy", "numba", "llvmlite"):
        digest.update(f"{package}={version(package)};".encode())
    for switch in _SWITCHES:
        digest.update(f"{switch}={os.environ.get(switch, '')};".encode())
    digest.update(sys.version.encode())
    return digest.hexdigest()


CACHE_DIRECTORY = places.cache_folder(source_digest()[:24]) if ENABLED else None


_listeners: list[Callable[[], object]] = []


def when_compiling(listener: Callable[[], object]) -> None:
    """Call `listener` once, when a kernel is first found not to be in the cache and must be compiled."""
    _listeners.append(listener)


class _Cache:
    """Numba's disk cache of one function. A damaged file is forgotten and a full disk ignored: then we compile."""

    def __init__(self, numbas):
        self._numbas = numbas

    def __getattr__(self, name):
        return getattr(self._numbas, name)

    def load_overload(self, sig, target_context):
        """The compiled function, or None."""
        found = None
        try:
            found = self._numbas.load_overload(sig, target_context)
        except Exception:  # whatever unpickling a damaged file may raise
            with suppress(OSError):
                self._numbas.flush()
        while found is None and _listeners:
            _listeners.pop()()
        return found

    def save_overload(self, sig, data):
        """Keep the compiled function if the disk lets us."""
        with suppress(OSError):
            self._numbas.save_overload(sig, data)


def _enable_cache(compiled) -> None:
    """Give a dispatcher or C function our cache; the process-wide cache directory is set only meanwhile."""
    saved = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = str(CACHE_DIRECTORY or "")  # type: ignore[attr-defined]
    try:
        if CACHE_DIRECTORY is not None:
            compiled.enable_caching()
        compiled._cache = _Cache(compiled._cache)
    finally:
        numba.config.CACHE_DIR = saved  # type: ignore[attr-defined]


def kernel(function):
    """Compile a serial kernel. With the JIT off the function itself runs, with the same bits."""
    if not ENABLED:
        return function
    compiled = numba.njit(function, nogil=True, error_model="numpy")
    _enable_cache(compiled)
    return compiled


def inlined(function):
    """A kernel that takes other kernels as arguments: compiled into its callers, so that no address of a function is
    left in the machine code, which could not be cached then. It has no cache of its own: the index would name kernels
    of an earlier process, which Numba only refers to weakly."""
    return numba.njit(function, nogil=True, error_model="numpy", forceinline=True) if ENABLED else function


def item_kernel(function):
    """A work item function(block i64, item i64, slot i64) for kernels.team: a call that compiles it when first asked
    and returns its address as a C function."""
    @cache
    def compiled():
        signature = sigutils.normalize_signature("void(int64, int64, int64)")
        made = CFunc(function, signature, locals={}, options={"error_model": "numpy"})
        _enable_cache(made)
        made.compile()
        return made

    return lambda: compiled().address


def max_threads() -> int:
    """The number of threads that NUMBA_NUM_THREADS, or else the machine, offers."""
    return numba.config.NUMBA_NUM_THREADS if ENABLED else 1  # type: ignore[attr-defined]


__all__ = ["CACHE_DIRECTORY", "ENABLED", "inlined", "intrinsic", "item_kernel", "kernel", "max_threads", "overload",
           "source_digest", "when_compiling"]
