"""Scores of labels: by hand, against scikit-learn, the empty case, exact messages."""

import numpy as np
import pytest
from sklearn import metrics

from ushape.errors import DataError
from ushape.scoring.classes import class_scores, count_labels


def test_labels_counted_by_hand():
    matrix = count_labels(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    scores = class_scores(matrix, ("a", "b", "c"))
    assert scores["accuracy"] == 0.5
    assert scores["error"] == 0.5
    assert scores["precision b"] == pytest.approx(1 / 3)
    assert scores["recall a"] == 0.5
    assert scores["balanced accuracy"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores["mean F1"] == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    assert "precision c" not in scores
    assert scores["n_images"] == 4


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    reference, estimate = rng.integers(0, 5, (2, 300))
    scores = class_scores(count_labels(reference, estimate, 5), tuple("abcde"))
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(reference, estimate))
    assert scores["balanced accuracy"] == pytest.approx(metrics.balanced_accuracy_score(reference, estimate))
    assert scores["mean F1"] == pytest.approx(metrics.f1_score(reference, estimate, average="macro"))
    precision, recall, _, _ = metrics.precision_recall_fscore_support(reference, estimate)
    assert [scores[f"precision {c}"] for c in "abcde"] == pytest.approx(list(precision))
    assert [scores[f"recall {c}"] for c in "abcde"] == pytest.approx(list(recall))


def test_nothing_is_counted_of_nothing():
    nothing = np.zeros(0, int)
    assert class_scores(count_labels(nothing, nothing, 2), ("a", "b")) == {"n_images": 0}


@pytest.mark.parametrize(("label", "side"), [(2, "reference"), (-1, "reference"), (2, "estimate")])
def test_labels_out_of_range_are_refused(label, side):
    labels, zeros = np.array([label]), np.zeros(1, int)
    pair = (labels, zeros) if side == "reference" else (zeros, labels)
    with pytest.raises(DataError, match=rf"^expected labels 0 to 1 in the {side}, found {label}; name all classes$"):
        count_labels(*pair, 2)


def test_as_many_estimates_as_references():
    with pytest.raises(
        DataError, match=r"^expected as many estimated labels as there are references \(2\), found 1; g"
    ):
        count_labels(np.zeros(2, int), np.zeros(1, int), 2)


def test_each_class_has_a_name():
    with pytest.raises(DataError, match=r"^expected 2 class names, found 1; name each class once, in order$"):
        class_scores(np.eye(2, dtype=np.int64), ("a",))
