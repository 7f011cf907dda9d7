"""Built tokenizers, kept in the user's cache: building one from 163,584 ranks takes a second or more.

A file is named by the sha256 of everything it is made from: the published files, the sources of this folder, and the
version of the `tokenizers` library. Its first line is the sha256 of the rest, so a damaged file is noticed and built
again. It is written beside its place and moved there, so nobody reads half of it. Where nothing can be written, nothing
is kept.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from refmoe import places
from refmoe.vocab.files import MAX_FILE, Source

WORTH = 1 << 20  # bytes; smaller tokenizers are built faster than they are looked up


def kept(source: Source, build: Callable[[], bytes]) -> bytes:
    """What `build` gives for a source, from the cache where it is there."""
    folder = places.cache_folder("tokenizers") if len(source.content) + len(source.other) > WORTH else None
    if folder is None:
        return build()
    path = folder / f"{_name(source)}.json"
    with suppress(OSError):
        if path.stat().st_size <= 4 * MAX_FILE:
            digest, _, text = path.read_bytes().partition(b"\n")
            if digest.decode("ascii", "replace") == hashlib.sha256(text).hexdigest():
                return text
    text = build()
    with suppress(OSError):
        _write(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    return text


def _name(source: Source) -> str:
    digest = hashlib.sha256(f"tokenizers {version('tokenizers')}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for part in (source.content, source.other, json.dumps(source.settings, sort_keys=True).encode()):
        digest.update(hashlib.sha256(part).digest())
    digest.update(f"{source.path.name} {source.vocab_size}".encode())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
