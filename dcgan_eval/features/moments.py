"""Mean and covariance of the features of a set of images in a file, so that real images are seen once.

The layout is that of pytorch-fid and TTUR, an .npz with mu and sigma. What else a number needs to be trusted is kept
beside them: how many images, which, and the extractor. Files of others lack it.
"""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dcgan_eval.images.source import file_digest, reading
from dcgan_eval.metrics.frechet import Gaussian
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole

FIELDS = {"n", "name", "sha256", "extractor", "protocol"}  # beside mu and sigma, in files of our own


class Statistics(NamedTuple):
    """gaussian: float64 on the CPU; its n is 0 where the file does not say. name, sha256: of the images, or, where the
    file does not say, of the file. extractor: fingerprint, '' where the file does not say; protocol: what made it."""

    gaussian: Gaussian
    name: str
    sha256: str
    extractor: str
    protocol: str


def save_statistics(path: Path, statistics: Statistics) -> None:
    """Raises InputError where it cannot be written."""
    g = statistics.gaussian
    file = io.BytesIO()
    arrays = {"mu": g.mean.cpu().numpy(), "sigma": g.covariance.cpu().numpy(), "n": np.array(g.n)}
    words = {name: np.array(getattr(statistics, name)) for name in ("name", "sha256", "extractor", "protocol")}
    np.savez(file, **arrays, **words)  # type: ignore[arg-type]
    try:
        write_whole(path, file.getvalue())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}; choose another file") from error


def is_statistics(path: Path) -> bool:
    """Whether a file is an .npz with mu and sigma."""
    try:
        with zipfile.ZipFile(path) as archive:
            return path.suffix == ".npz" and {"mu.npy", "sigma.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_statistics(path: Path) -> Statistics:
    """Raises InputError for arrays that are no mean and covariance."""
    try:
        with reading(str(path)), np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in {"mu", "sigma", *FIELDS & set(file.files)}}
    except MemoryError as error:  # what a header claims
        raise InputError(f"{path}: {error}; save the statistics anew") from error
    mean, covariance = found["mu"], found["sigma"]
    d = mean.shape[0] if mean.ndim == 1 else 0
    if d == 0 or covariance.shape != (d, d) or {mean.dtype.kind, covariance.dtype.kind} != {"f"}:
        got = f"mu {mean.dtype} {mean.shape} and sigma {covariance.dtype} {covariance.shape}"
        raise InputError(f"{path}: {got} are no mean (d,) and covariance (d, d); save the statistics anew")
    finite = np.isfinite(mean).all() and np.isfinite(covariance).all()
    if not (finite and np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8)):
        raise InputError(f"{path}: sigma is not symmetric, or values are not finite; save the statistics anew")
    text = {name: str(found[name]) for name in ("name", "sha256", "extractor", "protocol") if name in found}
    gaussian = Gaussian(
        int(found["n"]) if "n" in found and found["n"].shape == () and found["n"].dtype.kind in "iu" else 0,
        torch.from_numpy(mean.astype(np.float64)),
        torch.from_numpy(covariance.astype(np.float64)),
    )
    return Statistics(
        gaussian,
        name=text.get("name", path.stem),
        sha256=text.get("sha256", "") or file_digest(path)(),
        extractor=text.get("extractor", ""),
        protocol=text.get("protocol", f"statistics of {path.name}, extractor not stated"),
    )
