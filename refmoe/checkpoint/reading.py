"""Stored bytes into memory or into a digest: parallel reads, no mapping, one copy.

Files are never mapped: a mapped file that shrinks kills the process, a short read is an error message.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.checkpoint.strict_json import open_regular, show
from refmoe.errors import CheckpointError

ALIGNMENT = 64
CHUNK = 16 << 20  # bytes per read: large enough for bandwidth, small enough to share between threads
THREADS = 4
Progress = Callable[[int, int], object]
Task = list[tuple[TensorInfo, int, memoryview]]  # of one file: tensor, offset in the file, where the bytes go


def read(infos: Sequence[TensorInfo], progress: Progress | None = None) -> list[np.ndarray]:
    """The stored bytes of `infos`, in their order: 64-byte aligned 1-D uint8 views of one arena, read in parallel.

    The arena is the only copy; rows stored pair by pair (TensorInfo.pairs) are put in order in it.
    `progress(done_bytes, total_bytes)` is called from the calling thread.
    CheckpointError when a file has shrunk or changed since its header was read, or memory does not suffice.
    """
    if any(info.parts for info in infos):
        return _with_made(infos, progress)
    starts, total = [], 0
    for info in infos:
        starts.append(total)
        total += -(-info.nbytes // ALIGNMENT) * ALIGNMENT
    arena = _arena(total)
    views = [arena[start : start + info.nbytes] for start, info in zip(starts, infos, strict=True)]
    whole = sum(info.nbytes for info in infos)
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        run = map if whole <= CHUNK else pool.map  # starting threads takes longer than reading a little
        for count in run(_fill, _tasks(infos, views)):
            done += count
            if progress:
                progress(done, whole)
    for info, view in zip(infos, views, strict=True):
        if info.pairs:
            view[:] = view.reshape(info.pairs, -1, 2, info.nbytes // info.shape[0]).swapaxes(1, 2).reshape(-1)
    return views


def _with_made(infos: Sequence[TensorInfo], progress: Progress | None) -> list[np.ndarray]:
    """As `read`, where some tensors are made of others."""
    from refmoe.checkpoint.made import join  # here: headers are read without waiting for Numba

    stored = iter(read([part for info in infos for part in info.parts or (info,)], progress))
    return [join(info, [next(stored) for _ in info.parts]) if info.parts else next(stored) for info in infos]


def _arena(total: int) -> np.ndarray:
    try:
        block = np.empty(total + ALIGNMENT, np.uint8)
    except (MemoryError, ValueError):
        raise CheckpointError(f"no memory for {total} bytes of weights") from None
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + total]


def _tasks(infos: Sequence[TensorInfo], views: list[np.ndarray]) -> Iterator[Task]:
    """Pieces of at most CHUNK bytes in file order, gathered into tasks of one file and about CHUNK bytes."""
    task: Task = []
    size = 0
    for info, view in sorted(zip(infos, views, strict=True), key=lambda pair: (str(pair[0].file), pair[0].offset)):
        for low in range(0, info.nbytes, CHUNK):
            piece = view[low : low + CHUNK].data
            if task and (info.file != task[0][0].file or size + len(piece) > CHUNK):
                yield task
                task, size = [], 0
            task.append((info, info.offset + low, piece))
            size += len(piece)
    if task:
        yield task


def _fill(task: Task) -> int:
    info = task[0][0]
    with open_regular(info.file, CheckpointError) as file:
        for _, offset, piece in task:
            file.seek(offset)
            done = 0
            while done < len(piece):
                count = file.readinto(piece[done:])
                if not count:
                    raise CheckpointError(
                        f"{show(info.file)}: shrank while it was read: "
                        f"{offset + len(piece)} bytes wanted, {offset + done} there"
                    )
                done += count
        status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != info.stamp:
        raise CheckpointError(f"{show(info.file)}: changed since its header was read")
    return sum(len(piece) for _, _, piece in task)


Look = Callable[[TensorInfo, memoryview], object]


def sha256_each(infos: Iterable[TensorInfo], progress: Progress | None = None, look: Look | None = None) -> list[str]:
    """The sha256 (hex) of each tensor's stored bytes, in order, by a few threads and without holding a tensor.

    `look` is shown every piece (of whole elements) as well, those of one tensor in order and by one thread.
    """
    infos = list(infos)
    whole = sum(info.nbytes for info in infos)
    done, digests = 0, []
    with ThreadPoolExecutor(THREADS) as pool:
        for info, digest in zip(infos, pool.map(lambda info: _sha256(info, look), infos), strict=True):
            digests.append(digest)
            done += info.nbytes
            if progress:
                progress(done, whole)
    return digests


def _sha256(info: TensorInfo, look: Look | None) -> str:
    digest = hashlib.sha256()
    for part in info.parts or (info,):
        block = memoryview(bytearray(min(part.nbytes, CHUNK // 4)))
        for low in range(0, part.nbytes, CHUNK // 4):
            piece = block[: part.nbytes - low]
            _fill([(part, part.offset + low, piece)])
            digest.update(piece)
            if look:
                look(part, piece)
    return digest.hexdigest()


def same_bytes(info: TensorInfo, array: np.ndarray) -> bool:
    """True when a tensor's stored bytes are those of uint8 `array`; a chunk is held at a time."""
    block = np.empty(min(info.nbytes, CHUNK), np.uint8)
    for low in range(0, info.nbytes, CHUNK):
        piece = block[: info.nbytes - low]
        _fill([(info, info.offset + low, piece.data)])
        if not np.array_equal(piece, array[low : low + CHUNK]):
            return False
    return info.nbytes == array.nbytes
