"""What distances to training images say about copying, each number beside the same number of held-out images.

A distance means nothing alone: real images that were not trained on lie at some distance from the training set, too.
So every test here asks whether samples lie nearer than those do, and states the probability of that by chance.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import fisher_exact, mannwhitneyu, norm
from torch import Tensor

from dcgan_eval.nearest.exact import k_nearest, of_length_1
from dcgan_eval.runtime.ranks import ALONE, Ranks

TAU = 0.1  # of MiFID, as in the competition
CELL = 100  # samples, and held-out images, that a cell holds on average
FEWEST = 20  # of both that a cell must hold to count
ROWS, VALUES = 2**13, 2**24  # of samples that are copied at a time


class Nearest(NamedTuple):
    """distances float64 (n, k), ascending; rows int64 (n, k) in the training set; flipped bool (n, k): whether the
    mirror image of the query is meant."""

    distances: Tensor
    rows: Tensor
    flipped: Tensor


def _shared(queries: Tensor, train: Tensor, k: int, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """`k_nearest` of features that every rank has all of: each searches its share."""
    return k_nearest(queries, ranks.mine(train), k, ranks=ranks)


def nearest(
    queries: Tensor, train: Tensor, k: int = 1, mirrored: Tensor | None = None, *, ranks: Ranks = ALONE
) -> Nearest:
    """The k nearest training features of each query, float32 (n, d). Ranks that have all of both share the search.

    mirrored: features of the queries' mirror images, in whose place each query may be nearer. A training image counts
    once, at the smaller distance.
    """
    distances, rows = _shared(queries, train, k, ranks)
    flipped = torch.zeros_like(rows, dtype=torch.bool)
    if mirrored is None:
        return Nearest(distances, rows, flipped)
    other, others = _shared(mirrored, train, k, ranks)
    both, which = torch.cat([distances, other], 1), torch.cat([rows, others], 1)
    is_flipped = torch.cat([flipped, torch.ones_like(flipped)], 1)
    # of a row that is found both ways the farther one goes to the end
    same = which[:, :, None] == which[:, None]
    before = torch.ones(2 * k, 2 * k, dtype=torch.bool, device=which.device).tril(-1)
    worse = (both[:, :, None] > both[:, None]) | ((both[:, :, None] == both[:, None]) & before)
    both = torch.where((same & worse).any(2), torch.inf, both)
    order = torch.sort(both, dim=1, stable=True).indices[:, :k]
    return Nearest(both.gather(1, order), which.gather(1, order), is_flipped.gather(1, order))


class Share(NamedTuple):
    """value in [0, 1]; held_out: the same of held-out images; p: the probability of such a value, or one that tells
    more of copying, if samples were drawn as those are."""

    value: float
    held_out: float
    p: float


def nearer(fake: Tensor, held_out: Tensor) -> float:
    """The probability of distances (n,) as small as these beside held-out ones (m,), by the Mann-Whitney U test."""
    return float(mannwhitneyu(fake.cpu().numpy(), held_out.cpu().numpy(), alternative="less").pvalue)


def nearer_than_any(fake: Tensor, held_out: Tensor) -> Share:
    """The share of samples nearer to a training image than every held-out image; from distances (n,) and (m,).

    held_out: the share to be expected of images drawn as those are, 1 / (m + 1). p: that of all n + m images the
    nearest `a` are samples, Π (n − i) / (n + m − i) over i < a, where each order is as likely as any other. Where
    held-out images are training images themselves, at distance 0, the shares at distance 0 by Fisher's exact test.
    """
    n, m = len(fake), len(held_out)
    if bool((held_out == 0).any()):
        a, b = (int((distances == 0).sum()) for distances in (fake, held_out))
        return Share(a / n, b / m, float(fisher_exact([[a, n - a], [b, m - b]], alternative="greater").pvalue))
    a = int((fake < held_out.min()).sum())
    orders = np.arange(a)
    return Share(a / n, 1 / (m + 1), float(np.exp(np.sum(np.log((n - orders) / (n + m - orders))))))


def p_values(fake: Tensor, held_out: Tensor) -> Tensor:
    """Of each distance (n,) that an image drawn as the held-out ones, at distances (m,), were no farther: float64 (n,),
    at least 1 / (m + 1)."""
    order = held_out.double().sort().values
    nearer = torch.searchsorted(order, fake.double(), right=True)
    return (1 + nearer).double() / (len(held_out) + 1)


def authenticity(fake: Nearest, held_out: Nearest, train: Tensor, *, ranks: Ranks = ALONE) -> Share:
    """The share of samples farther from their nearest training image than that one is from its own nearest neighbour.

    Alaa et al. 2022 ("How Faithful is your Synthetic Data?"), section 3.3, as in the package dgm-eval (AuthPct / 100).
    p: of a share as small or smaller than the held-out one, for two proportions.
    """
    radii = _shared(train, train, 2, ranks)[0][:, 1]
    a, b = (int((n.distances[:, 0] > radii[n.rows[:, 0]]).sum()) for n in (fake, held_out))
    n, m = len(fake.rows), len(held_out.rows)
    pooled = (a + b) / (n + m)
    error = (pooled * (1 - pooled) * (1 / n + 1 / m)) ** 0.5
    return Share(a / n, b / m, float(norm.cdf((a / n - b / m) / error)) if error else 1.0)


class CopyingTest(NamedTuple):
    """value: C_T, much below 0 where samples are nearer to the training set than held-out images are, above 0 where
    they are farther. p: of a value as small or smaller. cells: those that counted, of how many."""

    value: float
    p: float
    cells: int
    all_cells: int


def copying_test(fake: Tensor, held_out: Tensor, train: Tensor, *, seed: int) -> CopyingTest:
    """The test of Meehan, Chaudhuri and Dasgupta 2020 ("A Non-Parametric Test to Detect Data-Copying"), eq. 4.

    Training features are divided into cells by k-means. In every cell the distances of samples to the nearest training
    feature of the cell are compared with those of held-out features by the Mann-Whitney U statistic, standardised as in
    the authors' code; C_T is the mean over cells, each weighted by its share of held-out features. Cells with fewer
    than FEWEST of either do not count; where none does, as of a collapsed generator, there are half as many larger
    ones. p: of the weighted mean of standard normal variables.
    Raises ValueError for fewer than FEWEST samples or held-out features.
    """
    if min(len(fake), len(held_out)) < FEWEST:
        raise ValueError(f"{len(fake)} samples and {len(held_out)} held-out images; want {FEWEST} of both")
    count = max(1, min(min(len(fake), len(held_out)) // CELL, len(train)))
    while (found := _cells(fake, held_out, train, count, seed)) is None:
        count //= 2
    return found


def _cells(fake: Tensor, held_out: Tensor, train: Tensor, count: int, seed: int) -> CopyingTest | None:
    from sklearn.cluster import KMeans

    cells = KMeans(count, n_init=1, random_state=seed).fit(train.cpu().numpy())
    of_fake, of_held_out = (torch.from_numpy(cells.predict(x.cpu().numpy())) for x in (fake, held_out))
    of_train = torch.from_numpy(cells.labels_)
    scores, weights = [], []
    for cell in range(count):
        a, b, t = fake[of_fake == cell], held_out[of_held_out == cell], train[of_train == cell]
        if min(len(a), len(b)) < FEWEST or len(t) == 0:
            continue
        u = mannwhitneyu(*(k_nearest(x, t, 1)[0][:, 0].cpu().numpy() for x in (a, b)), alternative="less").statistic
        product = len(a) * len(b)
        scores.append((u - product / 2 + 0.5) / (product * (len(a) + len(b) + 1) / 12) ** 0.5)
        weights.append(len(b))
    if not scores:
        return None
    z, w = np.array(scores), np.array(weights) / sum(weights)
    value = float(w @ z)
    return CopyingTest(value, float(norm.cdf(value / np.sqrt(w @ w))), len(scores), count)


def cosine_distances(fake: Tensor, train: Tensor, *, ranks: Ranks = ALONE) -> Tensor:
    """1 − |cos| of every sample's features to those of the nearest training image by it, float64 (n,).

    From samples to training images: the direction of the reference (Bai et al. 2021, "On Training Sample
    Memorization", eq. 2, and the code of Kaggle's competition); torchmetrics takes the other one, in which a generator
    that emits a few training images goes free.
    """
    # features of length 0 have no direction: as far as can be
    some = fake.any(1)
    t = _where(train, train.any(1))
    distances = torch.ones(len(fake), dtype=torch.float64, device=fake.device)
    if len(t):
        both = bool((t < 0).any() or (fake < 0).any())
        t = of_length_1(t)
        for rows in torch.split(torch.nonzero(some)[:, 0], max(1, min(ROWS, VALUES // t.shape[1]))):
            x = of_length_1(fake[rows])
            found = [_shared(q, t, 1, ranks)[0][:, 0] for q in ((x, -x) if both else (x,))]
            distances[rows] = torch.stack(found).amin(0).square() / 2
    return distances


def _where(rows: Tensor, some: Tensor) -> Tensor:
    return rows if bool(some.all()) else rows[some]


def mifid(fid: float, distance: float, tau: float = TAU) -> float:
    """FID times 1 / m where m, the mean of `cosine_distances`, is below tau; eq. 3 and 4 of Bai et al. 2021."""
    return fid / (distance + 1e-14) if distance < tau else fid
