import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from dcgan_eval.nearest import exact as search
from dcgan_eval.nearest.exact import inside_balls, k_nearest
from dcgan_eval.runtime.errors import InputError
from tests.builders import (
    NEIGHBOR_PROBLEMS,
    between,
    noise,
    normal,
    whole,
)

BF16, F32 = torch.bfloat16, torch.float32
PRECISIONS = {"bfloat16": [BF16], "float32": [F32], "both": [BF16, F32], "bytes": [torch.int8, F32]}


def by_definition(queries, database, k):
    """Distances and rows, equal distances by row; float64."""
    distances = cdist(queries.double(), database.double())
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


def check(queries, database, k):
    """All that is promised, against SciPy; rows but where its distances differ by rounding alone."""
    distances, rows = k_nearest(queries, database, k)
    assert (distances.dtype, rows.dtype) == (torch.float64, torch.int64)
    assert distances.shape == rows.shape == (len(queries), k)
    expected, order = by_definition(queries, database, min(len(database), k + 1))
    gaps = np.diff(expected, axis=1)
    close = np.pad((gaps > 0) & (gaps <= 1e-12 * expected[:, 1:]), ((0, 0), (1, 1)))
    sure = ~(close[:, 1:] | close[:, :-1])[:, :k]
    np.testing.assert_allclose(distances, expected[:, :k], rtol=1e-12, atol=0)
    np.testing.assert_array_equal(np.where(sure, rows, 0), np.where(sure, order[:, :k], 0))
    assert np.count_nonzero(sure) >= 0.95 * sure.size
    assert all(len(set(some)) == k for some in rows.tolist())


def check_balls(points, centres, radii):
    found = inside_balls(points, centres, radii)
    inside = cdist(points.double(), centres.double()) < radii.numpy()
    assert (found.counts.dtype, found.occupied.dtype) == (torch.int64, torch.bool)
    np.testing.assert_array_equal(found.counts, inside.sum(1))
    np.testing.assert_array_equal(found.occupied, inside.any(0))
    return inside


def fixed(monkeypatch, names):
    """These precisions alone, by the processor's own products or the same numbers without them; bytes where values are
    such."""
    monkeypatch.setattr(search, "sums_bytes", lambda device: torch.int8 in names)
    monkeypatch.setattr(search, "_precisions", lambda device: [name for name in names if name is not torch.int8])


@pytest.fixture(params=PRECISIONS)
def precisions(request, monkeypatch):
    fixed(monkeypatch, PRECISIONS[request.param])


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("problem", NEIGHBOR_PROBLEMS)
def test_nearest_are_those_of_scipy(problem):
    queries, database = NEIGHBOR_PROBLEMS[problem]()
    for k in sorted({1, min(6, len(database)), min(40, len(database))}):
        check(queries, database, k)


@pytest.mark.parametrize("problem", NEIGHBOR_PROBLEMS)
def test_candidates_of_faiss_give_the_same_answer(problem):
    queries, database = NEIGHBOR_PROBLEMS[problem]()
    for k in sorted({1, min(6, len(database))}):
        for ours, theirs in zip(
            k_nearest(queries, database, k), k_nearest(queries, database, k, engine="faiss"), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_faiss_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"faiss is not installed; pip install 'dcgan-eval\[faiss\]'"):
        k_nearest(normal(3, 4), normal(40, 4), 2, engine="faiss")


@pytest.mark.parametrize("engine", ["torch", "faiss"])
@pytest.mark.parametrize("problem", ["normal", "norms", "far", "pixels", "one row", "large", "small"])
def test_cosine_distances_are_those_of_scipy(problem, engine):
    queries, database = NEIGHBOR_PROBLEMS[problem]()
    k = min(6, len(database))
    distances, rows = k_nearest(queries, database, k, metric="cosine", engine=engine)
    expected = cdist(queries.double(), database.double(), "cosine")
    # scaled rows are rounded to float32, which moves each by 2⁻²⁴ of its length, and SciPy's 1 − cos cancels
    bound = 2**-23 * np.sqrt(2 * expected) + 2**-46 + 1e-15
    assert (abs(distances.numpy() - np.sort(expected, 1)[:, :k]) <= np.sort(bound, 1)[:, :k]).all()
    assert (abs(distances.numpy() - np.take_along_axis(expected, rows.numpy(), 1)) <= bound.max(1, keepdims=True)).all()


def test_cosine_knows_directions_only():
    x = whole(30, 12, 1) + 1
    distances, rows = k_nearest(x * 4, torch.cat([x, x * 2, -x]), 2, metric="cosine")
    assert distances.tolist() == [[0.0, 0.0]] * 30
    assert rows.tolist() == [[i, i + 30] for i in range(30)]
    assert k_nearest(x[:1], -x[:1], 1, metric="cosine")[0].item() == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize(("where", "message"), [(0, "the first query 2"), (1, "the first row 2")])
def test_rows_of_length_0_have_no_cosine(where, message):
    both = [normal(9, 4, 1), normal(30, 4, 2)]
    both[where][[2, 5]] = 0
    with pytest.raises(ValueError, match=f"2 rows of length 0, {message}, have no cosine distance"):
        k_nearest(both[0], both[1], 3, metric="cosine")


@pytest.mark.parametrize("problem", ["normal", "copies"])
def test_a_database_may_be_mapped_from_a_file(problem, tmp_path):
    queries, database = NEIGHBOR_PROBLEMS[problem]()
    np.save(tmp_path / "x.npy", database.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    for metric in ("euclidean", "cosine"):
        for here, there in zip(
            k_nearest(queries, database, 4, metric=metric), k_nearest(queries, mapped, 4, metric=metric), strict=True
        ):
            assert torch.equal(here, there)


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("problem", NEIGHBOR_PROBLEMS)
def test_balls_are_those_of_scipy(problem):
    points, centres = NEIGHBOR_PROBLEMS[problem]()
    for k in (1, min(3, len(points))):
        radii = between(points, centres, k)
        check_balls(points, centres, radii)
        check_balls(points, centres, radii * torch.linspace(0.5, 2, len(radii), dtype=torch.float64))


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("scale", [1e-19, 1e-20, 3e-22, 1e-22, 1e-30, 1e-42])
@pytest.mark.parametrize("call", ["nearest", "balls"])
def test_values_whose_products_underflow(scale, call):
    """Products of two values below 1e-19 are subnormal, which units for bfloat16 take for 0."""
    queries, database = normal(50, 64, 1) * scale, normal(500, 64, 2) * scale
    if call == "nearest":
        check(queries, database, 3)
    else:
        check_balls(queries, database, between(queries, database, 3))


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("k", [1, 2])
def test_squares_that_are_finite_and_add_up_to_infinity(k):
    """They may be refused, but not be wrong."""
    database = torch.tensor([[1.5e19], [-1.5e19]])
    calls = (check, k), (check_balls, torch.tensor([1e18, 3.1e19], dtype=torch.float64))
    for call, argument in calls:
        try:
            call(database, database, argument)
        except ValueError as error:
            assert "not finite" in str(error)  # noqa: PT017 - it may also not be raised


@pytest.mark.usefixtures("precisions")
def test_k_may_be_all_rows_and_there_may_be_one_row_or_no_query():
    check(normal(20, 6, 1), normal(150, 6, 2), 150)
    check(normal(5, 6, 1), normal(1, 6, 2), 1)
    check(normal(0, 6), normal(40, 6, 2), 3)
    assert inside_balls(normal(0, 6), normal(4, 6), torch.ones(4).double()).occupied.tolist() == [False] * 4


@pytest.mark.usefixtures("precisions")
def test_without_dimensions_everything_is_at_zero():
    distances, rows = k_nearest(torch.zeros(3, 0), torch.zeros(4, 0), 2)
    assert distances.tolist() == [[0.0, 0.0]] * 3
    assert rows.tolist() == [[0, 1]] * 3
    assert inside_balls(torch.zeros(3, 0), torch.zeros(2, 0), torch.ones(2).double()).counts.tolist() == [2] * 3


def test_no_balls_hold_nothing():
    found = inside_balls(normal(3, 5), normal(0, 5), torch.zeros(0, dtype=torch.float64))
    assert found.counts.tolist() == [0] * 3
    assert found.occupied.shape == (0,)


def watch(monkeypatch):
    """The precisions that candidates are looked for in, and "rows" for each query measured against all rows."""
    seen = []
    candidates, measured = search._candidates, search._measured

    def counted(queries, database, centre, k, dtype, search):
        seen.append(dtype)
        return candidates(queries, database, centre, k, dtype, search)

    def counted_rows(query, database, k):
        seen.append("rows")
        return measured(query, database, k)

    monkeypatch.setattr(search, "_candidates", counted)
    monkeypatch.setattr(search, "_measured", counted_rows)
    return seen


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x, torch.int8),
        (lambda x: x - 1e6, torch.int8),
        (lambda x: x[:, :15], BF16),  # few columns
        (lambda x: x / 2, BF16),
        (lambda x: x * 2, BF16),
        (lambda x: x + 2**24, BF16),
    ],
)
def test_values_that_are_bytes_are_searched_as_such(change, expected, monkeypatch):
    fixed(monkeypatch, [torch.int8, BF16])
    seen = watch(monkeypatch)
    queries, database = (change(x) for x in NEIGHBOR_PROBLEMS["pixels"]())
    k_nearest(queries, database, 3)
    assert seen == [expected]


@pytest.mark.usefixtures("precisions")
def test_a_product_that_is_wrong_is_noticed(monkeypatch):
    right = search._squared
    monkeypatch.setattr(search, "_squared", lambda a, b: right(a, b) * 0.7)
    with pytest.raises(RuntimeError, match="off by more than rounding"):
        k_nearest(*NEIGHBOR_PROBLEMS["pixels"](), 3)  # type: ignore[call-arg, arg-type]


def test_each_way_to_a_proof_is_taken(monkeypatch):
    """The problems above are those that bfloat16 settles, those that float32 does, and those that neither does."""
    fixed(monkeypatch, [BF16, F32])
    seen = watch(monkeypatch)
    for name, expected in {"normal": {BF16}, "noise": {BF16, F32}, "copies": {BF16, F32}}.items():
        seen.clear()
        queries, database = NEIGHBOR_PROBLEMS[name]()
        k_nearest(queries, database, 3)
        assert set(seen) == expected, name
    # of copies the distinct rows; where none are, row by row
    seen.clear()
    monkeypatch.setattr(search, "SPARE", 0)
    ring = torch.stack([torch.cos(torch.arange(64) * 0.1), torch.sin(torch.arange(64) * 0.1)], 1)
    k_nearest(torch.zeros(1, 2), ring, 3)
    assert set(seen) == {BF16, F32, "rows"}


def test_many_copies_are_not_measured_one_by_one(monkeypatch):
    monkeypatch.setattr(search, "_measured", None)
    distinct, queries = normal(20, 16, 1), normal(30, 16, 2)
    database = distinct[torch.arange(2000) % 20]
    distances, rows = k_nearest(torch.cat([database[:30], queries]), database, 50)
    expected, order = by_definition(torch.cat([database[:30], queries]), database, 50)
    assert rows.numpy().tolist() == order.tolist()
    np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=1e-12)


def test_many_pairs_close_to_a_sphere_are_sorted_out_in_float32(monkeypatch):
    points, centres = noise()
    radii = between(points, centres, 10)
    fixed(monkeypatch, [BF16, F32])
    seen = []
    inside = search._inside

    def counted(a, b, r):
        seen.append(a.values.dtype)
        return inside(a, b, r)

    monkeypatch.setattr(search, "_inside", counted)
    wanted = inside_balls(points, centres, radii)
    assert seen == [BF16]
    seen.clear()
    monkeypatch.setattr(search, "LIMIT", 10)
    found = inside_balls(points, centres, radii)
    assert seen == [BF16, F32]
    assert torch.equal(found.counts, wanted.counts)
    assert torch.equal(found.occupied, wanted.occupied)


BLOCKS = [
    {"QUERIES": 3},
    {"QUERIES": 5, "PRODUCT": 2},
    {"PRODUCT": 2, "VALUES": 48},
    {"VALUES": 24 * 30, "SPARE": 0},
    {"VALUES": 24 * 64, "SPARE": 1, "GROUPS": 2},
    {"SMALL": 1, "LIMIT": 1},
    {"SMALL": 24 * 3, "QUERIES": 7, "PRODUCT": 3, "VALUES": 24 * 7, "LIMIT": 0},
    {"VALUES": 10**9, "QUERIES": 10**9, "PRODUCT": 10**9, "SMALL": 10**9, "GROUPS": 1},
]


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("sizes", BLOCKS, ids=str)
def test_blocks_change_nothing(sizes, monkeypatch):
    """To the last bit."""
    queries, database = normal(37, 24, 3), normal(512, 24, 4) + 1
    database[100:140] = queries[5]
    distances, rows = k_nearest(queries, database, 9)
    points, radii = database[80:160], distances[:, 8]
    balls = inside_balls(points, queries, radii)
    for name, size in sizes.items():
        monkeypatch.setattr(search, name, size)
    again, same = k_nearest(queries, database, 9)
    assert torch.equal(rows, same)
    assert torch.equal(distances, again)
    found = inside_balls(points, queries, radii)
    assert torch.equal(found.counts, balls.counts)
    assert torch.equal(found.occupied, balls.occupied)


@pytest.mark.parametrize("groups", [2, 3, 16])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_smallest_of_groups_are_the_smallest(groups, k, monkeypatch):
    monkeypatch.setattr(search, "GROUPS", groups)
    values = whole(20, 960, k, high=50)
    found, columns = search._smallest(values, k)
    assert torch.equal(found.sort(1).values, values.sort(1).values[:, :k])
    assert torch.equal(values.gather(1, columns), found)
    assert all(len(set(some)) == k for some in columns.tolist())


@pytest.mark.parametrize("dtype", [BF16, F32])
@pytest.mark.parametrize("shape", [(1, 1, 3072), (1, 300, 2048), (300, 1, 2048), (2, 3, 1), (65, 129, 17), (64, 64, 3)])
@pytest.mark.parametrize("sign", [1, 0])
def test_bounds_hold(shape, dtype, sign):
    """What the proof rests on, whichever kernel makes the product; values of one sign add up their errors."""
    q, n, d = shape
    a, b = (x.abs() + 1 if sign else x for x in (normal(q, d, 1), normal(n, d, 2)))
    centre = 0.1 * normal(1, d, 3)[0]
    low, high = search._lowered(a, centre, dtype), search._lowered(b, centre, dtype)
    for x, lowered in ((a, low), (b, high)):
        error = (x.double() - centre.double() - lowered.values.double()).norm(dim=1)
        assert (error <= lowered.errors).all()
        # and is no more than three times as large as need be
        assert dtype is F32 or lowered.errors.max() < 3 * error.max() + 1e-6 * x.norm()
    squared = (search._squared(low, high) + low.squares[:, None]).double()
    exact = torch.from_numpy(cdist(low.values.double(), high.values.double(), "sqeuclidean"))
    assert ((squared - exact).abs() <= search._slack(low.squares[:, None], high.squares, dtype, d)).all()


@pytest.mark.usefixtures("precisions")
def test_a_row_that_rounding_moves_out_of_sight():
    """710.1 twice is 1004.2 from the query, as none else; in bfloat16 it is 712 twice, farther than all that is kept.

    The query is the centre, so that products of norms, and with them their rounding, are 0.
    """
    hidden, nearest = torch.tensor([[710.1, 710.1]]), torch.tensor([[1004.0, 28.0]])
    rest = torch.tensor([[1004.0, 45.0]]).repeat(40, 1)
    database = torch.cat([rest, nearest, hidden, -rest, -nearest, -hidden])
    distances, rows = k_nearest(torch.zeros(1, 2), database, 2)
    assert rows.tolist() == [[41, 83]]
    np.testing.assert_allclose(distances, float(hidden.double().norm()), rtol=1e-12)


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("values", [1, 500, 10**6])
def test_equal_distances_are_ordered_by_row(values, monkeypatch):
    monkeypatch.setattr(search, "VALUES", values)
    database = normal(300, 8) + 9
    database[50:250:20] = 1
    distances, rows = k_nearest(torch.zeros(3, 8), database, 5)
    assert rows.tolist() == [[50, 70, 90, 110, 130]] * 3
    np.testing.assert_array_equal(distances, np.full((3, 5), np.sqrt(8)))
    # the corners of a square, then its centre
    square = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]])
    assert k_nearest(torch.zeros(1, 2), square, 5)[1].tolist() == [[4, 0, 1, 2, 3]]


def test_copies_are_at_zero_and_near_copies_at_their_distance():
    database = torch.rand(500, 3072, generator=torch.Generator().manual_seed(0)) * 2 - 1
    near = database[:20].clone()
    distances, rows = k_nearest(near, database, 2)
    assert rows[:, 0].tolist() == list(range(20))
    assert distances[:, 0].tolist() == [0.0] * 20
    near[:, 0] += 1e-6
    check(near, database, 1)
    assert 0 < k_nearest(near, database, 1)[0].max() < 2e-6


def test_order_of_queries_and_rows_does_not_matter():
    queries, database = normal(20, 5, 1), normal(90, 5, 2)
    distances, rows = k_nearest(queries, database, 4)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    again, shuffled = k_nearest(queries.flip(0), database[order], 4)
    assert torch.equal(order[shuffled].flip(0), rows)
    assert torch.equal(again.flip(0), distances)


def test_views_are_taken_as_they_are():
    queries, database = normal(12, 30, 1), normal(12, 200, 2)
    expected, order = k_nearest(queries.T.contiguous()[::2], database.T.contiguous()[::2], 3)
    distances, rows = k_nearest(queries.T[::2], database.T[::2], 3)
    assert torch.equal(rows, order)
    assert torch.equal(distances, expected)


@pytest.mark.usefixtures("precisions")
def test_balls_are_open():
    """A radius that is a distance, to the last bit, holds what is nearer and not what is there."""
    points = normal(400, 24, 1) + 3
    for k in (1, 5):
        distances, _ = k_nearest(points, points, k + 1)
        # itself and k − 1 others
        assert check_on_itself(points, distances[:, k]) == k
        assert check_on_itself(points, distances[:, k].nextafter(torch.tensor(torch.inf).double())) == k + 1


def check_on_itself(points, radii):
    found = inside_balls(points, points, radii)
    assert found.occupied.all()
    return found.counts.double().mean()


@pytest.mark.usefixtures("precisions")
def test_radii_that_whole_numbers_hit(monkeypatch):
    points, centres = whole(300, 6, 1, high=5), whole(200, 6, 2, high=5)
    squares = (centres[:, None] - points[None]).square().sum(2).double()
    for row in (0, 10, 200):
        radii = rounded_root(squares.sort(1).values[:, row])
        inside = check_balls(points, centres, radii)
        assert 0 <= inside.mean() < 1
        np.testing.assert_array_equal(inside.T, squares < squares.sort(1).values[:, row, None])


@pytest.mark.usefixtures("precisions")
def test_radii_of_all_sizes():
    """As `<` has it: nothing is nearer than 0, than what is negative or than NaN, and everything than infinity."""
    centres = normal(40, 5, 2)
    points = torch.cat([centres[:30], normal(30, 5, 1)])
    for radius, inside in (
        (0.0, 0),
        (-3.0, 0),
        (torch.nan, 0),
        (-torch.inf, 0),
        (1e3, 40),
        (1e300, 40),
        (torch.inf, 40),
    ):
        found = inside_balls(points, centres, torch.full((40,), radius, dtype=torch.float64))
        assert found.counts.tolist() == [inside] * 60, radius
        assert found.occupied.tolist() == [inside > 0] * 40, radius
    # the smallest number above 0 holds copies, and nothing else
    found = inside_balls(points, centres, torch.full((40,), 5e-324, dtype=torch.float64))
    assert found.counts.tolist() == [1] * 30 + [0] * 30
    assert found.occupied.tolist() == [True] * 30 + [False] * 10


@st.composite
def grids(draw):
    """Small whole numbers, full of ties and copies, and sizes of blocks."""
    d, n, q = draw(st.integers(1, 4)), draw(st.integers(1, 70)), draw(st.integers(0, 8))
    high = draw(st.sampled_from([2, 3, 200]))
    shift = draw(st.sampled_from([0, 0, -1000, 5e5]))
    seed = draw(st.integers(0, 2**31))
    sizes = {
        "QUERIES": draw(st.integers(1, 9)),
        "PRODUCT": draw(st.integers(1, 9)),
        "VALUES": draw(st.integers(1, 300)),
        "SMALL": draw(st.integers(1, 300)),
        "SPARE": draw(st.integers(0, 5)),
        "GROUPS": draw(st.integers(1, 4)),
        "LIMIT": draw(st.integers(0, 50)),
    }
    return (
        whole(q, d, seed, high=high) + shift,
        whole(n, d, seed + 1, high=high) + shift,
        draw(st.integers(1, n)),
        sizes,
    )


def rounded_root(squares):
    """The root that IEEE 754 asks for; torch's is another one on some processors."""
    return torch.from_numpy(np.sqrt(squares.double().numpy()))


@given(grids(), st.sampled_from(list(PRECISIONS.values())))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_whole_numbers_are_exact(problem, names):
    """Rows and distances are those of integer arithmetic, ties and all, and so are balls that end at a point."""
    queries, database, k, sizes = problem
    squares = (queries[:, None].long() - database[None].long()).square().sum(2)
    order = squares.argsort(dim=1, stable=True)[:, :k]
    with pytest.MonkeyPatch.context() as monkeypatch:
        fixed(monkeypatch, names)
        for name, size in sizes.items():
            monkeypatch.setattr(search, name, size)
        distances, rows = k_nearest(queries, database, k)
        assert torch.equal(rows, order)
        assert torch.equal(distances, rounded_root(squares.gather(1, order)))
        reach = squares[0] if len(queries) else torch.ones(len(database), dtype=torch.int64)
        for plus in (0, 1):
            inside = squares < reach + plus
            found = inside_balls(queries, database, rounded_root(reach + plus))
            assert torch.equal(found.counts, inside.sum(1))
            assert torch.equal(found.occupied, inside.any(0))


@given(
    st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**31), st.floats(-9, 9), st.floats(0, 4),
    st.floats(0, 1), st.sampled_from(list(PRECISIONS.values())),
)  # fmt: skip
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_scale_spread_and_shift(d, n, seed, scale, spread, share, names):
    """Norms over up to eight decades, in any unit, around any centre, some rows of the database among the queries."""
    rows = normal(n, d, seed) * 10 ** (scale + spread * normal(n, 1, seed + 1).clamp(-1, 1))
    rows = rows + share * 10**scale * normal(1, d, seed + 2) * 100
    queries = torch.cat([rows[: n // 10 + 1], rows.mean(0, keepdim=True), rows[:5] * 1.001])
    with pytest.MonkeyPatch.context() as monkeypatch:
        fixed(monkeypatch, names)
        check(queries, rows, min(n, 4))
        radii = between(queries, rows, 2) * 1.0001
        check_balls(queries, rows, radii)


@pytest.mark.parametrize(("k", "d"), [(0, 3), (11, 3), (-1, 3), (2, 4)])
def test_what_does_not_fit_is_refused(k, d):
    with pytest.raises(ValueError, match=r"k=.* queries \(2, .*\) and database \(10, 3\) do not fit"):
        k_nearest(torch.zeros(2, d), torch.zeros(10, 3), k)


@pytest.mark.parametrize(("d", "radii"), [(4, 10), (3, 9), (3, 11)])
def test_balls_that_do_not_fit_are_refused(d, radii):
    with pytest.raises(ValueError, match=rf"points \(2, {d}\), centres \(10, 3\), radii \({radii},\)"):
        inside_balls(torch.zeros(2, d), torch.zeros(10, 3), torch.zeros(radii, dtype=torch.float64))


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e25, -3e38])
@pytest.mark.parametrize("where", ["queries", "database"])
def test_what_has_no_distances_in_float32_is_refused(value, where):
    """In any block, and among however many."""
    both = {"queries": normal(30, 4, 1), "database": normal(3000, 4, 2)}
    both[where][-2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        k_nearest(both["queries"], both["database"], 3)
    with pytest.raises(ValueError, match="not finite"):
        inside_balls(both["queries"], both["database"], torch.ones(3000, dtype=torch.float64))
