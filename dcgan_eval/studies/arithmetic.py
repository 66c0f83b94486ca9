"""Arithmetic with z (section 6.3.2 of the paper): smiling woman - neutral woman + neutral man = smiling man.

The paper averages three exemplars of each concept, because single ones were unstable, and shows one result. Here the
same is done over many draws of exemplars from several sets of samples, single ones and pixels beside it, and a
classifier counts what comes out.
"""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval import figures
from dcgan_eval.options import ArithmeticOptions
from dcgan_eval.results import Row
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.studies.judge import Attribute, attribute_of, certain, chosen_scores, judged
from dcgan_eval.studies.model import Model, apart
from dcgan_eval.studies.rows import clustered, repeated, row

EXEMPLARS = 3  # of each concept
SEEDS = 10  # of z: how often a result is right varies more between sets of samples than between draws from one
POOL = 3  # times as many are there at least to draw them from
NOISE = 0.25  # uniform in ± this, of the results around the middle
AROUND = 8


@dataclass(frozen=True)
class Term:
    """sign: 1 or -1. exemplars: indices of samples, or none where `names` says what they show."""

    sign: int
    exemplars: tuple[int, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return " & ".join(self.names) or ", ".join(map(str, self.exemplars))


def parse(expression: str, *, named: bool) -> list[Term]:
    """'A - B + C' with terms that are indices, '3,17,40', or where `named` values joined by &, 'female & dark'.

    Raises InputError for anything else. A sign stands between spaces.
    """
    parts = re.split(r"\s+([+-])\s+", expression.strip())
    terms = []
    for sign, text in zip(["+", *parts[1::2]], parts[0::2], strict=True):
        words = [word.strip() for word in text.split("&" if named else ",")]
        if not all(words) or (not named and not all(w.isascii() and w.isdigit() for w in words)):
            want = (
                "values joined by &, as in 'female - male + male'" if named else "indices, as in '3,17,40 - 5,8 + 2,9'"
            )
            raise InputError(f"expression {expression!r}: {text!r} is no term; want {want}")
        indices = () if named else tuple(int(word) for word in words)
        terms.append(Term(-1 if sign == "-" else 1, indices, tuple(words) if named else ()))
    if len(terms) < 2:
        raise InputError(f"expression {expression!r}: want at least two terms, as in 'A - B + C', signs between spaces")
    return terms


def expected(terms: Sequence[Term]) -> tuple[str, ...]:
    """What the result should show: the names added less those subtracted.

    Raises InputError where a name is left over below zero or more than once.
    """
    count: Counter[str] = Counter()
    for term in terms:
        for name in term.names:
            count[name] += term.sign
    if min(count.values()) < 0 or max(count.values()) != 1:
        left = ", ".join(f"{number:+d} {name}" for name, number in count.items() if number)
        raise InputError(
            f"the names of the expression come to {left or 'nothing'}; want each result once, to be judged"
        )
    return tuple(name for name, number in count.items() if number)


def combined(values: Tensor, groups: Sequence[Tensor], signs: Sequence[int]) -> Tensor:
    """The sum over groups, with their signs, of the mean of each group's rows. values: (n, ...); → (...)."""
    return sum(sign * values[rows].mean(0) for rows, sign in zip(groups, signs, strict=True))  # type: ignore[return-value]


def around(z: Tensor, seed: int) -> Tensor:
    """A 3x3 grid: z (d,) in the middle, and about it z with uniform noise in ±`NOISE`; (9, d)."""
    noise = (torch.rand(AROUND, len(z), generator=stream(seed, "noise")) * 2 - 1) * NOISE
    grid = z.expand(AROUND + 1, -1).clone()
    grid[[0, 1, 2, 3, 5, 6, 7, 8]] += noise
    return grid


@dataclass(frozen=True)
class Arithmetic:
    """Of the draw that is shown, the first of the first seed: exemplars, a row of images uint8 (k, C, H, W) for each
    term, the last being that of their mean z; the results 3x3 by means and by single exemplars (9, C, H, W), and in
    pixels (C, H, W). way: by the means of how many. wanted: what the result should show."""

    terms: list[Term]
    exemplars: list[Tensor]
    mean: Tensor
    single: Tensor
    pixels: Tensor
    way: str
    wanted: tuple[str, ...]
    rows: list[Row]


@exact()
def arithmetic(
    model: Model,
    expression: str,
    attributes: Sequence[Attribute] = (),
    options: ArithmeticOptions = ArithmeticOptions(),
) -> Arithmetic:
    """The result of an expression over z, with exemplars from the first samples of the seed.

    attributes: where there are any the terms are their values, exemplars are drawn from the samples that the choosers
    are sure of, and rows say in how many of the draws the judges find the expected values in the result: by means of
    `EXEMPLARS`, by single exemplars, by the same arithmetic in pixels; beside them of the last term alone, and of
    samples. Samples, the pools of exemplars and `draws` draws are repeated for `SEEDS` seeds of z, from the seed on;
    the mean fraction has an interval over seeds. Without, the terms are indices. In any case: how much noise changes
    the result.
    Raises InputError for exemplars out of range, and for values of which there are too few samples.
    """
    num, seed = options.num_samples, options.seed
    start = time.perf_counter()
    terms = parse(expression, named=bool(attributes))
    signs = [term.sign for term in terms]
    names = list(dict.fromkeys(name for term in terms for name in term.names))
    used = [attribute_of(name, attributes) for name in names]  # unknown ones are said first
    wanted = expected(terms) if attributes else ()
    for index in (index for term in terms for index in term.exemplars):
        if index >= num:
            raise InputError(f"exemplar {index}: samples are numbered 0 to {num - 1}; `num_samples` draws more")
    learnt = next((attribute for attribute in used if attribute.extractor is not None), None)
    words = _words(terms)
    common: dict[str, Any] = {
        "n_reference": num,
        "seed": seed,
        "data": learnt.data if learnt else None,
        "judge": learnt.extractor if learnt else None,
        **model.fields,
    }
    rows: list[Row] = []
    z, images = model.z(num, seed), model.samples(num, seed)
    if attributes:
        seeds = tqdm(range(seed, seed + SEEDS), desc="seeds of z", leave=False, disable=not model.run.progress)
        repeats = [_repeat(model, terms, wanted, attributes, options, some) for some in seeds]
        shown = repeats[0].shown
        took = time.perf_counter() - start
        sizes = ", ".join(
            f"{term} ({_range(sizes)})"
            for term, sizes in zip(terms, zip(*(repeat.pools for repeat in repeats), strict=True), strict=True)
        )
        about = "; ".join(dict.fromkeys(attribute.about for attribute in used))
        how = (
            f"share of results that are judged so, over {options.draws} draws of exemplars for each of {SEEDS} seeds "
            f"of z; samples to draw from: {sizes}; {about}"
        )
        for (way, metric), (_, each) in repeats[0].shares.items():
            shares = [repeat.shares[way, metric][0] for repeat in repeats]
            of = [attribute_of(name, attributes) for name in (wanted if metric not in names else (metric,))]
            if way == SAMPLES and all(attribute.by_median for attribute in of):  # a half by construction
                fields = {"unit": "%", **repeated([100 * share for share in shares], "seeds of z")}
            else:
                fields = clustered(shares, each, "seeds of z")
            rows.append(
                row(
                    "arithmetic", metric, question=words, condition=way, n=SEEDS * each, seconds=took, method=how,
                    **common, **fields,
                )
            )  # fmt: skip
    else:
        shown = [torch.tensor(term.exemplars) for term in terms]
    mean = _way(shown)
    grids = [model.draw(around(combined(z, some, signs), seed)) for some in (shown, [r[:1] for r in shown])]
    typical = apart(images[: num // 2], images[num // 2 : 2 * (num // 2)])
    for way, grid in dict(zip((mean, ONE), grids, strict=True)).items():
        change = apart(grid[4].expand_as(grid), grid)[[0, 1, 2, 3, 5, 6, 7, 8]]
        rows.append(
            row(
                "arithmetic", "change by noise", 100 * float(change.mean() / typical.mean()), unit="%",
                question=words, condition=way, method="root mean square of pixels between the result and those with "
                f"noise of ±{NOISE} around it, of that between two samples", n=AROUND,
                seconds=time.perf_counter() - start, **common,
            )
        )  # fmt: skip
    exemplars = [torch.cat([images[some], model.draw(z[some].mean(0, keepdim=True))]) for some in shown]
    pixels = _bytes(combined(images.float(), shown, signs))
    return Arithmetic(terms, exemplars, grids[0], grids[1], pixels, mean, wanted, rows)


ONE, SAMPLES = "one exemplar", "samples"  # conditions


@dataclass(frozen=True)
class _Repeat:
    """What one seed of z gives. shown: its first draw, rows of samples for each term. pools: how many samples there are
    to draw from for each. shares: by condition and metric, the fraction of results that are right, 0 to 1, and of how
    many."""

    shown: list[Tensor]
    pools: list[int]
    shares: Mapping[tuple[str, str], tuple[float, int]]


def _repeat(
    model: Model,
    terms: Sequence[Term],
    wanted: Sequence[str],
    attributes: Sequence[Attribute],
    options: ArithmeticOptions,
    seed: int,
) -> _Repeat:
    """Samples, pools, draws and their results for one seed of z."""
    num, signs = options.num_samples, [term.sign for term in terms]
    z = model.z(num, seed)
    images = model.samples(num, seed) if seed == options.seed else model.draw(z)  # of the others none is kept
    scores = chosen_scores([name for term in terms for name in term.names], images, attributes)
    try:
        pools = [certain(term.names, scores, attributes, POOL * EXEMPLARS) for term in terms]
        groups = [_pick(terms, pools, seed, draw) for draw in range(options.draws)]
    except InputError as error:
        raise InputError(f"seed {seed}: {error}") from None
    mean, pixels = _way(groups[0]), images.float()
    results = {
        mean: model.draw(torch.stack([combined(z, g, signs) for g in groups])),
        ONE: model.draw(torch.stack([combined(z, [r[:1] for r in g], signs) for g in groups])),
        f"{mean}, in pixels": _bytes(torch.stack([combined(pixels, g, signs) for g in groups])),
        "the last term alone": model.draw(torch.stack([z[g[-1]].mean(0) for g in groups])),
        SAMPLES: images,
    }
    shares = {}
    for way, some in results.items():
        right = judged(wanted, some, attributes)
        # each value by itself too: which of them gets lost
        for metric in dict.fromkeys([" & ".join(wanted), *wanted]):
            of = [right[metric]] if metric in right else list(right.values())
            shares[way, metric] = float(torch.stack(of).all(0).double().mean()), len(some)
    return _Repeat(groups[0], [len(pool) for pool in pools], shares)


def _range(sizes: Sequence[int]) -> str:
    return f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"


def _pick(terms: Sequence[Term], pools: Sequence[Tensor], seed: int, draw: int) -> list[Tensor]:
    """`EXEMPLARS` of each term, none of them twice in a draw, whatever terms share."""
    rng = stream(seed, "exemplars", draw)
    taken: set[int] = set()
    picked = []
    for term, pool in zip(terms, pools, strict=True):
        left = [row for row in pool[torch.randperm(len(pool), generator=rng)].tolist() if row not in taken]
        if len(left) < EXEMPLARS:
            raise InputError(
                f"{term}: {len(pool)} samples are too few for terms that share them; draw more by `num_samples`"
            )
        picked.append(torch.tensor(left[:EXEMPLARS]))
        taken.update(left[:EXEMPLARS])
    return picked


def _way(groups: Sequence[Tensor]) -> str:
    """By the means of how many the result is."""
    sizes = sorted({len(group) for group in groups})
    return f"mean of {sizes[0]}" if len(sizes) == 1 else f"means of {' and '.join(map(str, sizes))}"


def _bytes(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def _square(images: Tensor) -> Tensor:
    return images.reshape(3, 3, *images.shape[1:])


def _words(terms: Sequence[Term]) -> str:
    return " ".join([str(terms[0]), *(f"{'+' if term.sign > 0 else '−'} {term}" for term in terms[1:])])


def picture(found: Arithmetic, model: Model) -> figures.Picture:
    """The exemplars of every term and the image of their mean z, then the three results."""
    strips: list[figures.Tiles | list[figures.Tiles]] = []
    for term, images in zip(found.terms, found.exemplars, strict=True):
        names = [""] * (len(images) - 1) + ["of mean z"]
        sign = "−" if term.sign < 0 else "+"
        strips.append(figures.Tiles(f"{sign} {term}" if strips else f"{term}", images[None], columns=names))
    aim = " & ".join(found.wanted)
    right = {r.condition: f", {r.value:.0f} % {aim}" for r in found.rows if r.metric == aim}
    strips.append(
        [
            figures.Tiles(f"= {found.way}{right.get(found.way, '')}", _square(found.mean)),
            figures.Tiles(f"= one exemplar each{right.get(ONE, '')}", _square(found.single)),
            figures.Tiles(f"= pixels{right.get(f'{found.way}, in pixels', '')}", found.pixels[None, None]),
        ]
    )
    return figures.sheet(strips, f"{_words(found.terms)}, in z of {model.name}. Around the middle: noise of ±{NOISE}")
