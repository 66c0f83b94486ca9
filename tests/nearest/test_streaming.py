"""Distances and errors by more and more samples: beside scikit-learn, whatever the blocks, and never held whole."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from dcgan_eval.images import from_tensor, open_split
from dcgan_eval.models.sampling import samples
from dcgan_eval.nearest import streaming
from dcgan_eval.nearest.streaming import by_samples, sizes_up_to
from dcgan_eval.runtime.errors import InputError
from tests.builders import conditional, digit_images, drawn_digits, source


def noise(n, seed=0, width=64):
    return torch.randint(0, 241, (n, width), generator=torch.Generator().manual_seed(seed))


def by_scikit_learn(queries, images, size):
    """Mean distance, and error of the classifier in %."""
    x, pool = (part.tensor().flatten(1).double().numpy() for part in (queries, images.subset(range(size))))
    classifier = KNeighborsClassifier(1, algorithm="brute").fit(pool, images.labels[:size].numpy())
    distances, _ = classifier.kneighbors(x)
    return distances.mean(), 100 * np.mean(classifier.predict(x) != queries.labels.numpy())


def check(queries, images, sizes):
    found = list(by_samples(queries, images, sizes))
    assert [point.samples for point in found] == list(sizes)
    for size, distance, error in found:
        assert (distance, error) == pytest.approx(by_scikit_learn(queries, images, size), rel=1e-9)
    return found


def test_mnist_is_scikit_learns(data):
    train, test = (open_split(f"{data / 'mnist.npz'}:{split}") for split in ("train", "test"))
    found = check(test.subset(range(300)), train.subset(range(4000)), (1, 10, 100, 1000, 4000))
    errors = [point.error for point in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 80
    assert 5 < errors[-1] < 15


def test_digits_are_scikit_learns():
    found = check(digit_images(range(900, 1797)), digit_images(range(900)), (1, 3, 30, 899, 900))
    assert found[-1].error < 6


@pytest.mark.parametrize("block", [1, 7, 100, 101, 10**6])
def test_blocks_change_nothing(block, monkeypatch):
    sets = digit_images(range(900, 1000)), digit_images(range(300))
    expected = list(by_samples(*sets, [100, 201, 300]))
    monkeypatch.setattr(streaming, "BLOCK", block)
    assert list(by_samples(*sets, [100, 201, 300])) == expected
    assert len({point.distance for point in expected}) == 3


def test_a_size_is_what_so_many_alone_would_give():
    queries, images = digit_images(range(900, 1000)), digit_images(range(300))
    for point in by_samples(queries, images, [1, 2, 50, 128, 300]):
        assert [point] == list(by_samples(queries, images, [point.samples]))
        only = images.subset(range(point.samples))
        assert [point] == list(by_samples(queries, only, [point.samples]))


@pytest.mark.parametrize("block", [1, 2, 3, 16384])
def test_ties_go_to_the_earlier_image(block, monkeypatch):
    """All at one distance from the query, or copies; within a block and across two."""
    monkeypatch.setattr(streaming, "BLOCK", block)
    around = [[10, 13], [13, 10], [10, 7], [7, 10]]
    queries = source([[10, 10], [10, 10], [50, 50]], [0, 3, 2])
    images = source([*around, [51, 50], [50, 51], [51, 50]], [3, 1, 2, 0, 2, 1, 0])
    found = list(by_samples(queries, images, [1, 4, 7]))
    assert [point.error for point in found] == pytest.approx([200 / 3, 200 / 3, 100 / 3])
    assert found[2].distance == pytest.approx((3 + 3 + 1) / 3)


def test_distances_are_of_pixels_up_to_255():
    queries, images = source([[0, 0, 0], [255, 255, 255]]), source([[255, 255, 255], [0, 0, 255]])
    one, two = by_samples(queries, images, [1, 2])
    assert (one.samples, two.samples) == (1, 2)
    assert (one.distance, two.distance) == pytest.approx((255 * np.sqrt(3) / 2, 255 / 2))
    assert one.error is two.error is None


@pytest.mark.parametrize(("of_queries", "of_source"), [(False, True), (True, False), (False, False)])
def test_without_labels_on_both_sides_there_is_no_error(of_queries, of_source):
    queries, images = digit_images(range(900, 950), of_queries), digit_images(range(100), of_source)
    [point] = by_samples(queries, images, [100])
    assert point.error is None
    assert point.distance == next(by_samples(digit_images(range(900, 950)), digit_images(range(100)), [100])).distance


def test_errors_are_of_the_queries_in_percent():
    queries = source([[0], [100], [200], [201]], [0, 1, 2, 0])
    assert next(by_samples(queries, source([[1], [101], [199]], [0, 1, 2]), [3])).error == 25
    assert next(by_samples(queries, queries, [4])) == (4, 0.0, 0.0)


def test_labels_are_their_classes():
    """Two folders, of which one lacks a class: a label is an index into the classes of its own source."""
    pixels = torch.tensor([[0], [100], [200]], dtype=torch.uint8)[:, None, None]
    queries = from_tensor(pixels[1:], torch.tensor([0, 1]), name="queries", classes=("1", "2"))
    images = from_tensor(pixels, torch.tensor([0, 1, 2]), name="source", classes=("0", "1", "2"))
    try:
        [point] = by_samples(queries, images, [3])
    except InputError:
        return
    assert point.error == 0


@pytest.mark.parametrize(("labels", "others"), [([0, -1], [0, 1]), ([0, -1, 1], [1, 0])])
def test_queries_without_a_label_are_left_out(labels, others):
    queries, images = source([[0], [100], [102]][: len(labels)], labels), source([[1], [101]], others)
    known = [i for i, label in enumerate(labels) if label >= 0]
    [point] = by_samples(queries, images, [2])
    assert point.error == next(by_samples(queries.subset(known), images, [2])).error


# generated samples


def watched(images):
    """The same, the ranges that are read, and how many of them were held at once."""
    reads: list[tuple[int, int]] = []
    alive: list[weakref.ref[torch.Tensor]] = []
    most: list[int] = []

    def read(rows):
        most.append(1 + sum(some() is not None for some in alive))
        out = images.read(rows)
        reads.append((rows.start, rows.stop))
        alive.append(weakref.ref(out))
        return out

    return replace(images, read=read), reads, most


@pytest.mark.parametrize("block", [128, 100])
def test_a_generated_source_is_read_once_block_by_block(block, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", block)
    images, reads, most = watched(drawn_digits(1000))
    x = digit_images(range(60), labelled=False).tensor().reshape(60, 1, 8, 8)
    queries = from_tensor(x, name="queries")
    sizes = [1, 130, 700]
    found = list(by_samples(queries, images, sizes))
    assert [start for start, _ in reads] == [0, *(stop for _, stop in reads[:-1])]
    assert reads[-1][1] == 700  # and nothing beyond
    assert max(stop - start for start, stop in reads) == block
    assert max(most) <= 2
    distances = cdist(x.flatten(1).double(), drawn_digits(700).tensor().flatten(1).double())
    expected = [distances[:, :size].min(1).mean() for size in sizes]
    assert [point.distance for point in found] == pytest.approx(expected, rel=1e-12)
    assert [(point.samples, point.error) for point in found] == [(size, None) for size in sizes]
    assert 0 < found[2].distance < found[1].distance < found[0].distance


def test_points_come_as_soon_as_they_are_known():
    images, reads, _ = watched(drawn_digits(500))
    points = by_samples(drawn_digits(20), images, [100, 500])
    assert next(points).samples == 100
    assert reads == [(0, 100)]
    assert next(points).samples == 500
    # a sample is the same whichever side it is on
    assert next(by_samples(drawn_digits(20), drawn_digits(30), [30])).distance == 0


def test_classes_of_a_conditional_generator_are_the_predictions():
    network = conditional()
    images = samples(network, 300, seed=0, name="gen:x", sha256="abc")
    queries = samples(network, 60, seed=1, name="gen:x", sha256="abc")
    check(queries, images, (1, 50, 300))
    same = images.subset(range(299, 239, -1))
    assert [point.error for point in by_samples(same, images, [300])] == [0]


# what is wrong


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "sizes : want ascending ones from 1 to the 20 there are"),
        ([0, 5], "sizes 0, 5: want ascending ones from 1 to the 20 there are"),
        ([-1], "sizes -1: want"),
        ([5, 3], "sizes 5, 3: want"),
        ([5, 5], "sizes 5, 5: want"),
        ([1, 21], "sizes 1, 21: want ascending ones from 1 to the 20 there are"),
    ],
)
def test_sizes_that_do_not_ascend_or_fit(sizes, message):
    images, reads, _ = watched(source(noise(20)))
    with pytest.raises(InputError, match=message):
        list(by_samples(source(noise(5)), images, sizes))
    assert reads == []


@pytest.mark.parametrize("width", [63, 65])
def test_images_of_another_shape(width):
    queries, images = source(noise(5), name="queries"), source(noise(20, width=width), name="samples")
    with pytest.raises(InputError, match=f"queries of 1x1x64 and samples of 1x1x{width} have no distances; both must"):
        list(by_samples(queries, images, [20]))


def test_as_many_values_in_another_shape_are_refused_too():
    images = from_tensor(noise(20).to(torch.uint8).reshape(20, 1, 8, 8), name="square")
    with pytest.raises(InputError, match="x of 1x1x64 and square of 1x8x8 have no distances"):
        list(by_samples(source(noise(5)), images, [20]))


def test_progress_is_on_standard_error_where_asked_for(capsys):
    for progress in (False, True):
        list(by_samples(source(noise(5)), source(noise(20), name="many"), [10, 20], progress=progress))
        captured = capsys.readouterr()
        assert ("many" in captured.err) == progress
        assert captured.out == ""


# what is kept of a search


class Stopped(Exception):  # noqa: N818
    pass


def stopping(images, after):
    """The same, but reading beyond so many stops the search, as a signal would."""

    def read(rows):
        if rows.stop > after:
            raise Stopped
        return images.read(rows)

    return replace(images, read=read)


@pytest.mark.parametrize("after", [0, 64, 100, 250])
def test_a_search_that_was_stopped_goes_on(after, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", 32)
    monkeypatch.setattr(streaming, "SAVE_SECONDS", 0.0)
    queries, images = digit_images(range(900, 1000)), digit_images(range(300))
    sizes, state = [100, 200, 300], tmp_path / "search.npz"
    with pytest.raises(Stopped):
        list(by_samples(queries, stopping(images, after), sizes, state=state))
    again, reads, _ = watched(images)
    assert list(by_samples(queries, again, sizes, state=state)) == list(by_samples(queries, images, sizes))
    assert reads[0][0] == {0: 0, 64: 64, 100: 100, 250: 232}[after]
    # it is all there: nothing is read again, and more images go on from there
    _, reads, _ = watched(images)
    assert list(by_samples(queries, again, sizes, state=state)) == list(by_samples(queries, images, sizes))
    assert reads == []


def test_a_search_goes_on_to_more_samples(tmp_path):
    queries, state = drawn_digits(20), tmp_path / "search.npz"
    few, _, _ = watched(drawn_digits(200))
    many, reads, _ = watched(drawn_digits(500))
    first = list(by_samples(queries, few, [100, 200], state=state))
    assert list(by_samples(queries, many, [100, 200, 500], state=state))[:2] == first
    assert reads == [(200, 500)]
    with pytest.raises(InputError, match=r"search.npz: the search has gone beyond 300 images; remove it"):
        list(by_samples(queries, many, [100, 300], state=state))


@pytest.mark.parametrize("other", ["queries", "source", "seed"])
def test_the_state_of_another_search_is_refused(other, tmp_path):
    queries, images, state = digit_images(range(900, 1000)), digit_images(range(300)), tmp_path / "search.npz"
    if other == "seed":
        images = samples(conditional(), 300, seed=0, name="gen:x", sha256="abc")
        queries = images.subset(range(10))
    list(by_samples(queries, images, [100], state=state))
    before = state.read_bytes()
    if other == "queries":
        queries = digit_images(range(901, 1001))
    else:
        network = samples(conditional(), 300, seed=1, name="gen:x", sha256="abc")
        images = digit_images(range(1, 301)) if other == "source" else network
    with pytest.raises(InputError, match=r"search.npz: is the state of another search"):
        list(by_samples(queries, images, [100, 200], state=state))
    assert state.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}", "pickle", "arrays"])
def test_what_is_no_state_is_refused(content, tmp_path):
    state = tmp_path / "search.npz"
    if content == "pickle":
        np.savez(state, identity=np.array([{}], dtype=object))
    elif content == "arrays":
        np.savez(state, x=np.zeros(3))
    else:
        state.write_bytes(content)
    with pytest.raises(InputError, match=r"search.npz: is not the state of a search"):
        list(by_samples(digit_images(range(900, 910)), digit_images(range(30)), [10], state=state))


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1]), (999, [999]), (1000, [1000]), (1001, [1000, 1001]), (70_000, [1000, 10_000, 70_000])]
)
def test_sizes_end_with_all(n, expected):
    assert sizes_up_to(n, (1000, 10_000, 100_000)) == expected
