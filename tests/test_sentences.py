"""What the pages say in numbers, and which way numbers go, is what was measured.

A `Claim` is a fragment of a page, written anew from files in reports/: the page must have it word for word. Where a
fragment states a direction, `holds` is the comparison. What looks like a measured number and is in no claim fails
`test_no_number_is_said_that_was_not_measured`, unless `DEFINED` says why it needs none.
"""

import csv
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import isqrt, prod
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
import torch

from benchmarks.__main__ import table
from dcgan_eval.linear.operators import RANK
from dcgan_eval.report.table import between
from dcgan_eval.results import Row, latest, load
from dcgan_eval.results.differences import Difference, difference, over_draws
from dcgan_eval.results.intervals import holm
from dcgan_eval.studies.transposed import zeros_inserted
from tests.test_reports import series

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"
BENCHMARKS = REPORTS / "benchmarks"
README, MEASURED, TRAINING = "README.md", "reports/README.md", "training/README.md"
PAGES = [
    README,
    MEASURED,
    TRAINING,
    *(
        f"docs/{name}.md"
        for name in (
            "index", "statistics", "speed", "walk", "arithmetic", "turn", "filters", "forget", "transposed", "ranks",
            "table1",
        )
    ),
]  # fmt: skip


class Claim(NamedTuple):
    """What a page says, and whether that is so."""

    page: str
    said: str
    holds: bool = True


# the files


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(name: str, pattern: str) -> list[float]:
    """What the groups of a pattern hold, where it is first in a file of benchmarks."""
    found = re.search(pattern, (BENCHMARKS / name).read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{name} has no {pattern}"
    return [float(group.replace(",", "")) for group in found.groups()]


def number(name: str, pattern: str) -> float:
    return numbers(name, pattern)[0]


SPEED = rows_of(BENCHMARKS / "speed.csv")


def seconds(work: str, n: int, peer: str | None = None) -> float:
    """Of our work in speed.csv, or of a peer's."""
    row = next(row for row in SPEED if row["name"] == work and int(row["n"]) == n and peer in (None, row["peer"]))
    return float(row["ours" if peer is None else "theirs"])


def duration(run: str) -> float:
    """Seconds of a training run."""
    return float(rows_of(REPORTS / "training" / f"{run}.csv")[-1]["seconds"])


RESULTS = latest(load(REPORTS / "results.csv"))


def result(**known: object) -> Row:
    """The one row with these fields."""
    (found,) = [row for row in RESULTS if all(getattr(row, name) == value for name, value in known.items())]
    return found


def value(**known: object) -> float:
    return result(**known).value


# the pages


def prose(page: str) -> str:
    """A page without code, included tables, headings and the addresses of links, on one line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"<!-- reports/tables/.*?<!-- end -->|<!--.*?-->|^#+ .*?$", "", text, flags=re.M | re.S)
    text = re.sub(r"!?\[([^][]*)\]\([^)]*\)", r"\1", text)
    return " ".join(text.split())


UNIT = (
    r"(?:\\?%|percent|m?s\b|min\b|(?:milli)?seconds?|minutes?|hours?|times\b|×(?! ?\d)|[kKMGT]i?B\b|images/s|[GT]FLOP)"
)
NUMBER = re.compile(
    rf"\d ?{UNIT}|\| [\d,]+(?:\.\d+)? (?=\|)|\b(?:half|third|quarter|tenth|hundredth)s? of\b|"
    r"\b(?:more often|less often|as fast as|faster|slower|higher|lower|longer|shorter|smaller|larger)\b|"
    r"\b(?:fall|grow|rise|shrink)s?\b",
    re.I,
)


# what the pages say


def readme() -> list[Claim]:
    svm, inception = seconds("svm", 5000), seconds("inception", 128)
    run = rows_of(REPORTS / "training" / "imagenet32-flip.csv")[-1]
    trained = result(task="classify", data="CIFAR-10", metric="accuracy", role="value", labels="all",
                     layer="all", features="disc:imagenet32-tiny")  # fmt: skip
    on_gpu = numbers("gpu.txt", r"One NVIDIA H100.*?features ([\d.]+) s, C by 5 folds and the fit ([\d.]+) s")
    lower = {
        row.labels: row
        for row in RESULTS
        if (row.features, row.metric, row.role) == ("disc:authors-30-lower-4", "accuracy", "value")
    }
    off = number("fid.txt", r"float32 [^\n]* (\S+)\nbfloat16")
    searched, copies = numbers("dedup.txt", r": (\d+) images, (\d+) copies")
    beyond = number("manifold.txt", r"([\d.]+) GiB beyond")
    claims = [
        f"{int(run['images']) / 1e6:.1f} million image presentations in {_minutes('imagenet32-flip')}",
        f"The {(REPORTS / 'training' / 'imagenet32-tiny.safetensors').stat().st_size / 1e6:.0f} MB checkpoint",
        f"On an H100 the features took {on_gpu[0]:.0f} s, and the SVM with all labels another {on_gpu[1]:.0f} s",
        f"reach {lower['all'].value:.2f} % with all labels, and {lower['per-class:400'].value:.2f} ± "
        f"{lower['per-class:400'].spread:.2f} % with 400 labels per class",
        f"features of its four lower layers, {lower['all'].dimensions:,} of {trained.dimensions:,}",
        f"Speed, on 2 threads of a CPU with {_cpu()}, but for the one time on a GPU",
        f"`L2SVC` takes {svm:.1f} s, scikit-learn's `LinearSVC` {seconds('svm', 5000, 'scikit-learn LinearSVC'):.0f} s",
        f"and {_path_on_gpu():.2f} s on an NVIDIA H200",
        f"objectives of `L2SVC` and `LinearSVC` are equal to {_power(max(_apart()))}",
        f"Inception's features of 128 images take {inception:.1f} s, "
        f"by torch-fidelity {seconds('inception', 128, 'torch-fidelity'):.1f} s, "
        f"by torchmetrics {seconds('inception', 128, 'torchmetrics'):.1f} s, "
        f"by pytorch-fid {seconds('inception', 128, 'pytorch-fid'):.1f} s",
        f"of 2,048 dimensions takes {seconds('frechet', 2048):.2f} s, "
        f"by `scipy.linalg.sqrtm` {seconds('frechet', 2048, 'scipy.linalg.sqrtm'):.1f} s, "
        f"by `torch.linalg.eigvals` {seconds('frechet', 2048, 'torch.linalg.eigvals'):.1f} s",
        f"the distance equals torch-fidelity's to {_power(off)}",
        f"10,000 against 10,000 features take {seconds('manifold', 10000):.1f} s, "
        f"by prdc {seconds('manifold', 10000, 'prdc'):.1f} s",
        f"Those of 50,000 against 50,000 take {beyond:.2f} GiB",
        f"images among 50,000 of 3,072 pixels take {seconds('neighbors', 50000):.1f} s, "
        f"by faiss's flat index {seconds('neighbors', 50000, 'faiss'):.1f} s, "
        f"by scikit-learn's brute force {seconds('neighbors', 50000, 'scikit-learn'):.1f} s",
        f"on {searched:,.0f} images of Tiny ImageNet: its recall of {copies:,.0f} modified copies",
        _found("dcgan-eval, autoencoder", "autoencoder      4"),
        _found("equal codes, as in the paper", "paper        "),
        _found("imagehash's perceptual hash", "phash      4"),
    ]
    equal = _prdc("10000 against 10000: Manifold") == _prdc("prdc: ")
    return [*(Claim(README, said) for said in claims), Claim(README, "equal prdc's to every printed digit", equal)]


def _power(number: float) -> str:
    """1.5e-05 as 2e-5."""
    return f"{number:.0e}".replace("e-0", "e-")


def _minutes(run: str) -> str:
    return {6: "six minutes", 8: "eight minutes"}[round(duration(run) / 60)]


def _cpu() -> str:
    """The one CPU of all of speed.csv, of the SVM's files, and of no GPU."""
    cpus = {row["machine"].split(";")[0] for row in SPEED}
    cpus |= {(BENCHMARKS / name).read_text().split(";")[0] for name in ("svm.txt", "svm-large.txt")}
    (cpu,) = cpus
    assert cpu.endswith(", 2 threads")
    return cpu.removeprefix("x86_64 ").removesuffix(", 2 threads")


def _path_on_gpu() -> float:
    return number("gpu.txt", r"One NVIDIA H200.*?7 values of C by 5 folds +([\d.]+) s")


def _apart() -> list[float]:
    text = (BENCHMARKS / "svm.txt").read_text(encoding="utf-8")
    found = [abs(float(word)) for word in re.findall(r"\((\S+) of ours\)", text)]
    assert len(found) == 3
    return found


def _prdc(before: str) -> list[float]:
    line = next(row for row in (BENCHMARKS / "manifold.txt").read_text().splitlines() if row.startswith(before))
    return [float(word) for word in re.findall(r"(?:precision|recall|density|coverage)=([\d.]+)", line)]


def _found(name: str, begins: str) -> str:
    """A row of the table of duplicates: to a percent, and to a tenth above 90."""
    *shares, _, false, _ = numbers("dedup.txt", rf"\n *{begins}" + r" +([\d.]+)" * 7)
    words = [f"{share:.1f}" if 90 < share < 100 else f"{share:.0f}" for share in shares]
    return f"| {name} | {' | '.join(words)} | {false:.0f} |"


def svm() -> list[Claim]:
    """What README and docs/speed.md both say, and speed.csv does not hold."""
    path, by_peer = numbers("svm.txt", r"7 C × 5 folds  L2SVC ([\d.]+) s.*?: (\d+) s")
    time, peak = numbers("svm-large.txt", r"L2SVC (\d+) s.*peak memory ([\d.]+) GiB with the features")
    return [
        Claim(README, f"Seven values of C by 5 folds take {path:.0f} s, by `LinearSVC` an estimated {by_peer:,.0f} s"),
        Claim(README, f"All 50,000 rows take {time:.0f} s and {peak:.1f} GiB, the features included"),
        Claim("docs/speed.md", f"On two threads of a CPU with {_cpu()}, seven values of C by 5 folds on 5,000 × 28,672 "
                               f"features take {path:.0f} s, by LinearSVC an estimated {by_peer:,.0f} s (svm.txt)"),
        Claim("docs/speed.md", f"all 50,000 rows takes {time:.0f} s, at a peak of {peak:.1f} GiB"),
    ]  # fmt: skip


def speed() -> list[Claim]:
    faiss = {n: seconds("neighbors", n, "faiss") / seconds("neighbors", n) for n in (3125, 50000)}
    resize, inception = seconds("resize", 256) / 256, seconds("inception", 128) / 128
    amx, plain = (
        median(numbers("gpu.txt", rf"two threads on cores of their own.*?{name} +" + ", ".join([r"([\d.]+)"] * 4)))
        for name in (r"ALL \(AMX\)", "AVX512_CORE ")
    )
    gpu = (BENCHMARKS / "gpu.txt").read_text(encoding="utf-8").partition("One NVIDIA H100")[0]
    step = numbers(
        "gpu.txt", r"alone +([\d,]+) images/s, ([\d.]+) ms a step, of which the processor launches for ([\d.]+)"
    )
    assert step[1] == step[2]
    ours, theirs = numbers("gpu.txt", r"C = 1e-3 +([\d.]+) s +LinearSVC ([\d.]+) s")
    together = number("gpu.txt", r"together ([\d,]+);")
    features, fit = numbers("gpu.txt", r"features ([\d.]+) s, choosing C by 5 folds and the fit ([\d.]+) s")
    assert "(4 values of C, 60 problems at once, on 50,000 rows)" in gpu
    searched = number("dedup.txt", r"autoencoder, 100,000 images: ([\d.]+) s")
    times = number("neighbors.txt", r"([\d.]+) times as fast as faiss")
    again = numbers(
        "gpu.txt",
        r"One NVIDIA H100.*?features ([\d.]+) s, C by 5 folds and the fit ([\d.]+) s.*?C by 5 folds: ([\d.]+) s",
    )
    whole, most = numbers("classify.txt", r"in all ([\d.]+) s, at most (\d+) KiB")
    images, folds = numbers("classify.txt", r"  ([\d.]+) \+ ([\d.]+)\n")
    claims = [
        f"takes {whole:.0f} s on two threads of a CPU with AVX-512, at a peak of {most / 2**20:.1f} GiB: "
        f"{images:.0f} s for the features of all images, and {folds:.0f} s for four values of C by 5 folds",
        f"searched 100,000 images in {searched:.0f} s",
        f"faiss takes {faiss[3125]:.2f} of our time among 3,125 rows, and {faiss[50000]:.2f} among 50,000",
        f"ours was {times:.1f} times as fast as faiss",
        f"the same took {amx:.0f} s in place of {plain:.0f} s",
        f"{seconds('manifold', 625):.2f} s for 625 rows",
        f"takes {ours:.2f} s at C = 0.001, the copy to the GPU included, LinearSVC {theirs:.0f} s on a busy processor; "
        f"seven values of C by 5 folds take {_path_on_gpu():.2f} s; "
        f"on 50,000 rows four values of C by 5 folds, and the fit, take {fit:.0f} s",
        f"took {step[1]:.1f} ms ({round(step[0], -2):,.0f} images/s), for all of which the processor launched",
        f"two runs at once made {together:,.0f} images/s together",
        f"Features of 60,000 images and 28,672 columns took {features:.0f} s",
        f"On an H100, beside tests, they took {again[0]:.0f} s, the choice of C by 5 folds and the fit "
        f"{again[1]:.0f} s, and ten draws of 400 labels per class, C by 5 folds, {again[2]:.0f} s",
    ]
    below = {row["name"] for row in SPEED if float(row["limit"]) < float(row["ours"]) / 2}
    behind = {row["name"] for row in SPEED if float(row["theirs"]) < float(row["ours"])}
    told = {"help", "imports", "neighbors", "svm", "frechet", "manifold", "resize"}
    cells = [[cell.strip() for cell in line.split("|")] for line in (BENCHMARKS / "memory.md").read_text().splitlines()]
    less = [int(row[6].replace(",", "")) < int(row[7].replace(",", "")) for row in cells[2:] if len(row) > 7]
    return [
        *(Claim("docs/speed.md", said) for said in claims),
        Claim("docs/speed.md", "An image may cost less than must be held of it", any(less)),
        Claim("docs/speed.md", "less than a hundredth of the time that Inception takes", resize < inception / 100),
        Claim("docs/speed.md", "Below half of the limit, or behind a peer:", told == below | behind),
    ]


def statistics() -> list[Claim]:
    page = "docs/statistics.md"
    coverage = rows_of(BENCHMARKS / "coverage.csv")
    holds = {(row["interval"], row["found over"]): float(row["holds, %"]) for row in coverage}
    worst = [row for row in coverage if row["interval"] == "Wilson, at its worst"]
    one_by_one = holds["1.96 standard errors, one by one", "6 models, 2,000 images"]
    wrong = [
        int(row["found over"].split()[0]) * (1 - float(re.findall(r"([\d.]+)%", row["truth"])[0]) / 100)
        for row in worst
    ]
    known = {"task": "classify", "data": "svhn-mini", "metric": "accuracy", "role": "value", "layer": "all",
             "features": "disc:authors-200", "classifier": "L2-SVM"}  # fmt: skip
    a, b = (result(**known, dtype=dtype) for dtype in ("float32", "bfloat16"))
    outcomes = [row.outcomes.right(row.n) for row in (a, b) if row.outcomes is not None]
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    assert int((outcomes[0] != outcomes[1]).sum()) == 2
    apart = difference(a, b)
    assert a.high is not None
    assert a.low is not None
    assert apart.low is not None
    assert apart.high is not None
    p = prod((30 - i) / (30 + 500 - i) for i in range(2))
    compared = [row["interval"] for row in coverage[-4:]]
    return [
        Claim(page, f"at worst {min(float(row['holds, %']) for row in worst):.0f} % of the time, where one image in "
                    "six sets is expected to be wrong", {round(1 / share) for share in wrong} == {6}),
        Claim(page, f"Two results of {a.n} images, {a.value:.2f} and {b.value:.2f} %, are known each to "
                    f"± {(a.high - a.low) / 2:.0f}; their difference, taken by itself, to "
                    f"± {(apart.high - apart.low) / 2:.1f}, since the models disagree on two images only"),
        Claim(page, f"With six equal models, {100 - one_by_one:.0f} % of all tables would mark a difference"),
        Claim(page, f"Two copies among 30 samples, beside 500 held-out images, have p = {p:.3f}"),
        Claim(page, "the last four are for comparison", all(name.endswith("one by one") for name in compared)),
    ]  # fmt: skip


def walk() -> list[Claim]:
    page = "docs/walk.md"
    length, logit = (
        {row.condition: row.value for row in RESULTS if row.task == "walk" and row.model == "gen:authors-200"
         and row.metric == metric and not row.data}
        for metric in ("path length", "logit")
    )  # fmt: skip
    straight, spherical = (
        result(task="walk", model="gen:faces64", metric="path length", condition=name)
        for name in ("straight", "spherical")
    )
    assert straight.low is not None
    assert straight.high is not None
    assert spherical.low is not None
    assert spherical.high is not None
    return [
        Claim(page, "Blending the pixels of both ends gives a shorter path, "
                    f"{length['pixels blended']:.1f} in place of {length['straight']:.1f}",
              length["pixels blended"] < length["straight"]),
        Claim(page, f"the logit half way, {_minus(logit['straight'])}, is higher than that of samples, "
                    f"{_minus(logit['samples'])}", logit["straight"] > logit["samples"]),
        Claim(page, f"its logit half way, {_minus(logit['spherical'])}, is nearer to that of samples, and its path is "
                    f"longer, {length['spherical']:.1f} in place of {length['straight']:.1f}",
              abs(logit["spherical"] - logit["samples"]) < logit["straight"] - logit["samples"]
              and length["spherical"] > length["straight"]),
        Claim(page, f"the straight path is {straight.value:.1f} long, the spherical one {spherical.value:.1f}, and the "
                    "intervals of both overlap", straight.low <= spherical.high and spherical.low <= straight.high),
    ]  # fmt: skip


def _minus(number: float, digits: int = 2) -> str:
    return f"{number:.{digits}f}".replace("-", "−")


def filters() -> list[Claim]:
    page = "docs/filters.md"

    def more(metric: str, data: str) -> float:
        """How much more of it trained filters have than random ones."""
        trained, random = (
            value(task="filters", data=data, metric=metric, condition=name) for name in ("trained", "random weights")
        )
        return trained - random

    digits, faces = "svhn-mini:train", "faces64-gray"
    classified = value(task="classify", data="svhn-mini", metric="accuracy", role="value", layer="conv3",
                       features="disc:authors-200", classifier="L2-SVM")  # fmt: skip
    return [
        Claim(page, "Trained filters respond to fewer images than random ones, and half of their gradient lies in a "
                    "smaller area.",
              more("sparseness", digits) > 0 and more("half of the gradient in", digits) < 0),
        Claim(page, "images of a trained filter are no more often of one class", more("one class", digits) <= 0),
        Claim(page, f"all filters of this layer together classify {classified:.0f} % of the test digits"),
        Claim(page, "Here, too, half of the gradient of trained filters lies in a smaller area, but they respond to "
                    "more images than random ones.",
              more("half of the gradient in", faces) < 0 and more("sparseness", faces) < 0),
    ]  # fmt: skip


def transposed() -> list[Claim]:
    shown = zeros_inserted(torch.ones(1, 100, 100), (5, 5), stride=2, padding=2, output_padding=1)
    met = {int(np.ceil((5 - y) / 2) * np.ceil((5 - x) / 2)) for y in (0, 1) for x in (0, 1)}
    return [
        Claim("docs/transposed.md", "Three in four values that such a layer multiplies by are zeros",
              abs(float((shown == 0).float().mean()) - 3 / 4) < 0.02),
        Claim("docs/transposed.md", f"a 5×5 kernel at stride 2 meets {', '.join(map(str, sorted(met)[:0:-1]))} or "
                                    f"{min(met)} of them"),
    ]  # fmt: skip


def ranks() -> list[Claim]:
    page = "docs/ranks.md"
    n, d = 1_281_167, 28_672
    rows, decisions = 4 * d, 12 * 8 * 1000  # bytes for each image
    return [
        Claim(page, f"GPUs compute features faster than a shared file system takes them: {4e-9 * n * d:.0f} GB",
              n * 0.53e9 / (8 * 67e12) < 4 * n * d / 2e9),
        Claim(page, f"{4e-9 * n * d / 8:.0f} GB a rank on eight ranks"),
        Claim(page, f"on one machine all {4e-9 * n * d:.0f} GB"),
        Claim(page, "of 1,000 classes nearly as much as the rows themselves", 0.8 < decisions / rows < 1),
        Claim(page, "On one 80 GB GPU neither fits; on eight both do",
              n * min(rows, decisions) > 80e9 and n * (rows + decisions) / 8 < 80e9),
        Claim(page, f"the preconditioner of *d* × {RANK[0] * isqrt(d)} to all columns"),
        Claim(page, f"is of {RANK[0]}√*d* vectors"),
        Claim(page, f"{RANK[0] ** 2}*d* numbers of each class"),
    ]  # fmt: skip


def training() -> list[Claim]:
    original, ours = numbers("training.txt", r"\npytorch/examples +([\d.]+).*?\nbfloat16 +([\d.]+)")
    assert (BENCHMARKS / "training.txt").read_text().splitlines()[1].startswith("x86_64 AVX512, 2 threads")
    took = {run: duration(run) for run in ("digits", "mnist28", "cifar32", "faces64", "rooms64")}
    epochs = {run: float(rows_of(REPORTS / "training" / f"{run}.csv")[-1]["epoch"]) for run in took}
    words = {run: f"{time:.0f} s" if time < 600 else f"{time / 60:.0f} min" for run, time in took.items()}
    pages = [
        f"| {words['digits']} on a core |",
        f"{epochs['mnist28']:.0f} epochs in {words['mnist28']} on a core",
        f"{epochs['cifar32']:.0f} epochs in {words['cifar32']} on a core",
        f"{epochs['faces64']:.0f} epochs in {words['faces64']} on a core",
        f"on 2 threads of a CPU with AVX-512 {ours:.0f} images/s in bfloat16, the original {original:.0f}",
    ]
    ends = {"digits": "digits`", "mnist28": "--decay-epochs 6`", "cifar32": "--evaluate-epochs 2`"}
    ends |= {"faces64": "--epochs 20`", "rooms64": "--epochs 160`"}
    return [
        *(Claim(TRAINING, said) for said in pages),
        *(Claim(MEASURED, f"{ends[run]} | {words[run]} |") for run in took),
    ]


def trained_networks() -> list[Claim]:
    probe = rows_of(REPORTS / "training" / "imagenet32-probe.csv")

    def best(run: str, weights: str = "as they are") -> tuple[float, float]:
        """Accuracy, and millions of images seen."""
        rows = [row for row in probe if (row["run"], row["weights"]) == (run, weights)]
        row = max(rows, key=lambda row: float(row["accuracy"]))
        return float(row["accuracy"]), int(row["images"]) / 1e6

    def seen(run: str) -> int:
        return max(int(row["images"]) for row in probe if row["run"] == run)

    def line(run: str, words: str, which: str, end: str = "") -> Claim:
        accuracy, images = best(run)
        last = f"{images:.1f} million{end}"
        return Claim(MEASURED, f"| {run} | {words} | {which} | {seen(run):,} | {accuracy:.1f} at {last} |")

    def averaged(over: int, run: str) -> Claim:
        accuracy, images = best(run, f"average over {over}")
        return Claim(MEASURED, f"averaged over about {over:,} images | | | | {accuracy:.1f} at {images:.1f} million |")

    paper = [float(row["accuracy"]) for row in probe if row["run"] == "imagenet32"]
    flips = ("imagenet32-flip", "imagenet32-flip-color")
    outputs = rows_of(REPORTS / "training" / "imagenet32.csv")
    real, generated = ([float(outputs[i][name]) for i in (0, -1)] for name in ("d_real", "d_fake"))
    six, eight = ({round(duration(run) / 60) for run in runs} for runs in (("imagenet32", "imagenet32-augment"), flips))
    size = (REPORTS / "training" / "imagenet32-tiny.safetensors").stat().st_size / 1e6
    return [
        line("imagenet32", "the paper's recipe", "H200", f", then down to {paper[-1]:.1f}"),
        line("imagenet32-augment", "`--diffaugment translation,cutout`", "H200"),
        line("imagenet32-flip", "`--diffaugment flip,translation`", "H100", ", the last"),
        line("imagenet32-flip-color", "`--diffaugment flip,color,translation`", "H100", ", the last"),
        averaged(100_000, "imagenet32-flip"),
        averaged(500_000, "imagenet32-flip-color"),
        Claim(MEASURED, f"those on the H200 after {min(six)} minutes, those on the H100 after {min(eight)}",
              len(six) == len(eight) == 1),
        Claim(MEASURED, f"that D in float16, {size:.0f} MB"),
        Claim(MEASURED, f"the best of {len(probe)} is judged"),
        Claim(MEASURED, "By the paper's recipe accuracy falls after the best state", paper[-1] < max(paper)),
        Claim(MEASURED, f"while D's output grows to {real[1]:.2f} on real images and falls to {generated[1]:.2f} on "
                        "generated ones", real[0] < real[1] and generated[0] > generated[1]),
        Claim(MEASURED, "with `flip` the last state was the best of those without averaging",
              all(best(run)[1] * 1e6 == seen(run) for run in flips)),
    ]  # fmt: skip


def copying() -> list[Claim]:
    study = {"task": "neighbors", "condition": "without mirror images", "features": "disc:authors-200@1x1"}
    epochs = {n: {**study, "model": f"gen:cifar32-epoch{n}"} for n in (1, 2, 4, 8, 16)}
    distance = {n: value(**known, metric="nearest distance", role="value") for n, known in epochs.items()}
    test = {n: value(**known, metric="C_T", role="value") for n, known in epochs.items()}
    held_out = {value(**known, metric="nearest distance", role="held-out") for known in epochs.values()}
    (real,) = held_out
    none = all(value(**known, metric="suspected copies", role="value") == 0 for known in epochs.values())
    authentic = all(
        value(**known, metric="AuthPct", role="value") > value(**known, metric="AuthPct", role="held-out")
        for known in epochs.values()
    )
    return [
        Claim(MEASURED, "in no epoch is a sample nearer to a training image than every held-out image is", none),
        Claim(MEASURED, "AuthPct of samples is always higher than that of held-out images", authentic),
        Claim(MEASURED, f"and C_T falls from {test[1]:.1f} after epoch 1 to {test[16]:.1f} after epoch 16 without "
                        "going below 0", all(a > b > 0 for a, b in pairwise(test.values()))),
        Claim(MEASURED, f"it is {distance[1]:.1f}, where that of held-out images is {real:.1f}; after that it is "
                        "higher", distance[1] < real < min(distance[n] for n in (2, 4, 8, 16))),
    ]  # fmt: skip


def damaged() -> list[Claim]:
    """Beside what test_reports.py holds."""
    found = series()
    (photographs,) = {data for _, data, _ in found if data.startswith("CIFAR")}
    ends = {key: steps[-1] - steps[0] for key, steps in found.items()}
    grow, fall = ("Fréchet distance", "kernel distance"), ("recall", "coverage", "classifier score")
    kernel, distance, score = (
        found[metric, photographs, "classes dropped"]
        for metric in ("kernel distance", "Fréchet distance", "classifier score")
    )
    precision = [
        abs(end) for (metric, _, kind), end in ends.items() if (metric, kind) == ("precision", "classes dropped")
    ]
    assert [
        row.model for row in RESULTS if row.metric == "precision" and f"{photographs}, classes" in (row.model or "")
    ] == [f"{photographs}, classes dropped {n}" for n in (1, 3, 5, 7)]
    return [
        Claim(MEASURED, "distances grow, and recall, coverage and the classifier score fall",
              all(end > 0 for (metric, *_), end in ends.items() if metric in grow)
              and all(end < 0 for (metric, *_), end in ends.items() if metric in fall)),
        Claim(MEASURED, "and seven missing classes move precision by less than 0.02", max(precision) < 0.02),
        Claim(MEASURED, "among them both distances and the classifier score of photographs where 5 classes are missing",
              kernel[3] < kernel[2] and distance[3] < distance[2] and score[3] > score[2]),
    ]  # fmt: skip


def batchnorm() -> list[Claim]:
    rows = [r for r in load(BENCHMARKS / "batchnorm.csv") if (r.metric, r.role) == ("accuracy", "value")]
    pairs = []
    for labels in ("all", "per-class:400"):
        same = [r for r in rows if r.labels == labels]
        few, every = (next(r for r in same if f"reestimated on {n} of" in r.features_protocol) for n in (12800, 50000))
        found = difference(every, few)
        assert found.over == "paired by image"
        assert found.low is not None
        assert found.high is not None
        apart = f"{found.value:+.2f}".replace("-", "−") + f" {between(found.low, found.high, '%', '+')}"
        pairs.append((f"{every.value:.2f} % in place of {few.value:.2f} %", apart, found.within))
    (both, apart, within), (both_of_400, apart_of_400, within_of_400) = pairs
    return [
        Claim(MEASURED, "change nothing that can be seen", within and within_of_400),
        Claim(MEASURED, f"{both} with all labels, a difference of {apart}, and {both_of_400} with 400 labels per "
                        f"class, {apart_of_400} over test images"),
    ]  # fmt: skip


def remarks() -> list[Claim]:
    authors = {"task": "neighbors", "model": "gen:authors-200 (BatchNorm of each 128)",
               "condition": "with mirror images", "metric": "suspected copies"}  # fmt: skip
    disc, pixels = ({**authors, "features": name} for name in ("disc:authors-200@1x1", "pixels"))
    found = result(**disc, role="value")
    tiny = {"task": "dedup", "data": "tinyimagenet32:train tinyimagenet32:test", "features": "exact"}
    others, false = numbers("dedup.txt", r"autoencoder +4 .*?(\d+) +(\d+) +\d+\n")
    most = max(row.n_reference or 0 for row in RESULTS if row.task == "table3" and row.model == "gen:mnist28")
    classified = result(task="classify", data="svhn-mini", metric="accuracy", role="value", layer="all",
                        features="pixels", classifier="L2-SVM")  # fmt: skip
    return [
        Claim(MEASURED, f"** goes to {most:,} samples"),
        Claim(MEASURED, f"within 4 bits a third of what is left out besides the planted copies, {false:.0f} of 100,000",
              abs(false / others - 1 / 3) < 0.02),
        Claim(MEASURED, f"{value(**tiny, metric='duplicates'):.0f} repeat another to the pixel and "
                        f"{value(**tiny, metric='duplicates of held-out images'):.0f} more a validation image"),
        Claim(MEASURED, f"{found.value:.0f} of {found.n:,} samples are nearer to a training crop than every held-out "
                        f"crop is, where {value(**disc, role='held-out'):.0f} are to be expected "
                        f"(p {value(**disc, role='p-value'):.4f}); in pixels {value(**pixels, role='value'):.0f} "
                        f"(p {value(**pixels, role='p-value'):.3f})"),
        Claim(README, f"Their {classified.n} test crops are held out; the {found.n_reference} training"),
        Claim(README, f"svhn-mini is {found.n_reference} training and {classified.n} test digits"),
        Claim(MEASURED, f"is judged against {found.n_reference} training crops"),
        Claim(MEASURED, f"the {classified.n} test crops, which are held out"),
        Claim(MEASURED, f"is {found.n_reference} training and {classified.n} test digits"),
    ]  # fmt: skip


def table1() -> list[Claim]:
    text = (BENCHMARKS / "independent.txt").read_text(encoding="utf-8")
    differing = [int(words) for words in re.findall(r"; (\d+) of 10,000 images differ", text)]
    of = {
        row.condition: row
        for row in load(BENCHMARKS / "choices.csv")
        if (row.features.partition("@")[0], row.labels) == ("disc:authors-200", "per-class:400")
        and (row.metric, row.role) == ("accuracy", "value")
    }
    usual = of["default: C by 5 folds, unscaled, 4x4, max"]
    one, valid = of["C: 1, liblinear's default"], of["C: by 10,000 validation images"]
    every, batch = (
        of[f"BatchNorm: {what}"] for what in ("re-estimated from all training images", "of each batch of 128")
    )
    standardised, unit = of["scaling: standardised"], of["scaling: unit norm"]
    mean, small, single = (of[f"pooling: {what}"] for what in ("4x4, mean", "2x2, max", "1x1, max"))

    def apart(row: Row) -> tuple[Difference, Difference | None]:
        alike = replace(usual, method=row.method, condition=row.condition)
        return difference(row, alike), over_draws(row, alike)

    def unseen(*rows: Row) -> bool:
        return all(found is not None and found.within for row in rows for found in apart(row))

    def seen(*rows: Row) -> bool:
        return not any(found is None or found.within for row in rows for found in apart(row))

    page = "docs/table1.md"
    return [
        Claim(page, f"C = 1, where LinearSVC starts, costs {usual.value - one.value:.2f} points",
              seen(one) and all(one.value <= row.value for row in of.values() if not row.condition.startswith("pool"))),
        Claim(page, f"choose as well as 10,000 validation images: {usual.value:.2f} and {valid.value:.2f} %",
              abs(usual.value - valid.value) < 0.1),
        Claim(page, "Scaling changes nothing that can be seen", unseen(standardised, unit)),
        Claim(page, f"is {usual.C:g} without scaling, {standardised.C:g} for standardised features and {unit.C:g} for"),
        Claim(page, "from all training images in place of 12,800 changes nothing that can be seen", unseen(every)),
        Claim(page, f"cost {usual.value - batch.value:.2f} points, and an image's features", seen(batch)),
        Claim(page, f"in place of maxima cost {usual.value - mean.value:.2f}, a grid of 2×2 costs "
                    f"{usual.value - small.value:.2f}, and one value per map {usual.value - single.value:.2f}",
              seen(mean, small, single)),
        Claim("docs/table1.md", "What differs is at most one image of 10,000",
              len(differing) == 8 and max(differing) == 1),
    ]  # fmt: skip


def cpus() -> list[Claim]:
    """Which of the benchmarks' texts name which CPU."""
    named: dict[str, list[str]] = {"AVX2": [], "AVX512": [], "none": []}
    for path in sorted(BENCHMARKS.glob("*.txt")):
        text = path.read_text(encoding="utf-8").split("; ")
        head = " ".join(text)[:400].replace("AVX-512", "AVX512")
        named[next((name for name in named if re.search(rf"\b{name}\b", head)), "none")].append(path.name)
    right = named["AVX2"] == ["regression.txt", "svm-large.txt", "svm-robustness.txt", "svm.txt"]
    right &= named["AVX512"] == [
        "classify.txt", "fid.txt", "gpu.txt", "independent.txt", "neighbors.txt", "training.txt",
    ]  # fmt: skip
    said = (
        "Of these, regression.txt, svm.txt, svm-large.txt and svm-robustness.txt name a CPU with AVX2, "
        "training.txt, gpu.txt, classify.txt, fid.txt, neighbors.txt and independent.txt one with AVX-512, and "
        "the others name none."
    )
    return [Claim(MEASURED, said, right)]


def latent_studies() -> list[Claim]:
    def p_values(task: str, question: str) -> list[float]:
        found = [r.value for r in RESULTS if (r.task, r.role, r.question) == (task, "p-value", question)]
        return holm(found)

    arithmetic = {
        row.metric: row.value
        for row in RESULTS
        if row.task == "arithmetic" and row.model == "gen:authors-200" and row.condition == "mean of 3"
    }
    straight = [row.value for row in RESULTS if row.task == "turn" and row.metric == "R²"]
    slopes = [row.value for row in RESULTS if row.task == "turn" and row.role == "p-value"]
    return [
        Claim("docs/forget.md", "With these boxes neither p-value is below 0.05",
              min(p_values("forget", "what is in the boxes")) >= 0.05),
        Claim("docs/forget.md", "Here both are at most 0.05", max(p_values("forget", "1")) <= 0.05),
        Claim("docs/arithmetic.md", "Brightness is as expected more often than the digit",
              arithmetic["dark"] > arithmetic["2"]),
        Claim("docs/turn.md", "most changes over such distances are close to linear", min(straight) > 0.5),
        Claim("docs/turn.md", "A direction differs from a random one by its slope", max(slopes) <= 0.05),
    ]  # fmt: skip


GROUPS = [
    readme, svm, speed, statistics, walk, latent_studies, filters, transposed, ranks, training, trained_networks,
    batchnorm, copying, damaged, remarks, table1, cpus,
]  # fmt: skip


@cache
def claims(page: str) -> list[str]:
    return [claim.said for group in GROUPS for claim in group() if claim.page == page]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_what_is_said_was_measured(group):
    found = group()
    assert {claim.page for claim in found} <= set(PAGES)
    assert [claim for claim in found if claim.said not in prose(claim.page)] == []
    assert [claim for claim in found if not claim.holds] == []


THEORY = "follows from the definition"
SETTING = "a setting of the measurement"
NAME = "the name of a column"
# page, fragment, why it needs no measurement
DEFINED = [
    (README, "the paper's numbers, 82.8 % and 73.8 ± 0.4 %", "quoted from the paper"),
    (README, "brackets are 95 % intervals", THEORY),
    (README, "(authors-30-lower-4)", "a name"),
    (README, "features of its four lower layers", "a place in a network"),
    (README, "the four lower layers of the authors' own", "a place in a network"),
    (MEASURED, "authors-30-lower-4", "a name"),
    ("docs/table1.md", "by 5 stratified folds of the labels that are used, from 1, 2, 5 times a power of ten", SETTING),
    ("docs/table1.md", "The paper reports 82.8 % with all labels of CIFAR-10, and 73.8 ± 0.4 % with", "quoted"),
    (TRAINING, "with another `--epochs`, a run goes on longer", THEORY),
    ("docs/index.md", "| 6.1 |", "a section of the paper"),
    ("docs/index.md", "| 6.2 |", "a section of the paper"),
    ("docs/statistics.md", "stay between 0 and 100 %", THEORY),
    (
        "docs/statistics.md",
        "Close to 0 or 100 %, where a single image decides, it holds less often",
        "says so after it",
    ),
    (
        "docs/statistics.md",
        "Close to 0 or 100 %, where one seed in many is much worse than the others, it holds less often",
        "in the table below it",
    ),
    ("docs/statistics.md", "A density is neither better nor worse when it is higher", THEORY),
    (
        "docs/statistics.md",
        "so that the 95 % interval of a difference of this size excludes 0 in 80 % of cases. It takes "
        "the standard error to fall with the root of the number of images",
        THEORY,
    ),
    ("docs/statistics.md", "KID's error falls faster where both distributions are almost equal", THEORY),
    ("docs/statistics.md", "it does not shrink as draws are added", THEORY),
    ("docs/forget.md", "and whether the object is found there less often", "a question"),
    ("docs/forget.md", "should lower the first more, and the second less", "a hypothesis"),
    ("docs/turn.md", "half of the change from *t* = −1 to *t* = 1", THEORY),
    ("docs/turn.md", "those of the direction are 95 % intervals over z", THEORY),
    ("docs/arithmetic.md", "Exemplars are drawn from the half of the samples", SETTING),
    ("docs/arithmetic.md", "in brackets its 95 % interval, which takes each seed as one cluster", THEORY),
    ("docs/arithmetic.md", "Half of the samples are dark by construction", THEORY),
    ("docs/statistics.md", "half of each outcome", THEORY),
    ("docs/statistics.md", "cannot hold exactly 95 %, since counts are whole", THEORY),
    ("docs/speed.md", "what takes longer than 20 seconds runs once", SETTING),
    ("docs/speed.md", "at which it reads memory where that is longer", NAME),
    ("docs/speed.md", "from the size a quarter of it", NAME),
    ("docs/speed.md", "where the matrix is larger than a cache", SETTING),
    ("docs/speed.md", "a Gram matrix of 1.5 GiB", SETTING),
    ("docs/speed.md", "the peak of the smaller size", NAME),
    ("docs/filters.md", "with half of the gradient* is the smallest fraction of the image that contains half of", NAME),
    ("docs/ranks.md", "(`8 × cuda`)", "an example of output"),
    ("docs/ranks.md", "its 30 seconds of grace", "torchrun's own"),
    ("docs/ranks.md", "that of a smaller problem of ten classes", SETTING),
    ("docs/ranks.md", "67 TFLOP/s are an H100's in float32", "as its maker states"),
    ("docs/ranks.md", "would take a tenth of it, and ten times the passes", THEORY),
    ("docs/ranks.md", "does not shrink with the number of ranks", THEORY),
    ("docs/ranks.md", "Which is faster was not measured", "says so"),
]


@pytest.mark.parametrize("page", PAGES)
def test_no_number_is_said_that_was_not_measured(page):
    text = prose(page)
    defined = [said for where, said, _ in DEFINED if where == page]
    assert [said for said in defined if said not in text] == []
    for said in sorted([*defined, *claims(page)], key=len, reverse=True):
        text = text.replace(said, " … ")
    left = [text[max(found.start() - 80, 0) : found.end() + 60] for found in NUMBER.finditer(text)]
    assert left == [], "say it by a Claim, or in DEFINED why it needs none"


def test_the_tables_of_benchmarks_are_those_of_their_rows():
    assert (BENCHMARKS / "speed.md").read_text(encoding="utf-8") == table(SPEED)
    rows = csv.reader((BENCHMARKS / "coverage.csv").read_text(encoding="utf-8").splitlines())
    told = (BENCHMARKS / "coverage.md").read_text(encoding="utf-8").splitlines()
    assert [f"| {' | '.join(row)} |" for row in rows] == [told[0], *told[2:]]
