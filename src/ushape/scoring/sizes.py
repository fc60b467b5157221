"""Sizes and numbers of objects, reference beside estimate: whether a measurement made on the estimate would be right.

A network can find every object and still draw each one too small, or split the large ones: the scores of single
objects hardly tell, distributions do.

Conventions
- The size of an object is its equivalent diameter: that of the circle of its area, or of the ball of its volume, in
  pixels or, with `spacing`, in the unit of the spacing.
- Objects that the frame cuts count with what is seen of them. Estimate objects with more than half of their pixels on
  ignored ones (reference -1) are left out, as in `scoring.objects`; those of the reference have no ignored pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Sizes", "measure_sizes"]

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Sizes:
    """Objects of one image or several.

    reference  equivalent diameters of the reference's objects
    estimate   of the estimate's
    counts     (reference, estimate): how many objects each image has
    """

    reference: tuple[float, ...] = ()
    estimate: tuple[float, ...] = ()
    counts: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: Sizes) -> Sizes:
        """Both together."""
        return Sizes(self.reference + other.reference, self.estimate + other.estimate, self.counts + other.counts)


def measure_sizes(
    reference: Labels, estimate: Labels, *, instances: bool, spacing: Sequence[float] | None = None
) -> Sizes:
    """The objects of one image.

    Args:
        reference: (*space) integers, 0 = background, -1 = ignore.
        estimate: (*space) integers; 0 and below are background.
        instances: labels are ids of objects; otherwise each connected piece above 0 (pixels that share a side) is one.
        spacing: physical size of a pixel along each axis; None: sizes are in pixels.
    """
    reference, estimate = np.asarray(reference), np.asarray(estimate)
    ignored = reference < 0
    if not instances:
        reference, estimate = ndimage.label(reference > 0)[0], ndimage.label(estimate > 0)[0]
    pixel = math.prod(spacing) if spacing is not None else 1.0
    of_reference = _diameters(_areas(reference) * pixel, reference.ndim)
    areas = _areas(estimate)
    kept = 2 * _areas(np.where(ignored, estimate, 0), like=estimate) <= areas
    of_estimate = _diameters(areas[kept] * pixel, estimate.ndim)
    return Sizes(of_reference, of_estimate, ((len(of_reference), len(of_estimate)),))


def _areas(labels: Labels, like: Labels | None = None) -> NDArray[np.int64]:
    """Pixels of each object, by rising id; of the objects that are in `like`, when it is given."""
    ids = np.unique(labels if like is None else like)
    ids = ids[ids > 0]
    inside = labels[labels > 0]
    return np.bincount(np.searchsorted(ids, inside), minlength=len(ids)).astype(np.int64)


def _diameters(areas: NDArray[Any], dims: int) -> tuple[float, ...]:
    """Of circles of these areas or balls of these volumes."""
    diameters = 2 * np.sqrt(areas / np.pi) if dims == 2 else np.cbrt(6 * areas / np.pi)
    return tuple(float(value) for value in diameters)
