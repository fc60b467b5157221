"""Pixel scores: drawn by hand, against scikit-learn, and the empty case."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, jaccard_score

from ushape.errors import DataError
from ushape.scoring.pixels import (
    confusion_matrix,
    dice_per_class,
    iou_per_class,
    pixel_accuracy,
    pixel_error,
    pixel_scores,
)


def test_rows_are_the_reference_and_ignored_pixels_are_left_out():
    reference = np.array([[0, 0, 1], [1, -1, 2]])
    estimate = np.array([[0, 1, 1], [2, 2, 2]])
    matrix = confusion_matrix(reference, estimate, 3)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_the_estimate_is_not_read_where_the_reference_is_ignored():
    assert confusion_matrix(np.array([-1, 1]), np.array([99, 1]), 2).tolist() == [[0, 0], [0, 1]]


def test_scores_of_a_matrix_written_by_hand():
    matrix = np.array([[50, 10], [20, 20]])
    assert pixel_accuracy(matrix) == pytest.approx(0.7)
    assert pixel_error(matrix) == pytest.approx(0.3)
    assert iou_per_class(matrix) == pytest.approx([50 / 80, 20 / 50])
    assert dice_per_class(matrix) == pytest.approx([100 / 130, 40 / 70])


@pytest.mark.parametrize("shape", [(40, 30), (7, 9, 11)])
def test_scikit_learn_counts_and_scores_the_same(shape):
    rng = np.random.default_rng(0)
    reference = rng.integers(-1, 4, shape)
    estimate = np.where(rng.random(shape) < 0.6, np.maximum(reference, 0), rng.integers(0, 4, shape))
    counted = reference >= 0
    r, e = reference[counted], estimate[counted]
    matrix = confusion_matrix(reference, estimate, 4)
    assert np.array_equal(matrix, sklearn_confusion(r, e, labels=range(4)))
    assert iou_per_class(matrix) == pytest.approx(jaccard_score(r, e, average=None), abs=1e-12)
    assert dice_per_class(matrix) == pytest.approx(f1_score(r, e, average=None), abs=1e-12)
    scores = pixel_scores(matrix, ("a", "b", "c", "d"))
    assert scores["mean IoU"] == pytest.approx(jaccard_score(r, e, average="macro"), abs=1e-12)
    assert scores["mean Dice"] == pytest.approx(f1_score(r, e, average="macro"), abs=1e-12)


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2)), max_size=40))
def test_counts_add_up_over_images_and_dice_follows_from_iou(pixels):
    reference = np.array([r for r, _ in pixels], np.int32)
    estimate = np.array([e for _, e in pixels], np.int32)
    half = len(pixels) // 2
    whole = confusion_matrix(reference, estimate, 3)
    parts = [confusion_matrix(reference[s], estimate[s], 3) for s in (slice(half), slice(half, None))]
    assert np.array_equal(whole, parts[0] + parts[1])
    assert whole.sum() == (reference >= 0).sum()
    iou = iou_per_class(whole)
    np.testing.assert_allclose(dice_per_class(whole), 2 * iou / (1 + iou))


def test_a_class_absent_from_both_sides_is_left_out_of_the_mean():
    matrix = confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 3)
    assert math.isnan(iou_per_class(matrix)[2])
    assert math.isnan(dice_per_class(matrix)[2])
    scores = pixel_scores(matrix, ("background", "cell", "dirt"))
    assert scores["mean IoU"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["mean Dice"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert "IoU dirt" not in scores
    assert scores["IoU cell"] == 0.5


def test_a_class_that_only_the_estimate_has_counts_as_wrong():
    matrix = confusion_matrix(np.array([0, 0]), np.array([0, 1]), 2)
    assert iou_per_class(matrix).tolist() == [0.5, 0.0]


def test_scores_are_json_even_without_a_pixel():
    scores = pixel_scores(confusion_matrix(np.array([-1]), np.array([0]), 2), ("background", "cell"))
    assert scores == {"n_pixels": 0}
    full = pixel_scores(np.array([[3, 1], [0, 2]]), ("background", "cell"))
    assert json.loads(json.dumps(full, allow_nan=False)) == full
    assert full["n_pixels"] == 6


def test_messages_say_what_was_found():
    with pytest.raises(
        DataError, match=r"^expected an estimate of the reference's size \(2, 2\), found \(2, 3\); score each estimate"
    ):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(DataError, match=r"^expected classes 0 to 1 in the reference, found 7; name all classes"):
        confusion_matrix(np.array([0, 7]), np.array([0, 0]), 2)
    with pytest.raises(DataError, match=r"^expected classes 0 to 1 in the estimate, found -1; name all classes"):
        confusion_matrix(np.array([0, 1]), np.array([0, -1]), 2)
    with pytest.raises(DataError, match=r"^expected 2 class names, found 1; name each class of the matrix once"):
        pixel_scores(np.eye(2, dtype=np.int64), ("background",))
