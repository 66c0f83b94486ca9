"""Files of features: KEY.npy whole, KEY.partial the same file while rows are still being appended to it."""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from numpy.lib import format as npy
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

LOCKS = fcntl is not None  # whether files can be shared safely


def complete(path: Path, shape: tuple[int, int], group: int, blocks: Callable[[int], Iterator[Tensor]]) -> None:
    """Make the file hold float32 `shape` whole: what is missing comes from blocks(row), rows from that one on.

    An interrupted file goes on where it stopped, at a whole group of rows; of several processes that want the same one
    computes and the others wait. Raises OSError.
    """
    if is_whole(path, shape):
        return
    if path.exists():
        _log.warning("%s: damaged; its features are computed again", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _partial(path) as file:
        if is_whole(path, shape):  # another process has finished it while this one waited
            os.unlink(file.name)
        else:
            _append_missing(file, shape, group, blocks)
            os.replace(file.name, path)


def _header(shape: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether the file holds what it should, to its last byte."""
    header = _header(shape)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return file.read(len(header)) == header and size == len(header) + shape[0] * shape[1] * 4
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[IO[bytes]]:
    """The file that becomes `path`, for this process alone until the block ends; whoever else has it is waited for."""
    partial = path.with_suffix(".partial")
    while True:
        with open(partial, "a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.warning("%s: another process is computing these features; waiting for it", partial)
                fcntl.flock(file, fcntl.LOCK_EX)
            # whoever had the lock may since have renamed the file that was opened here
            if _is_at(file, partial):
                yield file
                return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _append_missing(
    file: IO[bytes], shape: tuple[int, int], group: int, blocks: Callable[[int], Iterator[Tensor]]
) -> None:
    header, row = _header(shape), shape[1] * 4
    file.seek(0)
    done = 0
    if file.read(len(header)) == header:
        # the file's length is the only counter: a row that an interruption cut short is written again
        done = min((file.seek(0, os.SEEK_END) - len(header)) // row, shape[0])
        done -= done % group if done < shape[0] else 0
        file.truncate(len(header) + done * row)
    else:
        file.truncate(0)
        file.write(header)
    file.seek(0, os.SEEK_END)
    for block in blocks(done):
        data = block.contiguous().numpy().data.cast("B")
        while len(data):  # unbuffered: a write may be short
            data = data[file.write(data) :]
    os.fsync(file.fileno())
