"""Values that stand only in the seams between others, as smoothing or resizing of class masks leaves them.

Halfway between the regions of 0 and 200 a resized mask holds 100, whatever 100 means. Such a value forms lines and no
regions, and its pixels lie between lower and higher ones, where a small object lies above its surroundings. In masks
of three and more values nobody can take them back: 100 may be a mixture or a class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from ushape.data.colours import is_packed
from ushape.data.ghosts import count_values

__all__ = ["solid_and_seams"]

Mask = NDArray[np.int32]

SEAM_SHARE = 0.8  # of a value's pixels lie between lower and higher ones; tips and corners do not


def _inside(values: Mask) -> NDArray[np.bool_]:
    """Pixels whose neighbours along all axes have the same value; outside the mask everything is the same."""
    inside = np.ones(values.shape, bool)
    for axis in range(values.ndim):
        along, kept = np.moveaxis(values, axis, 0), np.moveaxis(inside, axis, 0)
        equal = along[1:] == along[:-1]
        kept[1:] &= equal
        kept[:-1] &= equal
    return inside


def _channels(values: Mask) -> list[NDArray[Any]]:
    """The values themselves, or red, green and blue of packed colours."""
    if is_packed(int(values.max(initial=0))):
        return [(values >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
    return [values]


def _between(values: Mask) -> NDArray[np.bool_]:
    """Pixels that lie between lower and higher neighbours; of colours, in every channel that changes there."""
    between, changes = np.ones(values.shape, bool), np.zeros(values.shape, bool)
    for channel in _channels(values):
        low, high = minimum_filter(channel, 3, mode="nearest"), maximum_filter(channel, 3, mode="nearest")
        between &= ((low < channel) & (channel < high)) | (low == high)
        changes |= low < high
    return between & changes


def solid_and_seams(values: Mask) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(solid, seams): the values with a pixel inside, and those without one that lie between others nearly everywhere.

    values  (*space); -1 is neither. A value may be neither, as that of a small object.
    """
    found, counts = count_values(values)
    solid = {int(v) for v in count_values(values[_inside(values)])[0]} - {-1}
    n_of = {int(v): int(n) for v, n in zip(found, counts, strict=True)}
    thin = set(n_of) - solid - {-1}
    if not thin:
        return tuple(sorted(solid)), ()
    between, n_between = count_values(values[_between(values)])
    shares = {int(v): int(n) / n_of[int(v)] for v, n in zip(between, n_between, strict=True)}
    return tuple(sorted(solid)), tuple(sorted(v for v in thin if shares.get(v, 0.0) >= SEAM_SHARE))
