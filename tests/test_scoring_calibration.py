"""Calibration against counting pixel by pixel, and against cases drawn by hand."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ushape.errors import DataError
from ushape.scoring.calibration import Calibration, count_calibration


def two(foreground: list[float]) -> np.ndarray:
    """Probabilities (2, n) of background and foreground."""
    return np.stack([1 - np.array(foreground), np.array(foreground)])


def by_hand(probabilities: np.ndarray, reference: np.ndarray, n_bins: int, foreground: bool) -> list[list[float]]:
    """[n, sum of probabilities, n right] of each bin, one pixel after another; the bin is found by its bounds."""
    table = [[0.0, 0.0, 0.0] for _ in range(n_bins)]
    for place in np.ndindex(reference.shape):
        said = [float(p) for p in probabilities[(slice(None), *place)]]
        is_class = int(reference[place])
        if is_class == -1:
            continue
        p = 1 - said[0] if foreground else max(said)
        right = is_class > 0 if foreground else said.index(max(said)) == is_class
        bound = [b for b in range(n_bins) if b / n_bins <= p][-1]
        table[bound][0] += 1
        table[bound][1] += p
        table[bound][2] += right
    return table


def test_drawn_by_hand():
    counted = count_calibration(two([0.1, 0.3, 0.9, 0.8, 0.5, 0.99]), np.array([0, 7, 3, 0, -1, 1]), 2, foreground=True)
    assert counted.n.tolist() == [2, 3]
    np.testing.assert_allclose(counted.confidence, [0.4, 2.69])
    assert counted.correct.tolist() == [1, 2]
    np.testing.assert_allclose(counted.mean_confidence, [0.2, 2.69 / 3])
    np.testing.assert_allclose(counted.share_correct, [0.5, 2 / 3])
    assert counted.expected_calibration_error == pytest.approx((abs(0.4 - 1) + abs(2.69 - 2)) / 5)
    assert counted.n_pixels == 5


def test_the_top_class_of_three():
    probabilities = np.array([[0.5, 0.2, 0.1], [0.3, 0.7, 0.3], [0.2, 0.1, 0.6]])
    counted = count_calibration(probabilities, np.array([0, 2, 2]), 10)
    assert counted.n.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert counted.correct.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert not counted.foreground


def test_foreground_is_everything_but_background():
    """Three classes (background, inside, border) against objects: what is either is foreground."""
    probabilities = np.array([[0.25, 0.75], [0.5, 0.125], [0.25, 0.125]])
    counted = count_calibration(probabilities, np.array([12, 0]), 4, foreground=True)
    assert counted.n.tolist() == [0, 1, 0, 1]
    assert counted.correct.tolist() == [0, 0, 0, 1]
    assert counted.confidence.tolist() == [0, 0.25, 0, 0.75]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 5]), st.sampled_from([1, 4, 16]), st.booleans())
def test_counting_agrees_with_one_pixel_after_another(seed, n_classes, n_bins, foreground):
    """Probabilities are multiples of 1/64 and bins of 1/16, so that both sides compute without rounding."""
    generator = np.random.default_rng(seed)
    probabilities = generator.multinomial(64, [1 / n_classes] * n_classes, (6, 7)).transpose(2, 0, 1) / 64
    reference = generator.integers(-1, n_classes, (6, 7))
    counted = count_calibration(probabilities, reference, n_bins, foreground=foreground)
    expected = np.array(by_hand(probabilities, reference, n_bins, foreground))
    np.testing.assert_array_equal(np.stack([counted.n, counted.confidence, counted.correct], axis=1), expected)


def test_a_truthful_network_has_no_error():
    """Labels drawn with the very probabilities that are stated."""
    generator = np.random.default_rng(0)
    said = generator.random(200_000)
    reference = (generator.random(200_000) < said).astype(int)
    assert count_calibration(two(list(said)), reference, foreground=True).expected_calibration_error < 0.01
    boastful = np.where(said > 0.5, 1.0, 0.0)
    error = count_calibration(two(list(boastful)), reference, foreground=True).expected_calibration_error
    assert error == pytest.approx(0.25, abs=0.01)


def test_counts_add_up():
    generator = np.random.default_rng(1)
    probabilities, reference = generator.dirichlet([1, 1, 1], (8, 9)).transpose(2, 0, 1), generator.integers(-1, 3, 72)
    reference = reference.reshape(8, 9)
    whole = count_calibration(probabilities, reference)
    parts = count_calibration(probabilities[:, :3], reference[:3]) + count_calibration(
        probabilities[:, 3:], reference[3:]
    )
    assert parts.n.tolist() == whole.n.tolist()
    assert parts.correct.tolist() == whole.correct.tolist()
    np.testing.assert_allclose(parts.confidence, whole.confidence)
    assert parts.expected_calibration_error == pytest.approx(whole.expected_calibration_error)


def test_nothing_counted_is_no_number():
    counted = count_calibration(two([0.3, 0.4]), np.array([-1, -1]), 3)
    assert counted.n_pixels == 0
    assert math.isnan(counted.expected_calibration_error)
    assert np.isnan(counted.mean_confidence).all()
    assert np.isnan(counted.share_correct).all()


def test_certainty_and_rounding_stay_in_the_last_bin():
    probabilities = np.array([[-1e-7, 1.0], [1.0000001, 0.0]], np.float32)
    counted = count_calibration(probabilities, np.array([1, 0]), 5, foreground=True)
    assert counted.n.tolist() == [1, 0, 0, 0, 1]
    assert counted.confidence.max() <= 1


def test_other_sizes_are_refused():
    message = (
        "expected probabilities of the reference's size (4, 5) for each class, found shape (2, 4, 4); "
        "compare each image with the mask of the same image"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        count_calibration(np.full((2, 4, 4), 0.5), np.zeros((4, 5), int))


def test_a_class_without_a_probability_is_refused():
    message = (
        "expected classes 0 to 1 in the reference, found 4; name all classes, or ask for the foreground of objects"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        count_calibration(two([0.5]), np.array([4]))


def test_other_bins_or_questions_do_not_add():
    some = count_calibration(two([0.5]), np.array([1]), 3)
    with pytest.raises(AssertionError, match="as many bins"):
        some + count_calibration(two([0.5]), np.array([1]), 4)
    with pytest.raises(AssertionError, match="one question"):
        some + Calibration(some.n, some.confidence, some.correct, foreground=True)
