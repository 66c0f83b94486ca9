"""What a run has learnt so far, in the evaluation suite's own numbers."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from dcgan_eval.evaluations.labels import Split
from dcgan_eval.evaluations.linear_probe import TOL, linear_probe
from dcgan_eval.features import Extractor, discriminator_features, extract
from dcgan_eval.images import Images, fitted, from_tensor
from dcgan_eval.metrics.frechet import frechet_distance_of_features
from dcgan_eval.models.networks import Discriminator, initialise, sample_z, to_uint8
from dcgan_eval.nearest.exact import k_nearest
from dcgan_eval.report import words
from dcgan_eval.runtime.errors import InputError, UncertifiedError
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import Run
from training.config import TrainConfig
from training.data import classes_in_turn, prepared
from training.states import State, plain

PROBE = "probe accuracy"
LABELLED = 2000  # images to fit the probe, and as many others to judge it
FEWEST = 5  # of a class, in each of the two: one for every fold
HELD_OUT = 1000  # images whose nearest samples are looked for
SAMPLES = 5000
STATISTICS = 12800  # images that D's BatchNorm statistics are taken from


@dataclass(frozen=True)
class Measurement:
    """A number of one moment of a run; `protocol` is all that decides it besides the weights.

    value: None where it could not be certified; `protocol` then says why. low, high: the ends of its 95 % interval,
    None where it is not known.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    protocol: str


class Evaluation:
    """Draws its images once, so that the numbers of a run can be compared.

    Probe, of an unconditional network: the L2-SVM on D's features, fitted to about `LABELLED` training images and
    judged on as many others of the training split, each with equally many of every class, so that choosing the best
    checkpoint by it does not touch the test images. D has seen both, without labels, as in the paper's Table 2.
    Nearest sample: the mean Euclidean distance, pixels in [0, 255], of held-out images to the nearest of `SAMPLES`
    samples; the authors' faces/train_uncond_dcgan.py logs such a distance, of training images in [-1, 1].
    Fréchet distance: of as many held-out images and samples in the features of this D with random weights, which stay
    the same through the run; it is comparable within a run, and is no FID, which is Inception's: that comes beside it
    where `extractor` is `inception_features`.
    Raises InputError where nothing can be measured: no labels for the probe, or too few of a class.
    """

    def __init__(
        self, config: TrainConfig, images: Images, held_out: Images | None, extractor: Extractor | None = None
    ) -> None:
        if extractor is not None and held_out is None:
            raise InputError("FID while training is of held-out images, and --data has none")
        order = torch.randperm(images.n, generator=stream(config.seed, "evaluation"))
        self.statistics = images.subset(order[:STATISTICS])
        self.probe = None if config.architecture.n_classes else _halves(images, order)
        if self.probe is None and held_out is None:
            raise InputError(
                "--evaluate-epochs: a conditional network is judged by held-out images, and --data has none"
            )
        # a conditional network has no features without labels: the random one does without
        untrained = Discriminator(dataclasses.replace(config.architecture, n_classes=0))
        initialise(untrained, stream(config.seed, "evaluation weights"))
        random = discriminator_features(
            untrained, name="D with random weights", batchnorm="reestimated", images=self.statistics
        )
        self.extractors = [random] if extractor is None else [random, extractor]
        self.held_out = None
        if held_out is not None:
            held_out = prepared(held_out, config)
            self.held_out = held_out.subset(
                torch.randperm(held_out.n, generator=stream(config.seed, "held out"))[:HELD_OUT]
            )

    def measure(self, state: State) -> list[Measurement]:
        device = next(state.discriminator.parameters()).device
        found = []
        if self.probe is not None:
            extractor = discriminator_features(
                plain(state.read_from).cpu(), name="disc", batchnorm="reestimated", images=self.statistics
            )
            parts = []
            for images in self.probe:
                assert images.labels is not None
                parts.append(Split(extract(extractor, images, run=Run(device=device)), images.labels))
            found.append(_probed(*parts, seed=state.config.seed, device=device))
        if self.held_out is not None:
            samples = self._samples(state)
            found.append(self._nearest_sample(samples, device))
            found += [self._frechet_distance(samples, extractor, device) for extractor in self.extractors]
        return found

    def _samples(self, state: State) -> Tensor:
        """uint8 (SAMPLES, C, H, W), of the same z at every call; BatchNorm by minibatch, as in training."""
        config, a = state.config, state.config.architecture
        generator = plain(state.drawn_from)
        device = next(generator.parameters()).device
        noise, n = stream(config.seed, "evaluation z"), config.batch_size
        y = classes_in_turn(a, n, device)
        with torch.no_grad():
            drawn = [to_uint8(generator(sample_z(a, n, noise, device), y), a).cpu() for _ in range(-(-SAMPLES // n))]
        return torch.cat(drawn)[:SAMPLES]

    def _nearest_sample(self, samples: Tensor, device: torch.device) -> Measurement:
        assert self.held_out is not None
        pixels, database = (x.flatten(1).float().to(device) for x in (self.held_out.tensor(), samples))
        distances, _ = k_nearest(pixels, database, 1)
        return Measurement(
            "nearest sample",
            float(distances.cpu().double().mean()),
            None,
            None,
            f"mean Euclidean distance in pixels of {self.held_out.n} images of {self.held_out.name} to the nearest of "
            f"{len(database)} samples",
        )

    def _frechet_distance(self, samples: Tensor, extractor: Extractor, device: torch.device) -> Measurement:
        assert self.held_out is not None
        n = min(self.held_out.n, len(samples))
        drawn = from_tensor(samples[:n], name="samples")
        real, fake = (
            extract(extractor, fitted(images, extractor.input_shape)[0], run=Run(device=device))
            for images in (self.held_out.subset(range(n)), drawn)
        )
        return Measurement(
            {"inception": "FID", "inception-like": "FID-like"}.get(extractor.name, "Fréchet distance"),
            frechet_distance_of_features(real, fake),
            None,
            None,
            f"of {n} images of {self.held_out.name} and as many samples; {extractor.name}: {extractor.protocol}",
        )


def _probed(fitted_to: Split, judged_on: Split, *, seed: int, device: torch.device) -> Measurement:
    """The accuracy of the L2-SVM; without a value where it is not certified, which is no reason to end a training."""
    try:
        probe = linear_probe(fitted_to, judged_on, seed=seed, device=device)
    except UncertifiedError as error:
        return Measurement(PROBE, None, None, None, str(error))
    if probe.gap is not None and not probe.gap <= TOL:
        why = f"not certified: the SVM is within {probe.gap:.1e} of its optimum, not within {TOL:g}"
        return Measurement(PROBE, None, None, None, why)
    of = probe.interval
    how = f"{len(fitted_to)} training images, judged on {len(judged_on)} others; low and high: {words.interval(of)}"
    protocol = f"{probe.classifier} on all labels, {probe.remark}, {probe.method}; {how}"
    return Measurement(PROBE, probe.accuracy, of.low, of.high, protocol)


def _halves(images: Images, order: Tensor) -> tuple[Images, Images]:
    """Two sets of training images without one in common, both with equally many of every class."""
    if images.labels is None or int(images.labels.min()) < 0:
        raise InputError(f"{images.name}: --evaluate-epochs needs a label on every image, for the linear probe")
    counts = torch.bincount(images.labels)
    counts = counts[counts > 0]
    each = min(max(FEWEST, LABELLED // len(counts)), int(counts.min()) // 2)
    if each < FEWEST or len(counts) < 2:
        raise InputError(
            f"{images.name}: --evaluate-epochs needs two classes or more, of at least {2 * FEWEST} images each, "
            f"but has {len(counts)} of {int(counts.min())} or more"
        )
    by_class = [order[images.labels[order] == label] for label in torch.unique(images.labels)]
    first, second = (torch.cat([rows[part] for rows in by_class]) for part in (slice(each), slice(each, 2 * each)))
    return images.subset(first), images.subset(second)
