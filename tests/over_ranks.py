"""What the tests of ranks run in one process and under torchrun: the same work, which must end alike.

torchrun --nproc-per-node N -m tests.over_ranks FOLDER
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dcgan_eval.evaluations.classify import classify
from dcgan_eval.evaluations.fid import fid
from dcgan_eval.evaluations.neighbors import neighbors
from dcgan_eval.features import extract, module_features, pixel_features, share
from dcgan_eval.images import Images, from_tensor, open_split
from dcgan_eval.linear import L2SVC, Softmax, SquaredHinge, one_vs_rest, solve_path
from dcgan_eval.metrics.manifold import manifold
from dcgan_eval.nearest.exact import inside_balls, k_nearest
from dcgan_eval.options import ClassifyOptions, FidOptions, ProbeName
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import Ranks, joined
from dcgan_eval.runtime.run import Run

CLASSES = ("a", "b", "c")
PROBES: tuple[ProbeName, ...] = ("svm", "logistic", "knn", "weighted-knn")


def blobs(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    """float32 (n, d) and labels of three overlapping classes."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=generator)
    centres = torch.randn(3, d, generator=torch.Generator().manual_seed(0))
    return 0.3 * centres[y] + torch.randn(n, d, generator=generator), y


def pictures(n: int, seed: int, name: str) -> Images:
    x, y = blobs(n, 64, seed)
    images = (x * 40 + 128).clamp(0, 255).to(torch.uint8).view(n, 1, 8, 8)
    return from_tensor(images, y, name=name, split=name.partition(":")[2], classes=CLASSES)


def in_files(folder: Path) -> Images:
    """Two of three shapes among 90 files, and one that is broken: written once, by whoever comes first."""
    made = folder / "files"
    if not made.exists():
        made.mkdir()
        for i, image in enumerate(pictures(90, 7, "files").tensor()):
            side = 8 if i % 5 else 10
            Image.fromarray(image[0].numpy()).resize((side, side)).save(made / f"{i:03d}.png")
        (made / "050.png").write_bytes(b"not an image")
    return open_split(str(made))


class Logits(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().flatten(1)[:, :5] / 40


NAMED = ("features", "labels", "condition", "classifier", "metric", "role", "method", "remark")  # of a row


def work(ranks: Ranks, folder: Path) -> dict[str, list[float]]:
    """Every number by name. Files of this run go to the folder, which ranks share."""
    found: dict[str, list[float]] = {}

    def keep(name: str, *values: Tensor | np.ndarray | float) -> None:
        found[name] = np.concatenate([np.atleast_1d(np.asarray(v, np.float64)).ravel() for v in values]).tolist()

    def rows(name: str, measured: list[dict[str, object]]) -> None:
        for row in measured:
            words = " ".join(str(row[field]) for field in NAMED if row[field])
            found[f"{name}: {words} C={row['C']}"] = [
                *(float(str(row[field] or 0)) for field in ("value", "low", "high", "spread", "n", "n_reference")),
                # as hashes are told from '-'
                *(float(int(one[:12], 16)) for one in f"{row['pixels_sha256']} {row['outcomes']}".split()),
            ]

    # the SVM: more rows than features, by conjugate gradients and directly; fewer; no rows on some rank
    for name, n, d, C in (("tall", 900, 120, 0.1), ("direct", 300, 20, 1.0), ("wide", 90, 400, 0.01), ("few", 3, 5, 1)):
        X, y = blobs(n, d, 1)
        if name == "few":
            y = torch.arange(3)
        here = slice(ranks.share(n).start, ranks.share(n).stop)
        for tol in (1e-6, 1e-13):
            weight = torch.ones(n, 3, dtype=torch.float64)
            weight[::7, 1] = 0
            Y = one_vs_rest(y, 3)
            path = [C, 10 * C] if tol == 1e-6 or name == "tall" else [C]
            solutions = list(solve_path(X[here], SquaredHinge(Y[here], weight[here]), path, tol=tol, ranks=ranks))
            for solution in solutions:
                decision = ranks.gathered(solution.decision)
                what = f"svm {name} C={solution.C:g} tol={tol:g}"
                keep(f"{what} objective", solution.objective)
                if tol < 1e-6:
                    keep(f"{what} model", solution.coef, solution.intercept)
                    keep(f"{what} decision", decision)
                assert solution.converged
    # softmax regression, by the same forms, two classes and no rows on some rank among them
    for name, n, d, C in (("tall", 900, 120, 0.1), ("small", 300, 20, 1.0), ("wide", 90, 400, 0.01), ("few", 3, 5, 1)):
        X, y = blobs(n, d, 1)
        y = torch.arange(3) if name == "few" else y % 2 if name == "small" else y
        here = slice(ranks.share(n).start, ranks.share(n).stop)
        weight = torch.ones(n, 2, dtype=torch.float64)
        weight[::7, 1] = 0.5
        loss = Softmax(y[here], weight[here], int(y.max()) + 1)
        for solution in solve_path(X[here], loss, [C, 10 * C], tol=1e-13, ranks=ranks):
            what = f"svm softmax {name} C={solution.C:g}"
            keep(f"{what} objective", solution.objective)
            keep(f"{what} model", solution.coef, solution.intercept)
            keep(f"{what} decision", ranks.gathered(solution.decision))
            assert solution.converged
    X, y = blobs(400, 70, 2)
    here = slice(ranks.share(400).start, ranks.share(400).stop)
    weights = torch.rand(400, generator=torch.Generator().manual_seed(0)).numpy()
    model = L2SVC(0.1, tol=1e-13, class_weight="balanced", ranks=ranks)
    model.fit(X[here].double(), 10 * y[here].numpy(), sample_weight=weights[here])
    keep("L2SVC", model.coef_, model.intercept_, model.classes_)

    # neighbours, with copies, some of them on other ranks
    queries, database = blobs(50, 12, 3)[0], blobs(333, 12, 4)[0]
    database = torch.cat([database, database[:100], queries[:7]])
    some = ranks.share(len(database))
    for metric in ("euclidean", "cosine"):
        distances, which = k_nearest(queries, database[some.start : some.stop], 6, metric=metric, ranks=ranks)
        keep(f"neighbours {metric}", which)
        keep(f"distances {metric}", distances)
    few = ranks.share(3)
    keep("neighbours of fewer rows than ranks", k_nearest(queries, database[few.start : few.stop], 3, ranks=ranks)[1])
    radii = torch.linspace(0, 5, len(database), dtype=torch.float64)
    inside = inside_balls(queries, database[some.start : some.stop], radii[some.start : some.stop], ranks=ranks)
    keep("balls", inside.counts, inside.occupied.double())
    of_blocks = torch.arange(150).split(15)
    shares = manifold(blobs(200, 12, 5)[0], blobs(150, 12, 6)[0], k=3, ranks=ranks, blocks=of_blocks)
    keep("manifold", *shares[:5], shares.balls, *shares.without)

    # images: features, probes, distances between sets, copying
    train, test = pictures(330, 10, "p:train"), pictures(200, 11, "p:test")
    fake = pictures(700, 12, "fake")  # a tenth, the least that FID∞ fits, is more than features: nothing is singular
    extractor = pixel_features(train.shape)
    features = extract(extractor, train, run=Run(batch_size=10, cache=folder / "cache", ranks=ranks))
    assert len(features) == len(share(extractor, train, ranks))
    keep("features", ranks.gathered(features))
    again = extract(extractor, train, run=Run(batch_size=50, cache=folder / "cache", ranks=ranks))
    keep("features again", ranks.gathered(again))
    for protocol, Cs in (("all", None), ("per-class:30", (1e-3, 1e-2))):
        measured = classify(
            train,
            test,
            extractor,
            options=ClassifyOptions(protocol=protocol, C=Cs, draws=2, folds=3, probe=PROBES, k=(3,)),
            run=Run(ranks=ranks),
        )
        rows(f"classify {protocol}", [row.record() for row in measured])
    order = torch.randperm(train.n, generator=torch.Generator().manual_seed(1)) // 4  # groups on several ranks
    in_groups = replace(train, metadata={"of four": lambda: order})
    for protocol, draws in (("all", 1), ("per-class:30", 2)):
        options = ClassifyOptions(protocol=protocol, C=(1e-3, 1e-2), draws=draws, folds=3, group_by="of four")
        measured = classify(in_groups, test, extractor, options=options, run=Run(ranks=ranks))
        rows(f"classify {protocol} in groups", [row.record() for row in measured])
    for scaling in ("standardised", "unit-norm"):
        options = ClassifyOptions(C=(1e-2, 1e-1), folds=3, probe=PROBES, k=(3,), scaling=scaling)
        measured = classify(train, test, extractor, options=options, run=Run(ranks=ranks))
        rows(f"classify {scaling}", [row.record() for row in measured])
    valid = pictures(100, 13, "p:valid")
    rows(
        "validation",
        [
            row.record()
            for row in classify(
                train, test, extractor, options=ClassifyOptions(C=(1e-3, 1e-2)), run=Run(ranks=ranks), valid=valid
            )
        ],
    )
    settings = FidOptions(
        ("fid", "is", "kid", "prdc", "fid-infinity"), kid_subsets=3, kid_subset_size=50, is_splits=2, prdc_k=3
    )
    program = folder / "logits.pt"
    if ranks.first and not program.exists():
        torch.jit.trace(Logits(), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).save(str(program))
    ranks.sum(torch.zeros(1))  # the file is there from here on
    classifier = module_features(program, train.shape)
    measured = fid(train, [fake], extractor, settings, run=Run(ranks=ranks), classifier=classifier)
    rows("compare", [row.record() for row in measured])
    if ranks.first:
        in_files(folder)
    ranks.sum(torch.zeros(1))
    measured = fid(
        in_files(folder),
        [fake],
        extractor,
        FidOptions(("fid",)),
        run=Run(cache=folder / "cache", ranks=ranks),
        skip_corrupt=True,
    )
    rows("files", [row.record() for row in measured])
    for copied in neighbors(fake, train, test, [extractor], run=Run(ranks=ranks)):
        rows(f"copying {copied.flips}", [row.record() for row in copied.rows])
        keep(f"copying {copied.flips} rows", copied.fake.rows)

    try:
        ranks.check_same("data", f"of rank {ranks.rank // 2}")
        keep("the same", 1.0)
    except InputError:
        keep("the same", 0.0 if ranks.world > 2 else -1.0)
    # ranks themselves; the first may have no rows, and bytes and booleans travel, too
    mine = torch.arange(10)[ranks.share(10).start : ranks.share(10).stop]
    last = torch.arange(10 if ranks.rank == ranks.world - 1 else 0)
    keep("ranks", ranks.sum(mine.sum()), ranks.largest(mine.max()), ranks.gathered(mine), ranks.gathered(last))
    keep("bytes", ranks.gathered((mine % 2 == 0)[:, None]).double(), ranks.gathered(mine.to(torch.uint8)))
    keep("agreed", ranks.agreed(torch.full((3, 2), float(ranks.rank)).T))
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    with joined("cpu") as (ranks, _):
        found = work(ranks, folder)
        (folder / f"rank{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
