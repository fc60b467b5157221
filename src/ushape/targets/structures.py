"""How large and how thin the structures of two classes are: what a coarser grid has to keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ushape.targets.instances import Mask, ball_diameter

__all__ = ["piece_diameter", "thickness"]


def piece_diameter(masks: Sequence[Mask]) -> float | None:
    """The diameter in pixels of a disc (ball) as large as the connected piece that a pixel of class 1 lies in.

    The median over such pixels, so that specks count for little. Pieces are connected by their sides.

    Args:
        masks: (*space) 0 or 1, -1 where nothing is known.

    Returns:
        None where there is no pixel of class 1.
    """
    areas = [np.bincount(ndimage.label(np.asarray(mask) == 1)[0].ravel())[1:] for mask in masks]
    sizes = np.sort(np.concatenate(areas)) if areas else np.zeros(0, np.int64)
    if not sizes.size:
        return None
    covered = np.cumsum(sizes)
    return ball_diameter(float(sizes[np.searchsorted(covered, covered[-1] / 2)]), np.asarray(masks[0]).ndim)


def thickness(masks: Sequence[Mask]) -> float | None:
    """How many pixels the rarer of two classes is across: of a band its width, of a disc two thirds of the diameter.

    Across a band of w px distances to the other class are 1, 2, .., w/2, .., 2, 1, on average (w + 2) / 4. It is an
    average over pixels, so broad areas of a class hide its thin lines; and a strip along the edge of an image, whose
    other side is not seen, counts as up to twice as wide.

    Args:
        masks: (*space) 0 or 1, -1 where nothing is known.

    Returns:
        None where one of the classes is missing.
    """
    counts = [sum(int((np.asarray(mask) == value).sum()) for mask in masks) for value in (0, 1)]
    if not min(counts):
        return None
    rarer = counts.index(min(counts))
    total = 0.0
    for mask in masks:
        inside = np.asarray(mask) == rarer
        # Without another class in the image there is nothing to measure a distance to.
        if not inside.all():
            total += float(ndimage.distance_transform_edt(inside).sum())
        else:
            counts[rarer] -= inside.size
    return max(1.0, 4 * total / counts[rarer] - 2) if counts[rarer] else None
