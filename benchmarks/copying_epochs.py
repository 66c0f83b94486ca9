"""Does a generator copy more the longer it trains? Checkpoints of one run, each beside held-out images.

The paper argues that after one epoch, in which every image is seen once, a network cannot have memorised them, and that
samples after many look no different in that (Radford et al. 2015, section 3.1.1, figures 2 and 3). This measures it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.arguments import add_data_root
from dcgan_eval import figures, report, results
from dcgan_eval.evaluations.neighbors import neighbors
from dcgan_eval.images import Images, open_split
from dcgan_eval.inputs import open_extractor, open_side
from dcgan_eval.options import FeatureOptions
from dcgan_eval.runtime.run import Run

SHOWN = {
    "nearest distance": "mean distance to training images",
    "suspected copies": "suspected copies",
    "AuthPct": "AuthPct, %",
    "C_T": "C_T (0: as held-out images)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("held_out")
    parser.add_argument("checkpoints", nargs="+", metavar="EPOCHS=CHECKPOINT")
    add_data_root(parser)
    parser.add_argument("--features", default="pixels")
    parser.add_argument("--num", type=int, default=10_000, help="samples of every checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, help="keeps the features of real images from one checkpoint to the next")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    train, held_out = (open_split(spec, root=arguments.data_root) for spec in (arguments.train, arguments.held_out))
    epochs_of = [word.partition("=")[0] for word in arguments.checkpoints]
    if not all(epochs.isdigit() and int(epochs) > 0 for epochs in epochs_of):
        parser.error("checkpoints are written EPOCHS=CHECKPOINT, as in 16=netG.safetensors")
    command = results.command(["python", "-m", "benchmarks.copying_epochs", *sys.argv[1:]]).removeprefix("dcgan-eval ")
    extractor = open_extractor(arguments.features, FeatureOptions(seed=arguments.seed))(train)
    panels: dict[str, dict[str, figures.Line]] = {title: {} for title in SHOWN.values()}
    points: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for word in arguments.checkpoints:
        epochs, _, checkpoint = word.partition("=")
        drawn = open_side(f"gen:{checkpoint}", num=arguments.num, seed=arguments.seed, device=arguments.device)
        assert isinstance(drawn, Images)
        found = next(
            neighbors(
                drawn,
                train,
                held_out,
                [extractor],
                run=Run(device=arguments.device, cache=arguments.cache, command=command),
                seed=arguments.seed,
            )
        )
        print(f"\nafter {epochs} epoch{'s' * (epochs != '1')}\n{report.text(report.tables(found.rows))}", flush=True)
        if arguments.out is not None:
            results.append(arguments.out, found.rows)
        for row in found.rows:
            if row.metric in SHOWN and row.role != "p-value":
                label = "held-out images" if row.role == "held-out" else "samples"
                x, y = points.setdefault((SHOWN[row.metric], label), ([], []))
                x.append(float(epochs))
                y.append(row.value)
    for (title, label), (x, y) in points.items():
        order = np.argsort(x)
        panels[title][label] = [x[i] for i in order], [y[i] for i in order]
    if arguments.figure is not None:
        figures.curves(panels, "epochs trained", columns=2, log_x=True).save(arguments.figure)


if __name__ == "__main__":
    main()
