"""Scores of classified images: one class for each image, and how sure the network was.

Conventions
- The reference stands first, the estimate second: (N,) integers in [0, n_classes). Every image counts the same.
- A confusion matrix has a row for each reference class and a column for each estimated one.
- Precision of a class: of what was called so, the share that is so. Recall: of what is so, the share called so.
- The empty case: a ratio over nothing is undefined and has no entry, and no part in a mean.

Reference: Guo et al. 2017, On Calibration of Modern Neural Networks (expected calibration error; `calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError

__all__ = ["class_scores", "count_labels"]


def count_labels(
    reference: NDArray[np.integer[Any]], estimate: NDArray[np.integer[Any]], n_classes: int
) -> NDArray[np.int64]:
    """The confusion matrix (n_classes, n_classes) of labels (N,); DataError for a class out of range."""
    reference, estimate = np.asarray(reference), np.asarray(estimate)
    if reference.shape != estimate.shape:
        raise DataError(
            f"expected as many estimated labels as there are references ({len(reference)}), found {len(estimate)}; "
            "give one label for each image"
        )
    for side, labels in (("reference", reference), ("estimate", estimate)):
        if labels.size and not (labels.min() >= 0 and labels.max() < n_classes):
            wrong = int(labels.min() if labels.min() < 0 else labels.max())
            raise DataError(f"expected labels 0 to {n_classes - 1} in the {side}, found {wrong}; name all classes")
    cells = reference.astype(np.int64) * n_classes + estimate.astype(np.int64)
    return np.bincount(cells, minlength=n_classes * n_classes).astype(np.int64).reshape(n_classes, n_classes)


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, nan where whole is 0."""
    values = np.full(len(whole), math.nan)
    np.divide(part, whole, out=values, where=whole > 0)
    return values


def class_scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Every score of labels by name, flat and ready for JSON.

    Args:
        matrix: from `count_labels`, or a sum of such.
        classes: the names of the classes by index.

    Returns:
        "accuracy", "error", "mean F1" and "balanced accuracy" (means over the classes that occur), "precision NAME" and
        "recall NAME" for each class, and "n_images". A score that is undefined here has no entry.
    """
    if len(classes) != len(matrix):
        raise DataError(f"expected {len(matrix)} class names, found {len(classes)}; name each class once, in order")
    right, n_reference, n_estimate = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    total = int(matrix.sum())
    precision, recall = ratio(right, n_estimate), ratio(right, n_reference)
    f1 = ratio(2 * right, n_reference + n_estimate)
    accuracy = int(right.sum()) / total if total else math.nan
    scores = {
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "balanced accuracy": float(np.mean(recall[n_reference > 0])) if total else math.nan,
        "mean F1": float(np.mean(f1[n_reference + n_estimate > 0])) if total else math.nan,
    }
    scores |= {f"precision {name}": float(value) for name, value in zip(classes, precision, strict=True)}
    scores |= {f"recall {name}": float(value) for name, value in zip(classes, recall, strict=True)}
    return {name: value for name, value in scores.items() if not math.isnan(value)} | {"n_images": total}
