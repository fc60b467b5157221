"""Scores of classes, pixel by pixel: counted once into a confusion matrix, then named.

Conventions
- The reference stands first and makes the rows, the estimate stands second and makes the columns.
- Class indices run from 0 (background) to n_classes - 1. Reference pixels of -1 are ignored: they are in no cell of
  the matrix, whatever the estimate says there. The estimate has a class for every other pixel.
- Matrices of several images add up, and the scores of the sum are the pooled scores.
- The empty case: a class that neither side has is no success and no failure. Its score is nan, and a mean leaves it
  out. A ratio over no pixels at all is nan.

References
- Jaccard index (IoU) = TP / (TP + FP + FN); Dice coefficient (F1) = 2 TP / (2 TP + FP + FN).
- Pixel error = 1 - pixel accuracy. That of the ISBI 2012 challenge is another: `scoring.membranes`, "pixel F error".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError
from ushape.scoring.checks import check_sizes

__all__ = [
    "confusion_matrix",
    "dice_per_class",
    "iou_per_class",
    "pixel_accuracy",
    "pixel_error",
    "pixel_scores",
]

Labels = NDArray[np.integer[Any]]
Matrix = NDArray[np.int64]


def confusion_matrix(reference: Labels, estimate: Labels, n_classes: int) -> Matrix:
    """How many pixels of each reference class (row) were given each class (column).

    Args:
        reference: (*space) integers in [-1, n_classes), -1 = ignore.
        estimate: (*space) integers in [0, n_classes); not read where the reference is -1.
        n_classes: how many classes, background included.

    Returns:
        (n_classes, n_classes) int64; the sum is the number of pixels that are not ignored.

    Raises:
        DataError: the sizes differ, or a class is out of range.
    """
    reference, estimate = np.asarray(reference), np.asarray(estimate)
    check_sizes(reference, estimate)
    counted = reference != -1
    rows, columns = reference[counted], estimate[counted]
    for side, values in (("reference", rows), ("estimate", columns)):
        if values.size and (values.min() < 0 or values.max() >= n_classes):
            wrong = int(values.min() if values.min() < 0 else values.max())
            raise DataError(
                f"expected classes 0 to {n_classes - 1} in the {side}, found {wrong}; "
                "name all classes, or score object ids as instances"
            )
    cells = rows.astype(np.int64) * n_classes + columns.astype(np.int64)
    return np.bincount(cells, minlength=n_classes * n_classes).astype(np.int64).reshape(n_classes, n_classes)


def pixel_accuracy(matrix: Matrix) -> float:
    """The share of pixels whose class is right, in [0, 1]; nan when no pixel was counted."""
    total = int(matrix.sum())
    return int(np.trace(matrix)) / total if total else math.nan


def pixel_error(matrix: Matrix) -> float:
    """The share of pixels whose class is wrong, in [0, 1]; nan when no pixel was counted."""
    return 1 - pixel_accuracy(matrix)


def iou_per_class(matrix: Matrix) -> NDArray[np.float64]:
    """Intersection over union of each class, (n_classes,) in [0, 1]; nan for a class absent from both sides."""
    both = np.diagonal(matrix)
    return _ratio(both, matrix.sum(axis=1) + matrix.sum(axis=0) - both)


def dice_per_class(matrix: Matrix) -> NDArray[np.float64]:
    """Dice coefficient of each class, (n_classes,) in [0, 1]; nan for a class absent from both sides."""
    return _ratio(2 * np.diagonal(matrix), matrix.sum(axis=1) + matrix.sum(axis=0))


def pixel_scores(matrix: Matrix, classes: Sequence[str]) -> dict[str, float]:
    """Every pixel score by name, flat and ready for JSON.

    Args:
        matrix: from `confusion_matrix`, or a sum of such.
        classes: the names of the classes by index.

    Returns:
        "pixel accuracy", "pixel error", "mean IoU", "mean Dice" (means over all classes that occur, background
        included), "IoU NAME" and "Dice NAME" for each class, and "n_pixels". A score that is undefined here (nan)
        has no entry.
    """
    if len(classes) != len(matrix):
        raise DataError(
            f"expected {len(matrix)} class names, found {len(classes)}; name each class of the matrix once, in order"
        )
    iou, dice = iou_per_class(matrix), dice_per_class(matrix)
    scores = {
        "pixel accuracy": pixel_accuracy(matrix),
        "pixel error": pixel_error(matrix),
        "mean IoU": _mean(iou),
        "mean Dice": _mean(dice),
    }
    scores |= {f"IoU {name}": float(value) for name, value in zip(classes, iou, strict=True)}
    scores |= {f"Dice {name}": float(value) for name, value in zip(classes, dice, strict=True)}
    scores = {name: value for name, value in scores.items() if not math.isnan(value)}
    return scores | {"n_pixels": int(matrix.sum())}


def _ratio(part: Matrix, whole: Matrix) -> NDArray[np.float64]:
    """part / whole, nan where whole is 0."""
    ratio = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of the values that are defined, nan when none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
