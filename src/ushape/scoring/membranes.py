"""Scores of membranes between cells, as in the ISBI 2012 challenge: are the cells kept apart, and kept whole?

Whoever traces cells cares little where exactly a membrane runs, and much whether it has a gap. So beside the pixel
error there are scores that compare the two sets of cells: for any two pixels, do both sides agree whether they belong
together (Rand), and what does a pixel's cell on one side tell of its cell on the other (information)?

Conventions
- Labels (height, width): membrane = 0, cell = 1, ignore = -1 (reference only). These are the classes of `isbi2012`,
  whose masks are black on membranes, in that order; the probability of "cell" is a model's map number 1.
- One slice at a time, because the challenge numbers cells afresh in each slice. Cells are the 4-connected pieces of
  cell pixels, so that a diagonal line of membrane separates two.
- The reference stands first. Only its cell pixels are counted in Rand and information scores ("foreground-restricted"):
  its membranes belong to nobody, and what the estimate says there makes no difference.
- A pixel that is membrane in the estimate and cell in the reference is a cell of its own, of one pixel.
- Thinned: beforehand the estimate's cells grow over its membranes, each pixel going to the cell that is nearest
  (Euclidean), until they meet. So thick membranes cost nothing, and a membrane that encloses nothing vanishes.
- An estimate is decided at ten thresholds, cell where the probability is above the threshold, and the best one counts,
  for each score by itself: the smallest error or the largest V, of the means over all slices. A network that is sure
  of itself is not rewarded, and one chosen on the same slices is a little flattered, as in the challenge.
- The empty case: a slice without a cell in the reference has no Rand or information score (nan), and is left out of
  the mean. Where neither side has any pair of pixels to join, or any information to give, they agree: V is 1.

References
- Arganda-Carreras et al. 2015, Crowdsourcing the creation of image segmentation algorithms for connectomics: V_rand,
  V_info with alpha = 1/2 (the mean of splits and mergers), foreground restriction, border thinning. V_rand is counted
  here over pairs of two different pixels, as scikit-image's adapted Rand error is; the paper's formula counts each
  pixel with itself too, which changes it by about one part in the pixels of a cell.
- Rand error = 1 - V_rand without thinning: the challenge's first score, and the U-Net paper's (P18).
- Pixel F error = 1 - F-score (Dice) of cell pixels, which is what the challenge's script calls pixel error, here as the
  mean over slices. Pixel error = share of wrong pixels; of thin membranes it is the larger of the two.
- Warping error, and its part that is splits and mergers: `scoring.warping`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.errors import DataError
from ushape.scoring.checks import check_sizes
from ushape.scoring.pixels import confusion_matrix, dice_per_class, pixel_error
from ushape.scoring.warping import warping_errors

__all__ = [
    "MEMBRANE_THRESHOLDS",
    "MembraneCurve",
    "Overlap",
    "cells",
    "count_membranes",
    "count_overlap",
    "membrane_scores",
    "thinned",
    "v_info",
    "v_rand",
]

Labels = NDArray[np.integer[Any]]
Instances = NDArray[np.int32]

CELL = 1
MEMBRANE_THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ERRORS = ("pixel error", "pixel F error", "Rand error", "warping error", "split and merger error")
"""Smaller is better; of the other scores larger."""


def cells(labels: Labels) -> Instances:
    """The 4-connected pieces of cell (1), numbered 1..n; 0 elsewhere. (height, width) int32."""
    found: Instances = ndimage.label(np.asarray(labels) > 0)[0].astype(np.int32)
    return found


def thinned(instances: Instances) -> Instances:
    """Every pixel gets the cell that is nearest to it; without any cell nothing changes. (height, width) int32."""
    if not instances.any():
        return instances
    nearest = ndimage.distance_transform_edt(instances == 0, return_distances=False, return_indices=True)
    grown: Instances = instances[tuple(nearest)]
    return grown


@dataclass(frozen=True)
class Overlap:
    """How the cells of the two sides share the pixels of the reference's cells.

    shared     pixels of each pair of cells that share any
    reference  pixels of each cell of the reference
    estimate   pixels of each cell of the estimate that has any there
    alone      pixels that are membrane in the estimate: each is a cell of its own
    """

    shared: NDArray[np.int64]
    reference: NDArray[np.int64]
    estimate: NDArray[np.int64]
    alone: int


def count_overlap(reference: Instances, estimate: Instances) -> Overlap:
    """Count once what all scores of pairs and of information are read from.

    Args:
        reference: (*space) ids > 0; other pixels are not counted.
        estimate: (*space) ids > 0; elsewhere membrane.

    Raises:
        DataError: the sizes differ.
    """
    reference, estimate = np.asarray(reference), np.asarray(estimate)
    check_sizes(reference, estimate)
    inside = reference > 0
    rows, columns = _numbered(reference[inside]), _numbered(estimate[inside])
    base = int(columns.max(initial=0)) + 1
    pairs = rows * base + columns
    pairs, shared = np.unique(pairs, return_counts=True)
    row, column = np.divmod(pairs, base)
    of_rows = np.bincount(row, shared).astype(np.int64)
    of_columns = np.bincount(column, shared, minlength=1).astype(np.int64)
    return Overlap(shared[column > 0], of_rows[of_rows > 0], of_columns[1:][of_columns[1:] > 0], int(of_columns[0]))


def _numbered(ids: Instances) -> NDArray[np.int64]:
    """Ids above 0 as they are, or numbered anew where they would need long lists; others 0."""
    above = np.where(ids > 0, ids, 0)
    if int(above.max(initial=0)) <= max(above.size, 1 << 16):
        return above.astype(np.int64)
    known, index = np.unique(above, return_inverse=True)
    return index.astype(np.int64) + int(known[0] > 0)


def v_rand(overlap: Overlap) -> float:
    """The F-score of the pairs of pixels that are in one cell, in [0, 1]; nan without a pixel.

    Twice the pairs that both sides join, by the pairs that each joins. Mergers and splits weigh the same.
    """
    if not overlap.reference.size:
        return math.nan
    joined, by_reference, by_estimate = (
        int((sizes * (sizes - 1)).sum()) for sizes in (overlap.shared, overlap.reference, overlap.estimate)
    )
    return 2 * joined / (by_reference + by_estimate) if by_reference + by_estimate else 1.0


def v_info(overlap: Overlap) -> float:
    """The F-score of the information that each side has of the other, in [0, 1]; nan without a pixel.

    Twice the mutual information, by the sum of the entropies.
    """
    n = int(overlap.reference.sum())
    if not n:
        return math.nan

    def entropy(sizes: NDArray[np.int64]) -> float:
        """In nats; cells of one pixel add nothing to the sum, so those that stand alone need no entry."""
        return math.log(n) - float((sizes * np.log(sizes)).sum()) / n

    of_both = entropy(overlap.reference) + entropy(overlap.estimate)
    if of_both == 0:
        return 1.0
    return max(0.0, 2 * (of_both - entropy(overlap.shared)) / of_both)


@dataclass(frozen=True)
class MembraneCurve:
    """What one slice contributes: each score at each threshold.

    thresholds  cell where the probability is above
    scores      one value per threshold, by the name of the score; nan where it is undefined
    """

    thresholds: tuple[float, ...]
    scores: dict[str, tuple[float, ...]]


def _scores_at(reference: Labels, cell: Instances, estimate: Labels) -> dict[str, float]:
    """Every score of one decided slice; `cell` are the reference's cells."""
    matrix = confusion_matrix(reference, estimate, 2)
    found = cells(estimate)
    grown = count_overlap(cell, thinned(found))
    warping, splits_and_mergers = warping_errors(reference, estimate)
    return {
        "pixel error": pixel_error(matrix),
        "pixel F error": 1 - float(dice_per_class(matrix)[CELL]),
        "Rand error": 1 - v_rand(count_overlap(cell, found)),
        "warping error": warping,
        "split and merger error": splits_and_mergers,
        "V_rand thinned": v_rand(grown),
        "V_info thinned": v_info(grown),
    }


def count_membranes(
    reference: Labels,
    probability: NDArray[np.floating[Any]],
    thresholds: Sequence[float] = MEMBRANE_THRESHOLDS,
) -> MembraneCurve:
    """Score one slice at each threshold.

    Args:
        reference: (height, width) membrane = 0, cell = 1, ignore = -1.
        probability: (height, width) in [0, 1], of being cell. Labels can be scored as 0.0 and 1.0 at one threshold.
        thresholds: rising, at least one.

    Raises:
        DataError: the sizes differ, or the reference has other labels.
    """
    reference, probability = np.asarray(reference), np.asarray(probability)
    if reference.shape != probability.shape:
        raise DataError(
            f"expected probabilities of the reference's size {reference.shape}, found {probability.shape}; "
            "score the map of one class, slice by slice"
        )
    cell = cells(reference)
    rows = [_scores_at(reference, cell, (probability > t).astype(np.int32)) for t in thresholds]
    return MembraneCurve(tuple(thresholds), {name: tuple(row[name] for row in rows) for name in rows[0]})


def membrane_scores(curves: Sequence[MembraneCurve]) -> dict[str, float]:
    """Every score of membranes by name, flat and ready for JSON; one that is undefined here (nan) has no entry.

    The errors (`ERRORS`) are the smallest mean over the slices at any threshold, "V_rand thinned" and "V_info thinned"
    the largest; "threshold of NAME" is where, the lowest of equal ones. A score that some slice lacks, because an
    older version kept its curve, is left out.

    Raises:
        DataError: there is no slice, or the slices were scored at different thresholds.
    """
    found = sorted({curve.thresholds for curve in curves})
    if len(found) != 1:
        raise DataError(
            f"expected slices that were all scored at the same thresholds, found {len(found)} kinds among "
            f"{len(curves)} slices; score them together"
        )
    scores: dict[str, float] = {}
    for name in (name for name in curves[0].scores if all(name in curve.scores for curve in curves)):
        values = [curve.scores[name] for curve in curves if not any(map(math.isnan, curve.scores[name]))]
        if not values:
            continue
        means = np.mean(values, axis=0)
        best = int(means.argmin() if name in ERRORS else means.argmax())
        scores[name] = float(means[best])
        scores[f"threshold of {name}"] = found[0][best]
    return scores | {"n_slices": len(curves)}
