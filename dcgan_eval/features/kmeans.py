"""k-means features of Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning"
(AISTATS 2011): the baseline that the paper's Table 1 calls "1 Layer K-means".

As their kmeans_demo.m: 6x6 patches at stride 1, normalised (variance + 10), ZCA-whitened (+ 0.1), encoded by
max(0, mean distance - distance), summed over quadrants, standardised (variance + 0.01). Two things differ: centroids
start at patches drawn at random instead of at noise, and one that loses its patches stays where it is instead of
becoming zero.
"""

from functools import cache

import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval.features.extract import Extractor, Function, fingerprint
from dcgan_eval.images import Images
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact

PATCH = 6
CONTRAST, WHITENING, SCALE = 10.0, 0.1, 0.01  # added to the variances of a patch (0..255), of patches, of features
STANDARDISED_ON = 10_000  # images: their mean and deviation are within 1 % of a deviation of those of any number
ROWS = 512  # distances to all centroids of so many patches at a time stay in a core's cache


@exact()
def kmeans_features(
    images: Images,
    units: int = 1600,
    *,
    patches: int = 200_000,
    iterations: int = 50,
    seed: int = 0,
    progress: bool = False,
) -> Extractor:
    """Fits whitening, `units` centroids and the scale of the 4 * units features to training images.

    Fitting runs on the CPU in float32 (covariance and moments in float64), on `patches` patches drawn from `seed`,
    until no patch changes its centroid or `iterations` are over: 1600 units take about a minute on two cores.
    progress: a bar on standard error.
    Raises InputError for images smaller than 7x7, or fewer patches than units.
    """
    _, height, width = images.shape
    available = images.n * (height - PATCH + 1) * (width - PATCH + 1)
    if min(height, width) <= PATCH:
        raise InputError(f"kmeans:{units} needs images of {PATCH + 1}x{PATCH + 1} or more, not {height}x{width}")
    if not 2 <= units <= min(patches, available):
        raise InputError(f"kmeans:{units} needs at least as many patches; {images.name} has {available}")
    generator = torch.Generator().manual_seed(seed)
    x = normalise(_draw(images, min(patches, available), generator))
    mean, whiten = zca(x)
    x = (x - mean) @ whiten
    start = x[torch.randperm(len(x), generator=generator)[:units]]
    centroids = lloyd(x, start, iterations, progress)
    chosen = torch.randperm(images.n, generator=generator)[:STANDARDISED_ON].sort().values
    encode = _encoder(mean, whiten, centroids)
    sums = torch.cat([encode(images.read(chosen[i : i + 256])) for i in range(0, len(chosen), 256)])
    variance, center = torch.var_mean(sums.double(), dim=0, correction=0)
    deviation, center = (variance + SCALE).sqrt().float(), center.float()
    arrays = {"mean": mean, "whiten": whiten, "centroids": centroids, "center": center, "deviation": deviation}
    settings = {
        "extractor": "kmeans",
        "images": images.fingerprint,
        "patches": patches,
        "iterations": iterations,
        "seed": seed,
        "constants": [PATCH, CONTRAST, WHITENING, SCALE, STANDARDISED_ON],
    }
    identity = fingerprint(settings, arrays)

    @cache
    def on(device: torch.device) -> Function:
        encode = _encoder(mean.to(device), whiten.to(device), centroids.to(device))
        shift, scale = center.to(device), deviation.to(device)
        return lambda batch: encode(batch).sub_(shift).div_(scale)

    return Extractor(
        name=f"kmeans:{units}",
        protocol=f"{units} centroids of {len(x)} whitened {PATCH}x{PATCH} patches, triangle encoding summed over "
        f"quadrants, standardised; fitted to {images.n} of {images.name}, seed {seed}; float32; fit {identity[:8]}",
        fingerprint=identity,
        input_shape=images.shape,
        slices={"all": slice(0, 4 * units)},
        on=on,
        trained_on=f"{images.name}, without labels",
    )


def _windows(images: Tensor) -> Tensor:
    """(n, C, H, W) → a view (n, H - 5, W - 5, C, 6, 6): every patch."""
    return images.unfold(2, PATCH, 1).unfold(3, PATCH, 1).permute(0, 2, 3, 1, 4, 5)


def _draw(images: Images, count: int, generator: torch.Generator) -> Tensor:
    """Patches at random places of random images, uint8 (count, C * 36); only images that are drawn are read."""
    which = torch.randint(images.n, (count,), generator=generator).sort().values
    y = torch.randint(images.shape[1] - PATCH + 1, (count,), generator=generator)
    x = torch.randint(images.shape[2] - PATCH + 1, (count,), generator=generator)
    rows, where = torch.unique_consecutive(which, return_inverse=True)
    drawn = []
    for i in range(0, len(rows), 1024):
        here = (where >= i) & (where < i + 1024)
        windows = _windows(images.read(rows[i : i + 1024]))
        drawn.append(windows[where[here] - i, y[here], x[here]].flatten(1))
    return torch.cat(drawn)


def normalise(patches: Tensor) -> Tensor:
    """Brightness and contrast: (p - mean) / sqrt(variance + 10), along the last axis; float32."""
    patches = patches.float()
    patches = patches - patches.mean(-1, keepdim=True)
    variance = patches.square().sum(-1, keepdim=True) / (patches.shape[-1] - 1)
    return patches.div_((variance + CONTRAST).sqrt())


def zca(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and symmetric P (d, d) with which (x - mean) P has nearly the identity as its covariance."""
    values, vectors = torch.linalg.eigh(torch.cov(x.T.double()))
    whiten = (vectors / (values + WHITENING).sqrt()) @ vectors.T
    return x.double().mean(0).float(), whiten.float()


def lloyd(x: Tensor, centroids: Tensor, iterations: int, progress: bool = False) -> Tensor:
    """k-means on x (n, d) from the given centroids (k, d), until nothing changes; empty clusters stay."""
    labels = torch.full((len(x),), -1)
    for _ in tqdm(range(iterations), desc="k-means", leave=False, disable=not progress):
        found = _assign(x, centroids)
        if torch.equal(found, labels):
            break
        labels = found
        counts = torch.bincount(labels, minlength=len(centroids))[:, None]
        sums = torch.zeros_like(centroids).index_add_(0, labels, x)
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids


def _assign(x: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each row, int64 (n,)."""
    half, rows = centroids.square().sum(1) / 2, ROWS * torch.get_num_threads()
    # |x - c|^2 / 2 less |x|^2 / 2; min finds indices many times faster than argmin does
    return torch.cat([torch.addmm(half, b, centroids.T, alpha=-1).min(1).indices for b in torch.split(x, rows)])


def _encoder(mean: Tensor, whiten: Tensor, centroids: Tensor) -> Function:
    """uint8 (n, C, H, W) → sums of max(0, mean distance - distance) over quadrants, float32 (n, 4 * units)."""
    units = len(centroids)
    # [x, |x|^2, 1] times this is |x - c|^2: one product, no pass for the norms
    table = torch.cat([-2 * centroids.T, centroids.new_ones(1, units), centroids.square().sum(1)[None]])
    on_cpu = centroids.device.type == "cpu"

    def encode(images: Tensor) -> Tensor:
        out = torch.empty(len(images), 4, units, device=images.device)
        n, height, width = len(images), images.shape[2] - PATCH + 1, images.shape[3] - PATCH + 1
        rows, columns = [(height + 1) // 2, height // 2], [(width + 1) // 2, width // 2]
        # images whose quadrants are handled at once
        step = max(1, ROWS * torch.get_num_threads() // (rows[0] * columns[0])) if on_cpu else 64
        buffer = torch.empty(step * rows[0] * columns[0], units, device=images.device)
        for i in range(0, n, step):
            x = (normalise(_windows(images[i : i + step]).flatten(3)) - mean) @ whiten
            x = torch.cat([x, x.square().sum(-1, keepdim=True), torch.ones_like(x[..., :1])], dim=-1)
            quadrants = [q for half in torch.split(x, rows, dim=1) for q in torch.split(half, columns, dim=2)]
            for j, quadrant in enumerate(quadrants):
                points = quadrant.reshape(-1, quadrant.shape[-1])
                z = torch.mm(points, table, out=buffer[: len(points)]).clamp_(min=0).sqrt_()
                average = z.mean(1, keepdim=True)
                # the sum of max(0, average - z) is that of average - min(average, z): one pass less over z
                nearer = torch.minimum(z, average, out=z).view(len(quadrant), -1, units).sum(1)
                out[i : i + step, j] = average.view(len(quadrant), -1).sum(1, keepdim=True) - nearer
        return out.flatten(1).clamp_(min=0)  # the difference rounds

    return encode
