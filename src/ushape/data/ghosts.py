"""Two-valued masks seen through JPEG, smoothing or resizing: nearly two values, and ghosts of others between them.

Such a mask is known by four signs: nearly all pixels lie near one of two values; fewer lie between than at either;
those between form seams, no regions; and the odd values change from pixel to pixel, where ids and classes are flat.
On masks of discs and rectangles, 0 to 14 % of the odd pixels were like all their next neighbours but one after JPEG
(quality 30 to 95), blurring or resizing, and 76 to 100 % in masks of ids.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

__all__ = ["count_values", "snap_to_two"]

Mask = NDArray[np.int32]

NEAR_SHARE = 0.9  # of all pixels lie near one of the two values
NEAR = 1 / 8  # of the distance between the two
MIN_CONTRAST = 32  # whole numbers nearer to each other than this are ids or classes
FEW_VALUES = 4  # so few values are what they are: background, inside and a drawn outline, say
SEAM = 5  # pixels: a square of this size that lies wholly between the two values is a region
FLAT_SHARE, N_EQUAL = 0.5, 3  # of the odd pixels have so many of 4 (in a volume, 6) neighbours like themselves
JPEG_SLACK = 2  # blocks of one value come back as another that is so near
MAX_COUNTED = 2**16
END = 16  # JPEG writes 255 as 254 or 250 now and then: so near to an end of 0..255, the end was meant


def count_values(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different values of an array, in order, and how often each occurs."""
    whole = numbers.dtype.kind in "ui"
    if whole and numbers.size and numbers.min() >= 0 and numbers.max() <= MAX_COUNTED:  # much faster than sorting
        counts = np.bincount(numbers.ravel())
        values = np.flatnonzero(counts)
        return values, counts[values]
    values, counts = np.unique(numbers, return_counts=True)
    return values, counts


def _count_colours(planes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different colours (n, C) of planes (C, *space), and how often each occurs."""
    if len(planes) == 1:
        values, counts = count_values(planes)
        return values[:, None], counts
    if planes.dtype == np.uint8:  # as one number, because sorting rows is slow
        shifts = 8 * np.arange(len(planes))
        values, counts = count_values(sum(p.astype(np.int32) << s for p, s in zip(planes, shifts, strict=True)))
        return values[:, None] >> shifts & 255, counts
    return np.unique(planes.reshape(len(planes), -1).T, axis=0, return_counts=True)


def _peaks(colours: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any] | None:
    """The most frequent of (n, C) colours and the most frequent one far from it, (2, C) float.

    None where too few pixels lie near the two, or more lie between them than near either.
    """
    colours = colours.astype(np.float64)
    first = colours[counts.argmax()]
    distance = np.abs(colours - first).max(axis=1)
    far = 2 * distance >= distance.max()
    peaks = np.stack([first, colours[far][counts[far].argmax()]])
    n_near = [int(counts[near].sum()) for near in _near(colours, peaks)]
    n_between = int(counts.sum()) - sum(n_near)
    return peaks if n_between <= min((1 - NEAR_SHARE) * counts.sum(), *n_near) else None


def _near(values: NDArray[Any], peaks: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the values (..., C) are near either peak, (2, ...)."""
    reach = NEAR * np.abs(peaks[1] - peaks[0]).max()
    return np.stack([(np.abs(values - peak) <= reach).all(axis=-1) for peak in peaks])


def _is_flat(values: NDArray[Any], odd: NDArray[np.bool_]) -> bool:
    """Whether most odd pixels of `values` (*space, C) are like all their next neighbours, or all but one."""
    n_equal = np.zeros(odd.shape, np.int8)
    for axis in range(odd.ndim):
        equal = (np.diff(values, axis=axis) == 0).all(axis=-1)
        before: list[slice] = [slice(None)] * odd.ndim
        after = list(before)
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        n_equal[tuple(before)] += equal
        n_equal[tuple(after)] += equal
    return int((n_equal[odd] >= N_EQUAL).sum()) > FLAT_SHARE * int(odd.sum())


def _meant(peak: NDArray[Any], whole: bool) -> tuple[int, ...]:
    """The numbers that a peak stands for."""
    if not whole:
        return tuple(round(float(v)) for v in peak)
    return tuple(0 if v <= END else 255 if 255 - END <= v <= 255 else int(v) for v in peak)


def snap_to_two(planes: NDArray[Any], *, jpeg: bool = False) -> NDArray[np.int32] | None:
    """Planes (C, *space) whose pixels were all taken to the nearer of two values, or None where there are no such two.

    Values near the ends of 0..255 become 0 and 255. Real numbers are rounded, so 0..1 gives 0 and 1. In a JPEG even
    two values are not exact, and whole blocks may be off by a little.
    """
    colours, counts = _count_colours(planes)
    if len(colours) <= (1 if jpeg else FEW_VALUES):
        return None
    peaks, whole = _peaks(colours, counts), planes.dtype.kind in "ui"
    if peaks is None or (whole and np.abs(peaks[1] - peaks[0]).max() < MIN_CONTRAST):
        return None
    values = np.moveaxis(planes, 0, -1).astype(np.float32)
    distances = np.stack([np.abs(values - peak).max(axis=-1) for peak in peaks])
    if _is_flat(values, np.asarray((distances > (JPEG_SLACK if jpeg else 0)).all(axis=0))):
        return None
    if binary_erosion(~_near(values, peaks).any(axis=0), np.ones((SEAM,) * distances[0].ndim)).any():
        return None
    meant = [_meant(peak, whole) for peak in peaks]
    if meant[0] == meant[1]:
        return None
    nearer = (distances[1] < distances[0]).astype(int)
    return np.asarray(np.moveaxis(np.array(meant, np.int32)[nearer], -1, 0))
