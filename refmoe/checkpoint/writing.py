"""Writing files piece by piece: complete under their name, or not there at all."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.checkpoint.strict_json import show
from refmoe.errors import CheckpointError


def write_pieces(path: Path, buffers: Iterable[Any]) -> None:
    """Write buffers one after the other; each is asked for when its turn comes.

    The file appears under its name complete or not at all; a device or pipe is written to, never replaced.
    CheckpointError when writing fails.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    temporary = target.parent / f".{target.name}.{os.getpid()}.tmp"
    stream = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    try:
        with open(path if stream else temporary, "wb", buffering=0) as file:
            for one in buffers:
                _put(file, one)
        if not stream:
            os.replace(temporary, target)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(problem, OSError):
            raise CheckpointError(f"{show(path)}: cannot be written: {problem.strerror}") from None
        raise


def pieces(path: Path, name: str, size: int, data: Any) -> Iterator[memoryview]:
    """The bytes of a tensor: data is a buffer, an array, or a function that returns one or an iterator over several.
    CheckpointError unless there are `size` of them."""
    data, done = data() if callable(data) else data, 0
    for one in data if isinstance(data, Iterator) else (data,):
        one = np.ascontiguousarray(one).reshape(-1).view(np.uint8).data if isinstance(one, np.ndarray) else one
        buffer = memoryview(one).cast("B")
        done += len(buffer)
        if done > size:
            break
        yield buffer
    if done != size:
        raise CheckpointError(f"{show(path)}: tensor {show(name)} needs {size} bytes, data has {done}")


def _put(file: FileIO, data: Any) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
