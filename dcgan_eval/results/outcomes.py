"""Which test image each fit classified correctly: what comparing two models on the same images needs.

A bit per test image and draw of the labels, in a file beside the results, named by its content.
"""

import hashlib
import io
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole


@dataclass(frozen=True)
class Outcomes:
    """sha256: of the content, by which two are equal. content: a .npy file of uint8 (draws, bytes), eight images a
    byte, the first in the highest bit; b'' where it is still in its file. folder: that holds the file; None where there
    is none."""

    sha256: str
    content: bytes = field(default=b"", compare=False, repr=False)
    folder: Path | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.sha256

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> "Outcomes":
        """right: (draws, n)."""
        file = io.BytesIO()
        np.save(file, np.packbits(right, axis=1), allow_pickle=False)
        return cls(hashlib.sha256(file.getvalue()).hexdigest(), file.getvalue())

    def right(self, n: int) -> NDArray[np.bool_] | None:
        """(draws, n): which of n test images each draw classified correctly; None where the file is not there.

        Raises InputError where it is damaged, or cannot be read.
        """
        content = self._read()
        if not content:
            return None
        packed = np.load(io.BytesIO(content), allow_pickle=False)
        return np.unpackbits(packed, axis=1, count=n).astype(bool)

    def write(self, folder: Path) -> None:
        """Put the content, if it is known, into its file there, unless it is. Raises OSError, and as `right`."""
        path = folder / f"{self.sha256}.npy"
        if not path.exists() and (content := self._read()):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)

    def _read(self) -> bytes:
        """The content, b'' where there is none."""
        if self.content or self.folder is None:
            return self.content
        return _content(self.folder / f"{self.sha256}.npy", self.sha256)


@lru_cache(256)
def _content(path: Path, sha256: str) -> bytes:
    """Of a file, which holds what it held before; b'' where there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; remove it, or measure again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path}: damaged: its content is not what its name says; remove it, or measure again")
    return content


def beside(results: Path) -> Path:
    """The folder of the outcomes of a file of results."""
    return results.with_suffix(".outcomes")
