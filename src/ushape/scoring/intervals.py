"""How far a score would move with other images of the same kind: percentile bootstrap over the images.

Images are drawn with replacement, as many as there are, a thousand times; each draw is scored like the original, and
the interval holds the middle 95 % of these scores. It tells the chance of the choice of images, and neither that of
training nor that of annotation.

Conventions
- An image is drawn as a whole, with all of its objects and pixels, because those of one image are not independent.
  Frames of one sequence are not either: over them an interval is too narrow.
- Fewer than three images give no interval, and neither does a score that more than 1 - level of the draws leave
  undefined, such as that of a class which one image alone has. Names that begin with `n_` are counts and get none.
- The same images in the same order, seed and number of draws give the same interval.
- Every score of objects, pixels and labels here is a ratio of sums over images, or a mean of such ratios. Each image's
  share in both sums is counted once (`object_ratios`, `pixel_ratios`, `label_ratios`), and a draw is then a product
  with how often each image was drawn; `bootstrap_intervals` does the same, slowly, for any score.

References: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile intervals).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError
from ushape.scoring.objects import (
    THRESHOLDS,
    ObjectCounts,
    average_precision,
    f1,
    mean_average_precision,
    panoptic_quality,
)

__all__ = [
    "bootstrap_intervals",
    "label_intervals",
    "label_ratios",
    "object_intervals",
    "object_ratios",
    "pixel_intervals",
    "pixel_ratios",
    "ratio_intervals",
]

T = TypeVar("T")
Values = NDArray[np.float64]
Interval = tuple[float, float]
Ratio = tuple[Values, Values]
"""Each image's share in the numerators and in the denominators, (n_images, n_terms) both: the score is the mean over
the terms that are defined of (sum of numerators) / (sum of denominators)."""

FEWEST = 3
"""With fewer images the draws are too alike to say anything."""
BLOCK = 2_000_000
"""How many numbers of draws are held in memory at a time."""


def drawn(n_items: int, n_resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each item is drawn in each resample, (resamples, n_items) int64, in blocks of resamples."""
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // n_items)
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        # Each resample counts into its own row of the table.
        indices = rng.integers(n_items, size=(n, n_items)) + n_items * np.arange(n)[:, None]
        yield np.bincount(indices.ravel(), minlength=n * n_items).reshape(n, n_items)


def middle(values: Values, level: float) -> Interval | None:
    """The middle `level` of the values that are defined (not nan); None where too many are not, or all are equal.

    Where every draw gives the same, as when all answers are right, the draws do not know how uncertain the score is.
    """
    defined = values[~np.isnan(values)]
    if len(defined) < level * len(values):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return None if low == high else (float(low), float(high))


def check(n_resamples: int, level: float) -> None:
    """DataError for numbers that no interval can be made with."""
    if n_resamples < 1 or not 0 < level < 1:
        raise DataError(
            f"expected at least 1 resample and a level between 0 and 1, found {n_resamples} and {level}; "
            "1000 and 0.95 are usual"
        )


def bootstrap_intervals(
    items: Sequence[T],
    score: Callable[[Sequence[T]], Mapping[str, float]],
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of any scores, by calling `score` on every resample.

    Args:
        items: one per image, such as `ObjectCounts`.
        score: the scores of several items together by name; one that is undefined has no entry or is nan.
        n_resamples: how many resamples.
        level: share of them inside the interval, in (0, 1).
        seed: of the draws.

    Returns:
        (low, high) by name of the score; empty for fewer than 3 items.

    Raises:
        DataError: the number of resamples or the level is out of range.
    """
    check(n_resamples, level)
    if len(items) < FEWEST:
        return {}
    names = [name for name in score(items) if not name.startswith("n_")]
    rows = []
    for block in drawn(len(items), n_resamples, seed):
        for times in block:
            found = score([item for item, n in zip(items, times, strict=True) for _ in range(n)])
            rows.append([found.get(name, math.nan) for name in names])
    values = np.array(rows, dtype=np.float64)
    intervals = {name: middle(values[:, index], level) for index, name in enumerate(names)}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def mean_ratio(numerators: Values, denominators: Values) -> Values:
    """numerators / denominators, (resamples, n_terms) both, averaged over the terms whose denominator is not 0."""
    defined = denominators > 0
    ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=defined)
    n = defined.sum(axis=1)
    means: Values = np.divide(ratios.sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)
    return means


def ratio_intervals(
    ratios: Mapping[str, Ratio], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of scores that are ratios of sums over images, as `bootstrap_intervals` gives them, but at once.

    Args:
        ratios: numerators and denominators (n_images, n_terms) by name of the score.
        n_resamples: how many resamples.
        level: share of them inside the interval, in (0, 1).
        seed: of the draws.

    Returns:
        (low, high) by name of the score; empty for fewer than 3 images.

    Raises:
        DataError: the number of resamples or the level is out of range.
    """
    check(n_resamples, level)
    n_images = len(next(iter(ratios.values()))[0]) if ratios else 0
    if n_images < FEWEST:
        return {}
    values: dict[str, list[Values]] = {name: [] for name in ratios}
    for block in drawn(n_images, n_resamples, seed):
        times = block.astype(np.float64)
        for name, (numerators, denominators) in ratios.items():
            values[name].append(mean_ratio(times @ numerators, times @ denominators))
    # A score that the images themselves leave undefined has no interval either.
    defined = {name for name, (_, denominators) in ratios.items() if denominators.any()}
    intervals = {name: middle(np.concatenate(found), level) for name, found in values.items() if name in defined}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def object_ratios(counts: Sequence[ObjectCounts]) -> dict[str, Ratio]:
    """Each image's share in every score of `scoring.objects.object_scores` but the counts."""
    complete = np.array([c.complete for c in counts], dtype=np.float64)
    scorable = np.array([[c.scorable] for c in counts], dtype=np.float64)
    true = np.array([[c.n_true_positives(t) for t in THRESHOLDS] for c in counts], dtype=np.float64)
    false = np.array([[c.n_false_positives(t) for t in THRESHOLDS] for c in counts], dtype=np.float64)
    n_reference = np.array([c.n_reference for c in counts], dtype=np.float64)
    missed = n_reference[:, None] - true

    def pooled(numerators: Values, denominators: Values) -> Ratio:
        return numerators * complete[:, None], denominators * complete[:, None]

    def per_image(score: Callable[[Sequence[ObjectCounts]], float]) -> Ratio:
        values = np.array([score([c]) for c in counts])
        return pooled(np.where(np.isnan(values), 1.0, values)[:, None] * scorable, scorable)

    ratios: dict[str, Ratio] = {}
    for threshold in (0.5, 0.75, 0.9):
        at = [THRESHOLDS.index(threshold)]
        tp, fp, fn = true[:, at], false[:, at], missed[:, at]
        ratios[f"AP@{threshold}"] = pooled(tp, tp + fp + fn)
        ratios[f"AP@{threshold} per image"] = per_image(lambda c, t=threshold: average_precision(c, t))  # type: ignore[misc]
        ratios[f"F1@{threshold}"] = pooled(2 * tp, 2 * tp + fp + fn)
    ratios["AP@0.5:0.95"] = pooled(true, true + false + missed)
    ratios["AP@0.5:0.95 per image"] = per_image(mean_average_precision)
    ratios["F1@0.5 per image"] = per_image(f1)
    tp, fp, fn = true[:, :1], false[:, :1], missed[:, :1]
    ratios["precision@0.5"] = pooled(tp, tp + fp)
    ratios["recall@0.5"] = tp, n_reference[:, None]
    quality = np.array([[math.fsum(c.ious + c.margin_ious)] for c in counts])
    ratios["PQ"] = pooled(quality, tp + fp / 2 + fn / 2)
    ratios["PQ per image"] = per_image(panoptic_quality)
    ratios["SEG"] = np.array([[math.fsum(c.seg)] for c in counts]), n_reference[:, None]
    return ratios


def pixel_ratios(matrices: Sequence[NDArray[np.int64]], classes: Sequence[str]) -> dict[str, Ratio]:
    """Each image's share in every score of `scoring.pixels.pixel_scores` but the count.

    matrices  one confusion matrix (n_classes, n_classes) per image
    classes   names by index
    """
    stack = np.stack(matrices).astype(np.float64)
    both = np.diagonal(stack, axis1=1, axis2=2)
    sides = stack.sum(axis=1) + stack.sum(axis=2)
    right, total = both.sum(axis=1, keepdims=True), stack.sum(axis=(1, 2))[:, None]
    ratios: dict[str, Ratio] = {
        "pixel accuracy": (right, total),
        "pixel error": (total - right, total),
        "mean IoU": (both, sides - both),
        "mean Dice": (2 * both, sides),
    }
    for index, name in enumerate(classes):
        one = slice(index, index + 1)
        ratios[f"IoU {name}"] = both[:, one], (sides - both)[:, one]
        ratios[f"Dice {name}"] = 2 * both[:, one], sides[:, one]
    return ratios


def label_ratios(
    references: NDArray[np.integer[Any]], estimates: NDArray[np.integer[Any]], classes: Sequence[str]
) -> dict[str, Ratio]:
    """Each image's share in every score of `scoring.classes.class_scores` but the count.

    references, estimates  (n_images,) indices into `classes`
    """
    identity = np.eye(len(classes))
    reference, estimate = identity[references], identity[estimates]
    both = reference * estimate
    right = both.sum(axis=1, keepdims=True)
    one = np.ones_like(right)
    ratios: dict[str, Ratio] = {
        "accuracy": (right, one),
        "error": (one - right, one),
        "balanced accuracy": (both, reference),
        "mean F1": (2 * both, reference + estimate),
    }
    for index, name in enumerate(classes):
        own = slice(index, index + 1)
        ratios[f"precision {name}"] = both[:, own], estimate[:, own]
        ratios[f"recall {name}"] = both[:, own], reference[:, own]
    return ratios


def object_intervals(counts: Sequence[ObjectCounts], **options: Any) -> dict[str, Interval]:
    """Intervals of the scores of objects, from one `ObjectCounts` per image; options as in `ratio_intervals`."""
    return ratio_intervals(object_ratios(counts), **options) if len(counts) >= FEWEST else {}


def pixel_intervals(
    matrices: Sequence[NDArray[np.int64]], classes: Sequence[str], **options: Any
) -> dict[str, Interval]:
    """Intervals of the scores of pixels, from one confusion matrix per image; options as in `ratio_intervals`."""
    return ratio_intervals(pixel_ratios(matrices, classes), **options) if len(matrices) >= FEWEST else {}


def label_intervals(
    references: NDArray[np.integer[Any]],
    estimates: NDArray[np.integer[Any]],
    classes: Sequence[str],
    **options: Any,
) -> dict[str, Interval]:
    """Intervals of the scores of labels, one of each side per image; options as in `ratio_intervals`."""
    return ratio_intervals(label_ratios(references, estimates, classes), **options)
