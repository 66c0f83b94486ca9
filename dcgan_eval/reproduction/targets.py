"""What each part of the paper consists of, as commands. Times are of 2 CPU cores (`running.REFERENCE`)."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from dcgan_eval.reproduction.step import FOLDER, Source, Step
from dcgan_eval.runtime.errors import InputError, nearest

TARGETS = ("digits", "table1", "table2", "table3", "figures", "all")


@dataclass(frozen=True)
class Sources:
    """What the user named. cifar10, svhn, mnist: labelled images. imagenet: those that Table 1's network is fitted to.
    imagenet_disc, svhn_disc, mnist_gen: checkpoints, None for those that are missing. train: whether to fit these. num:
    samples that Table 3 goes up to. device: options that name it, paths: where named sets lie."""

    cifar10: str = "CIFAR-10"
    svhn: str = "SVHN"
    mnist: str = "MNIST"
    imagenet: str | None = None
    imagenet_disc: str | None = None
    svhn_disc: str | None = None
    mnist_gen: str | None = None
    train: bool = False
    num: int = 1_000_000
    seed: int = 0
    device: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def steps(target: str, sources: Sources) -> list[Step]:
    """In the order in which they run. Raises InputError for an unknown target."""
    makers = {"digits": _digits, "table1": _table1, "table2": _table2, "table3": _table3, "figures": _figures}
    if target == "all":
        found = [step for make in makers.values() for step in make(sources)]
    elif target in makers:
        found = list(makers[target](sources))
    else:
        raise InputError(f"reproduce {target}: no such part of the paper{nearest(target, TARGETS)}")
    return list({step.name: step for step in found}.values())  # networks are fitted once for several parts


def _digits(s: Sources) -> Iterator[Step]:
    digits = _images("digits", "")
    three = [f for name in ("pixels", "random:digits", "disc:digits") for f in ("--features", name)]
    yield _measure(s, "digits-classify", "digits: accuracy with all labels, by layer and by neighbours", 17, digits,
                   "classify", "--data", "digits", *three, "--per-layer", "--probe", "svm,knn")  # fmt: skip
    for n, seconds in ((5, 4), (10, 6), (20, 9), (40, 9)):
        yield _measure(s, f"digits-classify-{n}", f"digits: accuracy with {n} labels per class", seconds, digits,
                       "classify", "--data", "digits", *three, "--protocol", f"per-class:{n}")  # fmt: skip
    for n in (100, 300, 898):
        yield _measure(s, f"digits-fid-{n}", f"digits: Fréchet distance of {n} samples", 1, digits,
                       "fid", "digits:train", "gen:digits", "--num-samples", f"{n}", "--features", "disc:digits@1x1",
                       *(("--metrics", "fid,kid,prdc", "--kid-subset-size", "500") if n == 898 else ()))  # fmt: skip
    yield _measure(s, "digits-fid-real", "digits: the same of real digits", 1, digits,
                   "fid", "digits:train", "digits:test", "--features", "disc:digits@1x1",
                   "--metrics", "fid,kid,prdc", "--kid-subset-size", "500")  # fmt: skip
    yield _measure(s, "digits-neighbors", "digits: does the generator copy?", 2, digits,
                   "neighbors", figure=True)  # fmt: skip
    yield _duplicates(s, "digits-dedup", "digits: duplicates", 32, digits, "digits")
    yield _samples(s, "digits-samples", "digits: samples", "digits", 1)
    yield from _studies(s, "digits", "digits", "digits", _checkpoint("digits", ""), digits)
    yield _measure(s, "digits-arithmetic", "digits: arithmetic in the latent space", 15, digits,
                   "arithmetic", "digits", "1 - 1 + 7", "--data", "digits", "--num-samples", "1000",
                   figure=True)  # fmt: skip


def _table1(s: Sources) -> Iterator[Step]:
    data = _images(s.cifar10, "fetch it with --download, or name images by --cifar10")
    network, after = s.imagenet_disc, None
    if network is None and s.train:
        network, after = yield from _fitted(
            _training("imagenet32", 640_000, s.imagenet, "name the images to fit it to by --imagenet", s)
        )
    remedy = (
        "name one by --imagenet-disc (the authors' is models/imagenet_gan_pretrain_128f_relu_lrelu_7l_3x3_256z/30 of "
        "their repository, Newmu/dcgan_code on GitHub), or have one made by --train"
    )
    yield from _accuracies(s, "table1", "Table 1", data, (("all", 900, ()), ("per-class:400", 300, ())), {
        f"disc:{network or ''}": (_checkpoint(network, remedy), after, 1.0),
        "random:imagenet32": (None, None, 1.0),
        "kmeans:1600": (None, None, 0.6),
        "pixels": (None, None, 0.04),
    })  # fmt: skip


def _table2(s: Sources) -> Iterator[Step]:
    data = _images(s.svhn, "fetch it with --download, or name images by --svhn")
    network, after = s.svhn_disc, None
    if network is None and s.train:
        network, after = yield from _fitted(_training("svhn32", 36_000, s.svhn, "", s))
    remedy = "name the authors' by --svhn-disc (their released svhn/…/200), or have one made by --train"
    # the paper's: 1,000 labels, 100 draws, 10,000 training images set aside to choose C
    labels = ("paper-table2", 150, ())
    yield from _accuracies(s, "table2", "Table 2", data, (labels,), {
        f"disc:{network or ''}": (_checkpoint(network, remedy), after, 1.0),
        "random:svhn32": (None, None, 1.0),
        "pixels": (None, None, 0.5),
    }, {"pixels": ("--probe", "svm,knn", "--k", "1")})  # fmt: skip


def _table3(s: Sources) -> Iterator[Step]:
    data = _images(s.mnist, "fetch it with --download, or name images by --mnist")
    network, after = s.mnist_gen, None
    if network is None and s.train:
        network, after = yield from _fitted(_training("mnist28", 11_000, s.mnist, "", s))
    remedy = "name one by --mnist-gen (python -m training mnist28 makes it), or have it made by --train"
    yield _measure(s, "table3", f"Table 3: digits by the nearest of up to {s.num:,} generated ones", 20 + 3e-4 * s.num,
                   data, "table3", "--generator", network or "", "--data", s.mnist, "--num-samples", f"{s.num}",
                   "--resume-from", f"{FOLDER}/cache/table3.npz", figure=True, more=_checkpoint(network, remedy),
                   after=after, resumes="cache/table3.npz")  # fmt: skip


def _fitted(train: Step) -> Generator[Step, None, tuple[str, str]]:
    """The step itself; the checkpoint that it makes, and its name."""
    yield train
    return f"{FOLDER}/{train.outputs[0]}", train.name


def _studies(s: Sources, name: str, checkpoint: str, data: str, made: Source, images: Source) -> Iterator[Step]:
    """A walk in the latent space, and the filters of the discriminator."""
    yield _measure(s, f"{name}-walk", f"{name}: a walk in the latent space", 5, made, "walk", checkpoint, figure=True)
    yield _measure(s, f"{name}-filters", f"{name}: what filters see", 10, images,
                   "filters", checkpoint, f"{data}:train", figure=True, more=made)  # fmt: skip


def _figures(s: Sources) -> Iterator[Step]:
    """Of every generator at hand samples, the most suspicious beside their neighbours, and studies."""
    for name, data, checkpoint, option in (
        ("svhn", s.svhn, s.svhn_disc, "--svhn-disc"),
        ("mnist", s.mnist, s.mnist_gen, "--mnist-gen"),
    ):
        made = _checkpoint(checkpoint, f"name one, with its generator, by {option}")
        yield _samples(s, f"{name}-samples", f"{name}: samples", checkpoint or "", 5, made)
        images = _images(data, f"fetch it with --download, or name images by --{name}")
        if name == "svhn":  # the other's classes would be walked one by one
            yield from _studies(s, name, checkpoint or "", data, made, images)
        yield _measure(s, f"{name}-neighbors", f"{name}: does the generator copy?", 120, images,
                       "neighbors", f"gen:{checkpoint or ''}", f"{data}:train", "--test", f"{data}:test",
                       figure=True, more=made)  # fmt: skip
    cifar10 = _images(s.cifar10, "fetch it with --download, or name images by --cifar10")
    yield _duplicates(s, "cifar10-dedup", "CIFAR-10: duplicates", 60, cifar10, s.cifar10)


def _accuracies(
    s: Sources,
    prefix: str,
    title: str,
    data: Source,
    protocols: tuple[tuple[str, float, tuple[str, ...]], ...],
    features: dict[str, tuple[Source | None, str | None, float]],
    more: dict[str, tuple[str, ...]] | None = None,
) -> Iterator[Step]:
    """protocols: each with the seconds of the costliest features, and its options. features: the checkpoint that they
    need, the step that makes it, and their share of those seconds. more: options of some features."""
    for spec, (source, after, share) in features.items():
        kind = spec.partition(":")[0]
        for protocol, seconds, options in protocols:
            yield _measure(
                s,
                f"{prefix}-{kind}-{protocol.replace(':', '-')}",
                f"{title}: {kind} features, {protocol}",
                seconds * share,
                data,
                *("classify", "--data", data.spec, "--features", spec, "--protocol", protocol),
                *(*options, *(more or {}).get(spec, ()), "--cache", f"{FOLDER}/cache"),
                more=source,
                after=after,
            )


def _measure(
    s: Sources,
    name: str,
    title: str,
    seconds: float,
    data: Source,
    *argv: str,
    figure: bool = False,
    more: Source | None = None,
    after: str | None = None,
    resumes: str | None = None,
) -> Step:
    """A command that appends rows, and draws a picture if asked to."""
    rows, picture = f"steps/{name}.csv", f"figures/{name}.png"
    drawn = ("--picture", f"{FOLDER}/{picture}") if figure else ()
    return Step(
        name,
        title,
        (*argv, "--seed", f"{s.seed}", *drawn, "--results", f"{FOLDER}/{rows}"),
        (*s.device, *s.paths),
        (data, *([more] if more is not None else [])),
        seconds,
        (rows, picture) if figure else (rows,),
        after=after,
        resumes=resumes,
    )


def _duplicates(s: Sources, name: str, title: str, seconds: float, data: Source, spec: str) -> Step:
    rows, kept = f"steps/{name}.csv", f"cache/{name}"
    argv = ("dedup", spec, "--seed", f"{s.seed}", "--out", f"{FOLDER}/{kept}", "--results", f"{FOLDER}/{rows}")
    outputs, drawn = (rows, f"figures/{name}.png"), f"{kept}/groups.png"
    return Step(name, title, argv, (*s.device, *s.paths), (data,), seconds, outputs, copied=drawn)


def _samples(s: Sources, name: str, title: str, spec: str, seconds: float, source: Source | None = None) -> Step:
    picture = f"figures/{name}.png"
    argv = (
        "sample",
        spec,
        "--num-samples",
        "100",
        "--columns",
        "10",
        "--seed",
        f"{s.seed}",
        "--out",
        f"{FOLDER}/{picture}",
    )
    return Step(name, title, argv, s.device, (source or _checkpoint(spec, ""),), seconds, (picture,))


def _training(preset: str, seconds: float, images: str | None, remedy: str, s: Sources) -> Step:
    source = Source("images", images or "", remedy)
    argv = (preset, "--data", images or "", "--seed", f"{s.seed}")
    checkpoint = f"runs/{preset}/last.safetensors"
    return Step(
        f"train-{preset}",
        f"training {preset}",
        argv,
        (*s.device, *s.paths),
        (source,),
        seconds,
        (checkpoint,),
        program="training",
        resumes=f"runs/{preset}",
    )


def _images(spec: str, remedy: str) -> Source:
    return Source("images", spec, remedy)


def _checkpoint(spec: str | None, remedy: str) -> Source:
    return Source("checkpoint", spec or "", remedy)
