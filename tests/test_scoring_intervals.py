"""Intervals by bootstrap: the fast way equals the slow way, and both mean what they say."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap

from ushape.errors import DataError
from ushape.scoring.classes import class_scores, count_labels
from ushape.scoring.intervals import (
    BLOCK,
    bootstrap_intervals,
    drawn,
    label_intervals,
    object_intervals,
    pixel_intervals,
    ratio_intervals,
)
from ushape.scoring.objects import ObjectCounts, object_scores
from ushape.scoring.pixels import pixel_scores


def counts_of(n, seed=0, complete=lambda _: True):
    """Images with some objects found, some missed and some invented; every fifth has none at all."""
    rng = np.random.default_rng(seed)
    counts = []
    for index in range(n):
        if index % 5 == 4:
            counts.append(ObjectCounts(0, 0, (), (), (), complete(index)))
            continue
        ious = tuple(rng.uniform(0.5, 1, int(rng.integers(1, 9))).tolist())
        margin = tuple(rng.uniform(0.5, 1, int(rng.integers(0, 2))).tolist())
        missed = int(rng.integers(0, 4))
        seg = ious + margin + (0.0,) * missed
        counts.append(ObjectCounts(len(seg), len(ious) + int(rng.integers(0, 3)), ious, margin, seg, complete(index)))
    return counts


def matrices_of(n, n_classes, seed=0):
    return list(np.random.default_rng(seed).integers(0, 50, (n, n_classes, n_classes)))


def close(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == pytest.approx(expected[name], abs=1e-12), name


# The fast way is the slow way.


@pytest.mark.parametrize("complete", [lambda _: True, lambda index: index % 3 > 0, lambda _: False])
def test_intervals_of_objects_are_those_of_object_scores_on_every_draw(complete):
    counts = counts_of(12, complete=complete)
    slow = bootstrap_intervals(counts, object_scores, n_resamples=60)
    close(object_intervals(counts, n_resamples=60), slow)
    assert set(slow) == {name for name in object_scores(counts) if not name.startswith("n_")}


def test_images_that_are_all_ignored_are_in_no_interval_of_a_mean_over_images():
    counts = [replace(c, scorable=index % 5 != 4) for index, c in enumerate(counts_of(12))]
    close(object_intervals(counts, n_resamples=60), bootstrap_intervals(counts, object_scores, n_resamples=60))
    assert object_intervals(counts)["PQ per image"] != object_intervals(counts_of(12))["PQ per image"]


def test_intervals_of_pixels_are_those_of_pixel_scores_on_every_draw():
    classes, matrices = ["background", "cell", "nucleus"], matrices_of(9, 3)

    def score(drawn):
        return pixel_scores(np.sum(drawn, axis=0), classes)

    slow = bootstrap_intervals(matrices, score, n_resamples=60, level=0.8, seed=3)
    close(pixel_intervals(matrices, classes, n_resamples=60, level=0.8, seed=3), slow)
    assert set(slow) == {name for name in score(matrices) if name != "n_pixels"}


def test_intervals_of_labels_are_those_of_class_scores_on_every_draw():
    rng = np.random.default_rng(2)
    references, classes = rng.integers(0, 3, 40), ["cat", "dog", "bird", "never there"]
    estimates = np.where(rng.random(40) < 0.7, references, rng.integers(0, 3, 40))

    def score(drawn):
        reference, estimate = np.array(drawn).T
        return class_scores(count_labels(reference, estimate, 4), classes)

    slow = bootstrap_intervals(list(zip(references, estimates, strict=True)), score, n_resamples=60)
    close(label_intervals(references, estimates, classes, n_resamples=60), slow)
    assert set(slow) == {name for name in score(list(zip(references, estimates, strict=True))) if name != "n_images"}
    assert label_intervals(references[:2], estimates[:2], classes) == {}


def test_a_class_that_some_draws_lack_is_left_out_of_their_mean_only():
    """The third class is in two of six images: its own score has no interval, the mean over classes has one."""
    matrices, classes = matrices_of(6, 3), list("abc")
    for matrix in matrices[2:]:
        matrix[2] = matrix[:, 2] = 0
    slow = bootstrap_intervals(matrices, lambda drawn: pixel_scores(np.sum(drawn, axis=0), classes), n_resamples=80)
    fast = pixel_intervals(matrices, classes, n_resamples=80)
    close(fast, slow)
    assert "mean IoU" in fast
    assert "IoU c" not in fast


def test_images_without_any_object_have_no_intervals():
    empty = [ObjectCounts(0, 0, (), (), ())] * 4
    assert bootstrap_intervals(empty, object_scores, n_resamples=5) == {}
    assert object_intervals(empty, n_resamples=5) == {}


def test_draws_in_blocks_are_scored_like_draws_at_once(monkeypatch):
    counts = counts_of(7)
    at_once = object_intervals(counts, n_resamples=50)
    monkeypatch.setattr("ushape.scoring.intervals.BLOCK", 7 * 3)
    assert [len(block) for block in drawn(7, 50, 0)] == [3] * 16 + [2]
    close(object_intervals(counts, n_resamples=50), at_once)
    assert BLOCK >= 1_000_000


# They mean what they say.


def test_every_draw_has_as_many_images_as_there_are():
    blocks = np.concatenate(list(drawn(5, 2000, 0)))
    assert blocks.shape == (2000, 5)
    assert set(blocks.sum(axis=1)) == {5}
    assert blocks.mean(axis=0) == pytest.approx(np.ones(5), abs=0.1)
    assert np.mean(blocks == 0) == pytest.approx(0.8**5, abs=0.02)


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = np.random.default_rng(1).normal(10, 2, 40)
    found = bootstrap_intervals(values.tolist(), lambda drawn: {"mean": float(np.mean(drawn))}, n_resamples=4000)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    assert found["mean"] == pytest.approx((expected.low, expected.high), abs=0.05)


def test_a_higher_level_and_fewer_images_give_wider_intervals():
    many, few = counts_of(80), counts_of(8)

    def width(counts, **options):
        low, high = object_intervals(counts, **options)["AP@0.5"]
        return high - low

    assert width(many, level=0.5) < width(many) < width(few)


def test_the_score_itself_lies_inside():
    counts = counts_of(30)
    scores = object_scores(counts)
    for name, (low, high) in object_intervals(counts).items():
        assert low < scores[name] < high, name


def test_the_seed_decides_and_nothing_else():
    counts = counts_of(10)
    assert object_intervals(counts) == object_intervals(counts)
    assert object_intervals(counts, seed=1) != object_intervals(counts)


def test_all_images_alike_give_no_interval():
    assert ratio_intervals({"share": (np.full((5, 1), 3.0), np.full((5, 1), 4.0))}) == {}


# Where there is none.


def test_fewer_than_three_images_have_no_interval():
    for n in (0, 1, 2):
        assert object_intervals(counts_of(n)) == {}
        assert pixel_intervals(matrices_of(n, 2), ["a", "b"]) == {}
        assert bootstrap_intervals(counts_of(n), object_scores) == {}
    assert object_intervals(counts_of(3))


def test_a_score_that_one_image_of_three_decides_has_none():
    """A third of the draws squared is 30 %: so many know nothing of the object."""
    counts = [ObjectCounts(1, 1, (0.8,), (), (0.8,)), *[ObjectCounts(0, 0, (), (), ())] * 2]
    assert "SEG" not in object_intervals(counts)
    assert "SEG" not in bootstrap_intervals(counts, object_scores, n_resamples=100)
    assert object_intervals(counts)["PQ per image"][1] == 1


@pytest.mark.parametrize("options", [{"n_resamples": 0}, {"level": 1.0}, {"level": 95}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(DataError, match=r"^expected at least 1 resample and a level between 0 and 1, found \d+ and "):
        bootstrap_intervals(counts_of(4), object_scores, **options)
    with pytest.raises(DataError, match=r"; 1000 and 0.95 are usual$"):
        object_intervals(counts_of(4), **options)
