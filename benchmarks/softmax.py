"""How fast SoftmaxRegression reaches the optimum, beside scikit-learn's LogisticRegression and published recipes.

    python -m benchmarks.softmax DATA FEATURES --rows N --C C     features of N training images, fitted at C
    python -m benchmarks.softmax DATA FEATURES --rows N --recipes the recipes of CLIP and DINOv2 as well

scikit-learn's L-BFGS is given more and more iterations until its objective is within 1e-6 of the optimum, or it takes
longer than --limit; liblinear, one-vs-rest and so another objective, runs at its default tolerance. CLIP's recipe is
the linear probe of its README: L-BFGS, C = 0.316, at most 1000 iterations. DINOv2's is eval/linear.py on
features of unaugmented images and one pooling: SGD with
momentum 0.9, 10 epochs of 1250 batches of 128, a cosine from each of 13 learning rates at once, no weight decay; the
best head is the one with the highest accuracy on the test images, as there. Objectives are computed in float64 from the
definition. All on the same processor; ours is the median of three.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from benchmarks.arguments import add_data_root
from benchmarks.measure import header
from dcgan_eval.features import extract
from dcgan_eval.images import Images, open_images
from dcgan_eval.inputs import open_extractor
from dcgan_eval.linear import SoftmaxRegression
from dcgan_eval.options import FeatureOptions
from dcgan_eval.runtime.run import Run

Array = NDArray[Any]
EQUAL = 1e-6  # relative distance of objectives that count as equal
FIRST = 50  # iterations that L-BFGS is given at first
LEARNING_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
BATCH, STEPS = 128, 12_500


def objective(model: Any, X: Array, y: Array, C: float) -> float:
    """½‖w‖² + C · cross-entropy."""
    F = np.concatenate([block.astype(np.float64) @ model.coef_.T for block in np.array_split(X, 50)]) + model.intercept_
    top = F.max(1)
    losses = np.log(np.exp(F - top[:, None]).sum(1)) + top - F[np.arange(len(y)), y]
    return float((model.coef_.astype(np.float64) ** 2).sum() / 2 + C * losses.sum())


def timed(model: Any, X: Array, y: Array) -> float:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    return time.perf_counter() - start


def beside_scikit_learn(X: Array, y: Array, C: float, limit: float) -> None:
    models = [SoftmaxRegression(C) for _ in range(3)]
    seconds = float(np.median([timed(model, X, y) for model in models]))
    value = objective(models[0], X, y, C)
    gap = float(models[0].gap_[0] / models[0].objective_[0])
    print(f"C={C:g}  SoftmaxRegression {seconds:.2f} s, objective {value:.9g}, certified gap {gap:.1e}", flush=True)
    iterations = FIRST
    while True:
        peer = LogisticRegression(C=C, tol=1e-12, max_iter=iterations)
        taken = timed(peer, X, y)
        apart = objective(peer, X, y, C) / value - 1
        if apart <= EQUAL or taken > limit or peer.n_iter_[0] < iterations:
            break
        iterations *= 2
    print(
        f"         L-BFGS {taken:.1f} s, {peer.n_iter_[0]} iterations, objective {apart:+.1e}: {taken / seconds:.0f} ×"
    )
    one_vs_rest = OneVsRestClassifier(LogisticRegression(C=C, solver="liblinear"))
    taken = timed(one_vs_rest, X, y)
    print(f"         liblinear, one-vs-rest {taken:.1f} s: {taken / seconds:.0f} ×", flush=True)


def recipes(X: Array, y: Array, test: Array, truth: Array) -> None:
    ours, clip = SoftmaxRegression(0.316), LogisticRegression(random_state=0, C=0.316, max_iter=1000)
    for name, model in (("SoftmaxRegression", ours), ("CLIP's recipe", clip)):
        seconds = timed(model, X, y)
        accuracy = 100 * (model.predict(test) == truth).mean()
        print(
            f"C=0.316  {name} {seconds:.1f} s, objective {objective(model, X, y, 0.316):.9g}, {accuracy:.2f} % right",
            flush=True,
        )
    start = time.perf_counter()
    accuracies = 100 * (dinov2(torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(test)) == truth).mean(1)
    print(
        f"DINOv2's recipe {time.perf_counter() - start:.1f} s, {accuracies.max():.2f} % right with the best of "
        f"{len(LEARNING_RATES)} learning rates, {accuracies.min():.2f} with the worst",
        flush=True,
    )


def dinov2(X: torch.Tensor, y: torch.Tensor, test: torch.Tensor) -> Array:
    """Predicted classes of the test images by the head of each learning rate, (rates, n)."""
    generator = torch.Generator().manual_seed(0)
    n_classes, rates = int(y.max()) + 1, torch.tensor(LEARNING_RATES) * BATCH / 256
    W = 0.01 * torch.randn(X.shape[1], len(rates) * n_classes, generator=generator)
    b = torch.zeros(len(rates) * n_classes)
    rate = rates.repeat_interleave(n_classes)
    momentum = [torch.zeros_like(W), torch.zeros_like(b)]
    for step in range(STEPS):
        rows = torch.randint(len(X), (BATCH,), generator=generator)
        x = X[rows]
        p = (x @ W + b).view(BATCH, len(rates), n_classes).softmax(2)
        p[torch.arange(BATCH), :, y[rows]] -= 1
        slope = p.flatten(1) / BATCH
        now = rate * (0.5 * (1 + np.cos(np.pi * step / STEPS)))
        for parameter, moving, gradient in ((W, momentum[0], x.T @ slope), (b, momentum[1], slope.sum(0))):
            moving.mul_(0.9).add_(gradient)
            parameter.sub_(now * moving)
    return np.asarray((test @ W + b).view(len(test), len(rates), n_classes).argmax(2).T.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("features")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--C", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--recipes", action="store_true")
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds after which a peer is given no more iterations"
    )
    parser.add_argument("--cache", type=Path)
    add_data_root(parser)
    arguments = parser.parse_args()
    print(header())
    sets = open_images(arguments.data, root=arguments.data_root)
    made = open_extractor(arguments.features, FeatureOptions(weights=arguments.weights))(sets["train"])
    print(f"{sets['train'].name} ({sets['train'].sha256[:12]}), {made.name}: {made.protocol}")
    order = torch.randperm(sets["train"].n, generator=torch.Generator().manual_seed(0))

    def of(images: Images) -> tuple[Array, Array]:
        assert images.labels is not None
        found = extract(made, images, Run(cache=arguments.cache, progress=True))
        return found.numpy(), images.labels.numpy()

    X, y = of(sets["train"].subset(order[: arguments.rows].sort().values))
    print(f"{X.shape[0]:,} × {X.shape[1]:,}")
    for C in arguments.C:
        beside_scikit_learn(X, y, C, arguments.limit)
    if arguments.recipes:
        recipes(X, y, *of(sets["test"]))


if __name__ == "__main__":
    main()
