"""Calibration: whether a network is right as often as it says.

Of all pixels that are given a probability of 0.8, four fifths should be what was said. Pixels are sorted into bins by
the probability they were given; in each bin the mean probability is held against the share that is right.

Conventions
- Counts are kept, not curves, so that images are counted one by one and added up; pixels of -1 in the reference are
  in no count.
- Two questions can be asked. *Foreground*: how often is a pixel foreground (reference > 0), given 1 - P(background)?
  This is the one for two classes and for objects, whatever classes the network has beside the background. *Top class*:
  how often is the most probable class the pixel's class, given its probability? This is the one for more classes.
- Bins are equally wide and cover [0, 1]; a probability on a bound belongs to the bin above it, 1 to the last bin.

Reference: Guo et al. 2017, On Calibration of Modern Neural Networks (expected calibration error, equation 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError

__all__ = ["Calibration", "count_calibration"]

N_BINS = 15


@dataclass(frozen=True)
class Calibration:
    """What one image, or several, contribute to a reliability plot; three arrays (n_bins,).

    n           pixels in each bin
    confidence  sum of the probabilities they were given
    correct     how many of them are what was said
    foreground  which question was asked: foreground or not, or the top class
    """

    n: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.int64]
    foreground: bool = True

    def __add__(self, other: Calibration) -> Calibration:
        """Both together."""
        assert len(self.n) == len(other.n), "counts of as many bins"
        assert self.foreground == other.foreground, "counts of one question"
        return Calibration(
            self.n + other.n, self.confidence + other.confidence, self.correct + other.correct, self.foreground
        )

    @property
    def n_pixels(self) -> int:
        """Pixels in all bins."""
        return int(self.n.sum())

    @property
    def mean_confidence(self) -> NDArray[np.float64]:
        """The mean probability in each bin, (n_bins,) in [0, 1]; nan where a bin is empty."""
        return _ratio(self.confidence, self.n)

    @property
    def share_correct(self) -> NDArray[np.float64]:
        """The share of pixels that are what was said, (n_bins,) in [0, 1]; nan where a bin is empty."""
        return _ratio(self.correct, self.n)

    @property
    def expected_calibration_error(self) -> float:
        """The mean over pixels of their bin's |probability - share|, in [0, 1]; nan without pixels."""
        if not self.n_pixels:
            return math.nan
        return float(np.abs(self.confidence - self.correct).sum()) / self.n_pixels


def count_calibration(
    probabilities: NDArray[np.floating[Any]],
    reference: NDArray[np.integer[Any]],
    n_bins: int = N_BINS,
    *,
    foreground: bool = False,
) -> Calibration:
    """Sort the pixels of an image by the probability that they were given, and count.

    Args:
        probabilities: (K, *space) in [0, 1], the background first, summing to 1 over K.
        reference: (*space) integers, -1 = ignore; classes in [0, K), or with `foreground` also ids of objects.
        n_bins: how many bins.
        foreground: ask whether a pixel is foreground, and not whether its most probable class is right.

    Raises:
        DataError: the sizes differ, or the reference has a class that has no probability.
    """
    probabilities, reference = np.asarray(probabilities), np.asarray(reference)
    if probabilities.shape[1:] != reference.shape or not len(probabilities):
        raise DataError(
            f"expected probabilities of the reference's size {reference.shape} for each class, found shape "
            f"{probabilities.shape}; compare each image with the mask of the same image"
        )
    counted = reference >= 0
    if foreground:
        confidence, correct = 1 - probabilities[0][counted].astype(np.float64), reference[counted] > 0
    else:
        if reference.max(initial=0) >= len(probabilities):
            raise DataError(
                f"expected classes 0 to {len(probabilities) - 1} in the reference, found {int(reference.max())}; "
                "name all classes, or ask for the foreground of objects"
            )
        confidence = probabilities.max(axis=0)[counted].astype(np.float64)
        correct = probabilities.argmax(axis=0)[counted] == reference[counted]
    # Rounding can leave a probability a little outside [0, 1].
    confidence = np.clip(confidence, 0, 1)
    bins = np.minimum((confidence * n_bins).astype(np.intp), n_bins - 1)
    return Calibration(
        n=np.bincount(bins, minlength=n_bins).astype(np.int64),
        confidence=np.bincount(bins, confidence, minlength=n_bins).astype(np.float64),
        correct=np.bincount(bins[correct], minlength=n_bins).astype(np.int64),
        foreground=foreground,
    )


def _ratio(part: NDArray[Any], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, nan where whole is 0."""
    ratio = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
