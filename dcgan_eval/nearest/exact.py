"""Exact nearest neighbours and balls by brute force, in blocks.

Distances are those of float64, by additions in a fixed order and a correctly rounded root: the same bits on every
processor. Only candidates are measured so: a matrix product of low precision finds them, and a bound proves that it
missed none. With a = c + ã + ε for a common centre c and a low-precision ã,

    | ‖a − b‖ − ‖ã − b̃‖ | ≤ ‖ε_a‖ + ‖ε_b‖        (triangle inequality)

and the computed ‖ã‖² + ‖b̃‖² − 2ã·b̃ is off by what its rounding allows. Queries whose bound is too loose are looked for
again in float32, then among the distinct rows or, where there are no copies, by every distance. Memory beyond the
arguments is that of a few blocks, but for rows with many copies, which are sorted, and cosine, which scales a copy.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.fast_ops import multiplies_bfloat16, product_of_bytes, sums_bytes
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.ranks import ALONE, Ranks
from dcgan_eval.runtime.rounding import root, sum_rows

Metric = Literal["euclidean", "cosine"]
Engine = Literal["torch", "faiss"]

QUERIES = 2**14  # queries that are lowered at a time, and
QUERY_VALUES = 2**25  # their values
PRODUCT = 1024  # of these, as many enter one matrix product
ROWS = 2**13  # rows of the database that are lowered at a time, and
VALUES = 2**24  # their values
SMALL = 2**18  # values that stay in a processor's cache from one step to the next
BYTES = 16  # dimensions from which bytes are worth it; products of one are wrong in torch
SPARE = 27  # candidates beyond k
GROUPS = 16  # a smallest value is looked for among so many at a time
LIMIT = 2**16  # pairs measured in float64 of a product of low precision, before float32 is tried


class _Lowered(NamedTuple):
    """Rows centred, in low precision: x = centre + values + ε. squares: ‖values‖². errors: at least ‖ε‖. float32."""

    values: Tensor
    squares: Tensor
    errors: Tensor


@exact()
def k_nearest(
    queries: Tensor,
    database: Tensor,
    k: int,
    *,
    metric: Metric = "euclidean",
    engine: Engine = "torch",
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Tensor]:
    """Distances, float64 (q, k) ascending, and rows, int64 (q, k), of each query's k nearest neighbours.

    queries (q, d), database (n, d): float32 on one device; the database may be mapped from a file. Exact: distances are
    computed from differences in float64, and equal ones are ordered by row. metric: Euclidean, or 1 − cos of the angle;
    that is exact of copies of the rows scaled to length 1 and rounded to float32, and of the rows themselves to 2⁻²³ of
    the root of twice the distance. engine: what finds candidates, the package faiss on CPUs; the answer is the same.
    ranks: each holds some rows of the database, which are numbered one rank after the other, and all queries; each gets
    the whole answer.
    Raises ValueError for another metric or engine, unless 1 ≤ k ≤ n and both have the same d, for values that are not
    finite, and for rows of length 0 under cosine; InputError where faiss is not installed.
    """
    if metric not in get_args(Metric) or engine not in get_args(Engine):
        raise ValueError(f"metric {metric!r} and engine {engine!r}: want {get_args(Metric)} and {get_args(Engine)}")
    if queries.device.type == "mps":  # has no float64
        distances, rows = k_nearest(queries.cpu(), database.cpu(), k, metric=metric, engine=engine, ranks=ranks)
        return distances.float().to(queries.device), rows.to(queries.device)
    if metric == "cosine":
        distances, rows = k_nearest(of_length_1(queries, "query"), of_length_1(database), k, engine=engine, ranks=ranks)
        return distances.square() / 2, rows
    if ranks.world > 1:
        return _over(ranks, queries, database, k, engine)
    n, d = database.shape
    if not 1 <= k <= n or queries.shape[1] != d:
        raise ValueError(f"k={k}, queries {tuple(queries.shape)} and database {tuple(database.shape)} do not fit")
    if not d:
        queries, database = queries.new_zeros(len(queries), 1), database.new_zeros(n, 1)
    device = queries.device
    levels, centre = ([torch.float32], _centre(database)) if engine == "faiss" else _levels(queries, database)
    search = _by_faiss if engine == "faiss" else _by_product
    distances = torch.empty(len(queries), k, dtype=torch.float64, device=device)
    rows = torch.empty(len(queries), k, dtype=torch.int64, device=device)
    for chunk in _parts(len(queries), min(QUERIES, QUERY_VALUES // queries.shape[1])):
        pending = torch.arange(chunk.start, chunk.stop, device=device)
        for dtype in levels:
            if len(pending):
                found, where, proven = _candidates(queries[pending], database, centre, k, dtype, search)
                distances[pending], rows[pending] = found, where
                pending = pending[~proven]
        if len(pending):  # more candidates at one distance than are kept: copies, as a rule
            distances[pending], rows[pending] = _among_copies(queries[pending], database, k)
    return distances, rows


def _over(ranks: Ranks, queries: Tensor, database: Tensor, k: int, engine: Engine) -> tuple[Tensor, Tensor]:
    """The nearest of the nearest of every rank's rows."""
    sizes = ranks.gathered(torch.tensor([len(database)], device=queries.device)).tolist()
    if not 1 <= k <= sum(sizes):
        raise ValueError(f"k={k} neighbours in a database of {sum(sizes)} rows")
    here = min(k, len(database))
    near = torch.full((len(queries), k), torch.inf, dtype=torch.float64, device=queries.device)
    rows = torch.full((len(queries), k), sum(sizes), device=queries.device)
    if here:
        near[:, :here], rows[:, :here] = k_nearest(queries, database, here, engine=engine)
        rows[:, :here] += sum(sizes[: ranks.rank])
    near, rows = (ranks.gathered(found[None]).movedim(0, 1).flatten(1) for found in (near, rows))
    return _ordered(near, rows, k)


class Inside(NamedTuple):
    """counts: int64 (n,), in how many balls each point lies. occupied: bool (m,), whether a ball holds any point."""

    counts: Tensor
    occupied: Tensor


@exact()
def inside_balls(points: Tensor, centres: Tensor, radii: Tensor, *, ranks: Ranks = ALONE) -> Inside:
    """Which points (n, d) lie strictly inside balls around centres (m, d) with radii (m,): ‖point − centre‖ < radius.

    points, centres: float32 on one device; radii: float64. Exact, as `k_nearest`. ranks: each holds some of the balls,
    and all points; each gets the whole answer. Raises ValueError for shapes that do not fit, and for values that are
    not finite.
    """
    if ranks.world > 1:
        found = inside_balls(points, centres, radii)
        return Inside(ranks.sum(found.counts), ranks.gathered(found.occupied))
    if points.shape[1] != centres.shape[1] or radii.shape != centres.shape[:1]:
        raise ValueError(f"points {tuple(points.shape)}, centres {tuple(centres.shape)}, radii {tuple(radii.shape)}")
    if not points.shape[1]:
        points, centres = points.new_zeros(len(points), 1), centres.new_zeros(len(centres), 1)
    if not len(centres):
        none = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        return Inside(none, torch.zeros(0, dtype=torch.bool, device=points.device))
    device = points.device
    if device.type == "mps":
        found = inside_balls(points.cpu(), centres.cpu(), radii.cpu())
        return Inside(found.counts.to(device), found.occupied.to(device))
    centre = _centre(centres)
    counts = torch.zeros(len(points), dtype=torch.int64, device=device)
    occupied = torch.zeros(len(centres), dtype=torch.bool, device=device)
    precisions = _precisions(device)
    for chunk in _parts(len(points), min(QUERIES, QUERY_VALUES // points.shape[1])):
        some = points[chunk]
        low = _lowered(some, centre, precisions[0])
        for rows, block in _blocks(centres, centre, precisions[0]):
            for part in _parts(len(some), PRODUCT):
                sure, pairs = _inside(_pick(low, part), block, radii[rows])
                if len(pairs) > LIMIT and len(precisions) > 1:
                    precise = [_lowered(x, centre, precisions[1]) for x in (some[part], centres[rows])]
                    sure, pairs = _inside(precise[0], precise[1], radii[rows])
                i, j = pairs.T
                near = _distances(some[part], centres[rows], i, j) < radii[rows][j]
                sure[i[near], j[near]] = True
                counts[chunk][part] += sure.sum(1)
                occupied[rows] |= sure.any(0)
    return Inside(counts, occupied)


def _levels(queries: Tensor, database: Tensor) -> tuple[list[torch.dtype], Tensor]:
    """Precisions to search in, from fast to precise, and the centre."""
    centre = _centre(database)
    if sums_bytes(queries.device) and BYTES <= queries.shape[1] <= 2**16:  # sums stay below 2³¹
        middle = _middle(queries, database)
        if middle is not None:
            return [torch.int8, torch.float32], torch.full_like(centre, middle)
    return _precisions(queries.device), centre


def _precisions(device: torch.device) -> list[torch.dtype]:
    """From fast to precise: bfloat16 where there are instructions for it."""
    return [torch.bfloat16, torch.float32] if multiplies_bfloat16(device) else [torch.float32]


def _centre(x: Tensor) -> Tensor:
    """A mean of some rows, to leave small numbers; of integers such as pixels an integer, so that they stay exact."""
    sample = x[:: max(1, len(x) // 1000)]
    mean = sample.double().mean(0).float()
    return mean.round() if bool((sample == sample.round()).all()) else mean


def _middle(*sets: Tensor) -> float | None:
    """What is subtracted to make all values bytes, as it does of pixels; None where that cannot be."""
    if any(bool((x[:: max(1, len(x) // 1000)] % 1 != 0).any()) for x in sets):  # most are not; soon seen
        return None
    low, high = torch.inf, -torch.inf
    for x in sets:
        for part in _parts(len(x), SMALL // x.shape[1]):
            if bool((x[part] % 1 != 0).any()):
                return None
            low, high = min(low, float(x[part].amin())), max(high, float(x[part].amax()))
    # larger values than these may not differ by 1 in float32
    return (low + high + 1) // 2 if high - low <= 255 and max(abs(low), abs(high)) < 2**23 else None


def _lowered(x: Tensor, centre: Tensor, dtype: torch.dtype) -> _Lowered:
    values = torch.empty(x.shape, dtype=dtype, device=x.device)
    squares, errors = torch.empty(len(x), device=x.device), torch.empty(len(x), device=x.device)
    for part in _parts(len(x), SMALL // x.shape[1]):
        if dtype is torch.float32:  # nothing is lost but what the subtraction rounds
            squares[part] = torch.linalg.vecdot(*[torch.sub(x[part], centre, out=values[part])] * 2)
            errors[part] = 2**-22 * squares[part].sqrt() + x.shape[1] * 2**-70
            continue
        centred = x[part] - centre
        values[part] = centred
        back = values[part].float()
        squares[part] = back.square().sum(1)
        # the subtraction rounds to 2⁻²⁴ of its result, and so do these sums to a little more
        errors[part] = (centred - back).norm(dim=1) * 1.001 + 2**-23 * centred.norm(dim=1) + x.shape[1] * 2**-70
    if not bool((squares + errors < 2.0**124).all()):
        raise ValueError("values that are not finite, or whose squares are not, have no distances in float32")
    return _Lowered(values, squares, errors)


def _pick(rows: _Lowered, part: slice) -> _Lowered:
    return _Lowered(*(field[part] for field in rows))


def of_length_1(x: Tensor, what: str = "row") -> Tensor:
    """The rows of x, float32 (n, d), scaled to length 1. Raises ValueError for those of length 0."""
    none = torch.nonzero(~x.any(1))[:, 0]
    if len(none):
        raise ValueError(f"{len(none)} rows of length 0, the first {what} {int(none[0])}, have no cosine distance")
    out = torch.empty_like(x)
    for part in _parts(len(x), SMALL // max(1, x.shape[1])):
        rows = x[part].double()
        out[part] = rows / root(sum_rows(rows * rows))[:, None]
    return out


def _parts(n: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(i, min(i + size, n)) for i in range(0, n, size))


def _blocks(x: Tensor, centre: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, _Lowered]]:
    size = min(VALUES // x.shape[1], ROWS)
    for rows in _parts(len(x), size - size % GROUPS if size > GROUPS else size):
        yield rows, _lowered(x[rows], centre, dtype)


def _rounding(dtype: torch.dtype, d: int) -> float:
    """How far 2ã·b̃ as computed may be off, in units of ‖ã‖‖b̃‖: float32 sums of d products, and a rounded result."""
    if dtype is torch.int8:  # whose sums are exact
        return 2 * 2**-23
    result = 2**-8 if dtype is torch.bfloat16 else 2**-23
    return 2 * (d * 2**-23 + result)


def _squared(a: _Lowered, b: _Lowered) -> Tensor:
    """‖b̃‖² − 2ã·b̃, float32 (len(a), len(b)); rows of `a` differ from squared distances by ‖ã‖²."""
    if a.values.is_cuda and a.values.dtype is torch.bfloat16:  # partial sums must not be rounded to bfloat16
        product = torch.mm(a.values, b.values.T, out_dtype=torch.float32)
    elif a.values.dtype is torch.int8:
        product = product_of_bytes(a.values, b.values.T)
    elif a.values.dtype is torch.float32:
        # where each row of a product begins at a multiple of 64 bytes, it comes up to 1.5 times faster
        n = len(b.values)
        wide = torch.empty(len(a.values), -(-n // GROUPS) * GROUPS, device=a.values.device)
        product = torch.mm(a.values, b.values.T, out=wide[:, :n])
    else:
        product = functional.linear(a.values, b.values).float()
    return product.mul_(-2).add_(b.squares)


def _slack(squares: Tensor, largest: Tensor, dtype: torch.dtype, d: int) -> Tensor:
    """A bound of the error of ‖ã‖² + ‖b̃‖² − 2ã·b̃, for ‖b̃‖² up to `largest`; squares, sums and the root round, too."""
    return _rounding(dtype, d) * squares.sqrt() * largest.sqrt() + (d + 8) * (2**-23 * (squares + largest) + 2**-120)


def _candidates(
    queries: Tensor,
    database: Tensor,
    centre: Tensor,
    k: int,
    dtype: torch.dtype,
    search: Callable[[_Lowered, _Lowered, int], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances and rows of the k nearest among the likeliest, and whether those are proven to be the nearest."""
    n, d = database.shape
    kept = min(n, k + SPARE)
    low = _lowered(queries, centre, dtype)
    best = torch.empty(len(queries), 0, device=queries.device)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    squares, errors = torch.empty(n, device=queries.device), torch.empty(n, device=queries.device)
    for here, block in _blocks(database, centre, dtype):
        squares[here], errors[here] = block.squares, block.errors
        near, index = search(low, block, kept)
        values, which = torch.cat([best, near], 1), torch.cat([rows, index + here.start], 1)
        best, order = values.topk(min(kept, values.shape[1]), largest=False)
        rows = which.gather(1, order)
    # bounds of the distance to every candidate
    square, slack = best + low.squares[:, None], _slack(low.squares[:, None], squares[rows], dtype, d)
    spread = low.errors[:, None] + errors[rows]
    least = (square - slack).clamp_min(0).sqrt() - spread
    most = (square + slack).clamp_min(0).sqrt() + spread
    # of those that may be among the k nearest, the distance itself
    i, j = torch.nonzero(least <= most.kthvalue(k, dim=1, keepdim=True).values * (1 + 2**-20), as_tuple=True)
    distances = torch.full(best.shape, torch.inf, dtype=torch.float64, device=queries.device)
    found = _distances(queries, database, i, rows[i, j])
    if not bool(((found >= least[i, j] * (1 - 2**-20)) & (found <= most[i, j] * (1 + 2**-20))).all()):
        raise RuntimeError(f"a product of matrices in {dtype} is off by more than rounding; report this with your CPU")
    distances[i, j] = found
    nearest, where = _ordered(distances, rows, k)
    if kept == n:
        return nearest, where, torch.ones(len(queries), dtype=torch.bool, device=queries.device)
    # everything else is at least as far as the last candidate, in low precision
    beyond = best[:, -1] + low.squares - _slack(low.squares, squares.max(), dtype, d)
    beyond = beyond.clamp_min(0).sqrt() * (1 - 2**-20) - low.errors - errors.max()
    return nearest, where, nearest[:, -1] < beyond


def _by_product(queries: _Lowered, block: _Lowered, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest ‖b̃‖² − 2ã·b̃ of each query, in no order, and the rows b in the block."""
    near = [_smallest(_squared(_pick(queries, part), block), k) for part in _parts(len(queries.values), PRODUCT)]
    return torch.cat([values for values, _ in near]), torch.cat([index for _, index in near])


def _by_faiss(queries: _Lowered, block: _Lowered, k: int) -> tuple[Tensor, Tensor]:
    """The same by faiss, in float32, whose rounding is no larger."""
    try:
        import faiss
    except ImportError as error:
        raise InputError("faiss is not installed; pip install 'dcgan-eval[faiss]'") from error
    a, b = (part.values.cpu().numpy() for part in (queries, block))
    squares, index = (torch.from_numpy(found) for found in faiss.knn(a, b, min(k, len(b))))
    return squares.to(queries.squares) - queries.squares[:, None], index.to(queries.values.device)


def _smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row, in no order, and their columns."""
    n, width = values.shape
    groups = width // GROUPS
    if width % GROUPS or groups < 2 * k:
        return values.topk(min(k, width), largest=False)
    # the k smallest values lie in the k groups with the smallest minima
    split = values.view(n, GROUPS, groups)
    group = split.amin(1).topk(k, largest=False, sorted=False).indices
    inside = split.gather(2, group[:, None].expand(-1, GROUPS, -1)).flatten(1)
    smallest, index = inside.topk(k, largest=False, sorted=False)
    return smallest, index // k * groups + group.gather(1, index % k)


def _among_copies(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest, sought among distinct rows; row by row where there are no copies."""
    _, first, group = np.unique(
        _bytes(database + 0.0),
        return_index=True,
        return_inverse=True,  # -0 is 0
    )
    if len(first) == len(database):
        found = [_measured(query, database, k) for query in queries]
        return torch.stack([f[0] for f in found]), torch.stack([f[1] for f in found])
    by_first = np.argsort(first)  # so that equal distances are ordered by row
    distinct = torch.from_numpy(first[by_first]).to(database.device)
    copies = [members[:k] for members in np.split(*_split(np.argsort(by_first)[group]))]
    near, which = k_nearest(queries, database[distinct], min(k, len(distinct)))
    distances = torch.empty(len(queries), k, dtype=torch.float64, device=queries.device)
    rows = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    for i, (values, groups) in enumerate(zip(near.cpu().numpy(), which.tolist(), strict=True)):
        members = np.concatenate([copies[g] for g in groups])
        each = np.repeat(values, [len(copies[g]) for g in groups])
        order = np.lexsort((members, each))[:k]
        distances[i], rows[i] = torch.from_numpy(each[order]), torch.from_numpy(members[order])
    return distances, rows


def _bytes(x: Tensor) -> NDArray[np.void]:
    """Each row as one value, to be compared to the bit."""
    plain = np.ascontiguousarray(x.cpu().numpy())
    return plain.view(np.dtype((np.void, plain.shape[1] * plain.itemsize))).ravel()


def _split(group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Members by group, ascending, and where the groups after the first begin."""
    order = np.argsort(group, kind="stable")
    return order, np.flatnonzero(np.diff(group[order])) + 1


def _measured(query: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of one query, by every distance."""
    n = len(database)
    rows = torch.arange(n, device=query.device)
    distances = _distances(query[None], database, torch.zeros_like(rows), rows)
    nearest, where = _ordered(distances[None], rows[None], k)
    return nearest[0], where[0]


def _inside(points: _Lowered, centres: _Lowered, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each point is certainly in each ball, bool (n, m), and the pairs (p, 2) for which that is not certain."""
    d, dtype = points.values.shape[1], points.values.dtype
    slack = _slack(points.squares.max(), centres.squares, dtype, d)
    spread = centres.errors + points.errors.max()
    outer = (radii.float() * (1 + 2**-20) + spread).square() + slack
    inner = (radii.float() * (1 - 2**-20) - spread).clamp_min(0).square() - slack
    squared = _squared(points, centres).add_(points.squares[:, None])
    sure = squared < inner
    return sure, torch.nonzero((squared <= outer) & ~sure)


def _distances(a: Tensor, b: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """‖a[i] − b[j]‖ for pairs of rows, float64 (pairs,); the same bits on every processor, so that ties are ties."""
    out = torch.empty(len(i), dtype=torch.float64, device=a.device)
    for some in _parts(len(i), SMALL // a.shape[1]):
        difference = a[i[some]].double() - b[j[some]].double()
        out[some] = root(sum_rows(difference * difference))
    return out


def _ordered(values: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest values and their rows; equal values by row."""
    by_row = rows.argsort(1)
    values, rows = values.gather(1, by_row), rows.gather(1, by_row)
    order = values.argsort(dim=1, stable=True)[:, :k]
    return values.gather(1, order), rows.gather(1, order)
