"""Folders of the user that the package may write to: compiled kernels, built tokenizers, the history of the chat."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_roots() -> Iterator[Path]:
    """Where caches may live, best first: REFMOE_CACHE_DIR, the user's cache folder, the temporary folder. An empty
    variable counts as unset."""
    given, cache_home = os.environ.get("REFMOE_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    if given:
        yield Path(given)
    if cache_home:
        yield Path(cache_home) / "refmoe"
    elif sys.platform == "darwin":
        yield Path(os.path.expanduser("~/Library/Caches/refmoe"))
    elif sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        yield Path(os.environ["LOCALAPPDATA"]) / "refmoe"
    else:
        yield Path(os.path.expanduser("~/.cache/refmoe"))
    yield Path(tempfile.gettempdir()) / f"refmoe-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def cache_folder(name: str) -> Path | None:
    """The first folder `name` below a cache root that exists or can be made, is ours and can be written; or None."""
    for root in cache_roots():
        path = root / name
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                continue  # someone else's folder in a shared temporary directory: what lies there is not ours to use
            with tempfile.NamedTemporaryFile(dir=path):
                return path
        except OSError:
            continue
    return None


def state_file(name: str) -> Path | None:
    """A file that is kept between runs, in XDG_STATE_HOME or ~/.local/state; None when its folder cannot be made."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    folder = Path(home) / "refmoe"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder / name
