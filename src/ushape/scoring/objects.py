"""Scores of objects: which reference objects were found, how well, and what was invented.

Conventions
- The reference stands first, the estimate second. Every positive id is one object; 0 is background. A negative value
  means "ignore" in the reference and nothing in the estimate, where it is read as background.
- A reference and an estimate object match at a threshold t when their IoU is greater than t. At t >= 0.5 an object
  has at most one match, so matching needs no search for the best assignment.
- Ignored pixels (reference -1) are in no intersection and, except for SEG, in no union: an estimate may extend from
  a labelled object into an ignored margin at no cost. An estimate object with more than half of its pixels on ignored
  ones is a true positive where it matches, and otherwise it is not counted: nobody looked whether something is there.
- An incomplete image lacks some reference objects, so a surplus estimate proves nothing: such an image counts for
  SEG and recall, and is left out of every score that counts false positives (AP, F1, precision, PQ).
- Pooled scores add up the counts of all images first. "Per image" scores are means of each image's own score.
- The empty case: an image without any object on both sides contributes nothing to a pooled score, and scores 1 in a
  mean over images (nothing was there and nothing was claimed). A ratio over nothing is nan.
- An image whose pixels are all ignored is none of these: nobody looked, so it is left out of every mean over images.

References
- AP = TP / (TP + FP + FN): 2018 Data Science Bowl (Caicedo et al. 2019), as used by StarDist and Cellpose. It is
  not the area under a precision-recall curve that bears the same name.
- PQ: Kirillov et al., Panoptic Segmentation, 2019.
- SEG: Cell Tracking Challenge (Ulman et al. 2017): the IoU of the estimate that covers more than half of a
  reference object, 0 without such an estimate, averaged over all reference objects. Here, as in the challenge, whole
  label images are compared: ignored pixels are background, so it is the challenge's own number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.scoring.checks import check_sizes

__all__ = [
    "THRESHOLDS",
    "ObjectCounts",
    "average_precision",
    "count_objects",
    "f1",
    "mean_average_precision",
    "mean_over_images",
    "object_scores",
    "panoptic_quality",
    "precision",
    "recall",
    "score_of_choices",
    "seg_score",
]

Instances = NDArray[np.integer[Any]]

# Written as decimals and not as a sum of steps, so that an IoU of exactly 9/10 compares as equal to 0.9.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class ObjectCounts:
    """What one image contributes to every score of objects at thresholds of 0.5 and more.

    n_reference  reference objects
    n_estimate   estimate objects, without those that lie mostly on ignored pixels
    ious         IoU of every pair above 0.5, the estimate being one of `n_estimate`
    margin_ious  IoU of every pair above 0.5 whose estimate lies mostly on ignored pixels
    seg          one value per reference object, by rising id: IoU of the estimate that covers more than half of it,
                 or 0
    complete     False where some objects are missing from the reference
    scorable     False where the reference ignores every pixel
    """

    n_reference: int
    n_estimate: int
    ious: tuple[float, ...]
    margin_ious: tuple[float, ...]
    seg: tuple[float, ...]
    complete: bool = True
    scorable: bool = True

    def n_true_positives(self, threshold: float) -> int:
        """Pairs whose IoU is greater than the threshold."""
        return sum(iou > threshold for iou in self.ious + self.margin_ious)

    def n_false_positives(self, threshold: float) -> int:
        """Counted estimate objects without a match."""
        return self.n_estimate - sum(iou > threshold for iou in self.ious)

    def n_false_negatives(self, threshold: float) -> int:
        """Reference objects without a match."""
        return self.n_reference - self.n_true_positives(threshold)


def count_objects(reference: Instances, estimate: Instances, *, complete: bool = True) -> ObjectCounts:
    """Compare two instance masks in one pass over their pixels.

    Args:
        reference: (*space) integers, ids > 0, background 0, ignore -1.
        estimate: (*space) integers, ids > 0, everything else background.
        complete: False where some objects are missing from the reference.

    Raises:
        DataError: the sizes differ.
    """
    reference, estimate = np.asarray(reference), np.asarray(estimate)
    check_sizes(reference, estimate)
    # The sparse contingency table: how many pixels each pair of ids shares. All else is read from its few rows.
    base = int(max(estimate.max(initial=0), 0)) + 1
    pairs = np.maximum(reference.astype(np.int64), -1) * base + np.maximum(estimate.astype(np.int64), 0)
    pairs, shared = np.unique(pairs, return_counts=True)
    reference_ids, estimate_ids = np.divmod(pairs, base)
    return _from_table(reference_ids, estimate_ids, shared, complete)


def _from_table(
    reference_ids: NDArray[np.int64], estimate_ids: NDArray[np.int64], shared: NDArray[np.int64], complete: bool
) -> ObjectCounts:
    """ObjectCounts from the table rows (reference id or -1, estimate id, shared pixels)."""
    rows, row = np.unique(reference_ids, return_inverse=True)
    columns, column = np.unique(estimate_ids, return_inverse=True)
    ignored = reference_ids < 0
    reference_area = np.bincount(row, shared, len(rows))
    estimate_area = np.bincount(column, shared * ~ignored, len(columns))
    ignored_area = np.bincount(column, shared * ignored, len(columns))
    in_margin = ignored_area > estimate_area

    overlap = (reference_ids > 0) & (estimate_ids > 0)
    row, column, shared = row[overlap], column[overlap], shared[overlap]
    iou = shared / (reference_area[row] + estimate_area[column] - shared)
    # Two different estimates cannot both cover more than half of one object, so no value is overwritten.
    seg = np.zeros(len(rows))
    covers = 2 * shared > reference_area[row]
    whole = shared / (reference_area[row] + (estimate_area + ignored_area)[column] - shared)
    seg[row[covers]] = whole[covers]
    matched = iou > 0.5
    return ObjectCounts(
        n_reference=int((rows > 0).sum()),
        n_estimate=int(((columns > 0) & ~in_margin).sum()),
        ious=tuple(iou[matched & ~in_margin[column]].tolist()),
        margin_ious=tuple(iou[matched & in_margin[column]].tolist()),
        seg=tuple(seg[rows > 0].tolist()),
        complete=complete,
        scorable=not bool(ignored.all()),
    )


def average_precision(counts: Sequence[ObjectCounts], threshold: float = 0.5) -> float:
    """TP / (TP + FP + FN) of all complete images together, in [0, 1]; nan without any object."""
    true, false, missed = _totals(counts, threshold)
    return _ratio(true, true + false + missed)


def mean_average_precision(counts: Sequence[ObjectCounts]) -> float:
    """The mean of `average_precision` over the thresholds 0.5, 0.55, ..., 0.95."""
    return math.fsum(average_precision(counts, threshold) for threshold in THRESHOLDS) / len(THRESHOLDS)


def score_of_choices(references: Sequence[Instances], estimates: Sequence[Instances]) -> float:
    """The number by which weights and thresholds are chosen: mean AP over IoU 0.5 to 0.95; 0 where nothing is there."""
    value = mean_average_precision([count_objects(r, e) for r, e in zip(references, estimates, strict=True)])
    return 0.0 if math.isnan(value) else value


def precision(counts: Sequence[ObjectCounts], threshold: float = 0.5) -> float:
    """TP / (TP + FP) of all complete images together, in [0, 1]; nan without an estimate object."""
    true, false, _ = _totals(counts, threshold)
    return _ratio(true, true + false)


def recall(counts: Sequence[ObjectCounts], threshold: float = 0.5) -> float:
    """TP / (TP + FN) of all images together, incomplete ones too, in [0, 1]; nan without a reference object."""
    true = sum(c.n_true_positives(threshold) for c in counts)
    return _ratio(true, sum(c.n_reference for c in counts))


def f1(counts: Sequence[ObjectCounts], threshold: float = 0.5) -> float:
    """2 TP / (2 TP + FP + FN) of all complete images together, in [0, 1]; nan without any object."""
    true, false, missed = _totals(counts, threshold)
    return _ratio(2 * true, 2 * true + false + missed)


def panoptic_quality(counts: Sequence[ObjectCounts]) -> float:
    """Sum of the matched IoU / (TP + FP / 2 + FN / 2) at 0.5, of all complete images together; nan without objects."""
    true, false, missed = _totals(counts, 0.5)
    quality = math.fsum(iou for c in counts if c.complete for iou in c.ious + c.margin_ious)
    return _ratio(quality, true + false / 2 + missed / 2)


def seg_score(counts: Sequence[ObjectCounts]) -> float:
    """SEG: the mean over all reference objects of all images, incomplete ones too; nan without a reference object."""
    values = [value for c in counts for value in c.seg]
    return _ratio(math.fsum(values), len(values))


def mean_over_images(score: Callable[[Sequence[ObjectCounts]], float], counts: Sequence[ObjectCounts]) -> float:
    """The mean over complete images of the score of each alone; 1 for an image empty on both sides.

    Images without a pixel that is not ignored are left out.

    Args:
        score: one that is undefined only without any object: AP, mean AP, F1 or PQ.
        counts: one per image.

    Returns:
        A value in [0, 1]; nan without a complete image that has pixels to score.
    """
    values = [score([c]) for c in counts if c.complete and c.scorable]
    return _ratio(math.fsum(1.0 if math.isnan(value) else value for value in values), len(values))


def object_scores(counts: Sequence[ObjectCounts]) -> dict[str, float]:
    """Every object score by name, flat and ready for JSON; a score that is undefined here (nan) has no entry.

    "AP@0.5" and the like are pooled, "AP@0.5 per image" is the mean over images, "AP@0.5:0.95" the mean over ten
    thresholds. "n_estimate" leaves out objects that lie mostly on ignored pixels; "n_incomplete" images count for
    SEG and recall only.
    """
    scores: dict[str, float] = {}
    for threshold in (0.5, 0.75, 0.9):
        scores[f"AP@{threshold}"] = average_precision(counts, threshold)
        scores[f"AP@{threshold} per image"] = mean_over_images(partial(average_precision, threshold=threshold), counts)
    scores["AP@0.5:0.95"] = mean_average_precision(counts)
    scores["AP@0.5:0.95 per image"] = mean_over_images(mean_average_precision, counts)
    for threshold in (0.5, 0.75, 0.9):
        scores[f"F1@{threshold}"] = f1(counts, threshold)
    scores["F1@0.5 per image"] = mean_over_images(f1, counts)
    scores["precision@0.5"] = precision(counts)
    scores["recall@0.5"] = recall(counts)
    scores["PQ"] = panoptic_quality(counts)
    scores["PQ per image"] = mean_over_images(panoptic_quality, counts)
    scores["SEG"] = seg_score(counts)
    scores = {name: value for name, value in scores.items() if not math.isnan(value)}
    return scores | {
        "n_reference": sum(c.n_reference for c in counts),
        "n_estimate": sum(c.n_estimate for c in counts),
        "n_images": len(counts),
        "n_incomplete": sum(not c.complete for c in counts),
    }


def _totals(counts: Sequence[ObjectCounts], threshold: float) -> tuple[int, int, int]:
    """(true positives, false positives, false negatives) of the complete images together."""
    complete = [c for c in counts if c.complete]
    return (
        sum(c.n_true_positives(threshold) for c in complete),
        sum(c.n_false_positives(threshold) for c in complete),
        sum(c.n_false_negatives(threshold) for c in complete),
    )


def _ratio(part: float, whole: float) -> float:
    """part / whole, nan when the whole is 0."""
    return part / whole if whole else math.nan
