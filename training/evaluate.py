"""What a run has learnt so far, in the evaluation suite's own numbers."""

from dataclasses import dataclass

import torch

from dcgan_eval.errors import InputError
from dcgan_eval.features import discriminator_features, extract
from dcgan_eval.images import Images
from dcgan_eval.neighbors import k_nearest
from dcgan_eval.networks import sample_z, to_uint8
from dcgan_eval.probe import Split, linear_probe
from training.config import TrainConfig
from training.data import prepared
from training.states import State, plain
from training.streams import stream

PROBE = "probe accuracy"
LABELLED = 2000  # images to fit the probe, and as many others to judge it
HELD_OUT = 1000  # images whose nearest samples are looked for
SAMPLES = 5000
STATISTICS = 12800  # images that D's BatchNorm statistics are taken from


@dataclass(frozen=True)
class Measurement:
    """A number of one moment of a run; `protocol` is all that decides it besides the weights."""

    metric: str
    value: float
    spread: float | None
    protocol: str


class Evaluation:
    """Draws its images once, so that the numbers of a run can be compared.

    Probe: the L2-SVM on D's features, fitted to `LABELLED` training images and judged on as many others of the
    training split, so that choosing the best checkpoint by it does not touch the test images. D has seen both, without
    labels, as in the paper's Table 2. Nearest sample: the mean Euclidean distance, pixels in [0, 255], of held-out
    images to the nearest of `SAMPLES` samples, as the authors' faces/train_uncond_dcgan.py logs it.
    Raises InputError for images without labels or a conditional network.
    """

    def __init__(self, config: TrainConfig, images: Images, held_out: Images | None) -> None:
        if images.labels is None or int(images.labels.min()) < 0:
            raise InputError(f"{images.name}: --evaluate-epochs needs a label on every image, for the linear probe")
        if config.architecture.n_classes:
            raise InputError("--evaluate-epochs: a conditional discriminator has no features without labels")
        self.images = images
        order = torch.randperm(images.n, generator=stream(config.seed, "evaluation"))
        each = min(LABELLED, images.n // 2)
        self.fit, self.judge = (images.subset(order[start : start + each]) for start in (0, each))
        self.statistics = images.subset(order[:STATISTICS])
        self.held_out = None
        if held_out is not None:
            held_out = prepared(held_out, config)
            self.held_out = held_out.subset(
                torch.randperm(held_out.n, generator=stream(config.seed, "held out"))[:HELD_OUT]
            )

    def measure(self, state: State) -> list[Measurement]:
        device = next(state.discriminator.parameters()).device
        extractor = discriminator_features(
            plain(state.discriminator).cpu(), name="disc", batchnorm="reestimated", images=self.statistics
        )
        parts = []
        for images in (self.fit, self.judge):
            assert images.labels is not None
            parts.append(Split(extract(extractor, images, device=device), images.labels))
        probe = linear_probe(*parts, seed=state.config.seed, device=device)
        found = [
            Measurement(
                PROBE,
                probe.accuracy,
                probe.spread,
                f"{probe.protocol}; {self.fit.n} training images, judged on {self.judge.n} others; {probe.spread_kind}",
            )
        ]
        if self.held_out is not None:
            found.append(self._nearest_sample(state))
        return found

    def _nearest_sample(self, state: State) -> Measurement:
        assert self.held_out is not None
        config = state.config
        generator = plain(state.drawn_from)
        device = next(generator.parameters()).device
        noise = stream(config.seed, "evaluation z")
        drawn = []
        with torch.no_grad():
            for _ in range(-(-SAMPLES // config.batch_size)):
                images = generator(sample_z(config.architecture, config.batch_size, noise, device))
                drawn.append(to_uint8(images, config.architecture).flatten(1).float())
        database = torch.cat(drawn)[:SAMPLES]
        distances, _ = k_nearest(self.held_out.tensor().flatten(1).float().to(device), database, 1)
        return Measurement(
            "nearest sample",
            float(distances.double().mean()),
            None,
            f"mean Euclidean distance in pixels of {self.held_out.n} images of {self.held_out.name} to the nearest of "
            f"{len(database)} samples",
        )
