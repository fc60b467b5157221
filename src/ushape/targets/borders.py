"""The separation of touching objects: a ridge of background between them, and the weights that defend it.

Both belong to the paper's recipe for instances: cells that touch are separated by a thin ridge of background before
training (P15), and the loss is heavier on the background that lies between two near cells, so that the network
learns to keep it open (P14).

Conventions
- mask (*space) int32, 2-D or 3-D, ids > 0, 0 = background, -1 = ignore. Distances are Euclidean, in pixels, from
  pixel centre to pixel centre: a background pixel beside a cell is at distance 1.
- Neighbours are the 8 (in 3-D 26) pixels that share a side or a corner.

References
- Ronneberger et al. 2015, equation 2 and section 3.
- Falk et al. 2019, U-Net: deep learning for cell counting, detection, and morphometry (the authors' later weights).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["border_weights", "border_weights_2019", "compact_ids", "contacts", "separate_touching"]

Mask = NDArray[np.integer[Any]]
Float = NDArray[np.float32]

# Where the border term would be smaller than this it is left at 0.
NEGLIGIBLE = 5e-5


def compact_ids(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """(labels, n): the same objects numbered 1..n by rising id, everything else 0; (*space) int32."""
    foreground = mask > 0
    values = mask[foreground]
    ids = np.unique(values)
    labels = np.zeros(mask.shape, np.int32)
    labels[foreground] = np.searchsorted(ids, values) + 1
    return labels, len(ids)


def contacts(mask: Mask) -> NDArray[np.bool_]:
    """(*space) True at every object pixel with a neighbour of another object."""
    touching = np.zeros(mask.shape, bool)
    for here, there in _neighbour_pairs(mask.ndim):
        meet = (mask[here] != mask[there]) & (mask[here] > 0) & (mask[there] > 0)
        touching[here] |= meet
        touching[there] |= meet
    return touching


def separate_touching(mask: Mask, width: int = 1) -> NDArray[np.int32]:
    """Open a ridge of background where two objects touch (P15); everything else stays as it is.

    Args:
        mask: (*space) instances.
        width: thickness of the ridge in pixels. The larger of two touching objects (of equal ones, that with the
            higher id) gives the first pixel, the smaller the second, and so on in turn; so a ridge of 1 takes
            nothing from the smaller.

    Returns:
        (*space) int32: the mask with the ridge set to 0. With width >= 1 no two objects touch any more.
    """
    rank = _rank_by_area(mask)
    gives = {side: np.zeros(mask.shape, bool) for side in ("larger", "smaller")}
    for turn in range(width):
        side = "larger" if turn % 2 == 0 else "smaller"
        gives[side] = _grow_within(gives[side], rank) if turn >= 2 else _touching_side(rank, side == "larger")
    ridge = gives["larger"] | gives["smaller"]
    return np.where(ridge, 0, mask).astype(np.int32)


def border_weights(mask: Mask, w0: float = 10.0, sigma: float = 5.0, class_balance: bool = True) -> Float:
    """The weight of each pixel in the loss, w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) (P14).

    d1 and d2 are a background pixel's distances to the nearest and to the second nearest object. The border term is
    0 inside objects and where there are fewer than two objects, and it is left out where it is below 5e-5. w_c is
    n / (2 n_c) for the class c of the pixel, object or background, with n_c of all n counted pixels: both classes
    weigh the same together, and the mean of w_c is 1. With one class only, or without class_balance, w_c = 1.

    Args:
        mask: (*space) instances, -1 = ignore; touching objects are separated beforehand.
        w0: the border term's height.
        sigma: its reach, in pixels.
        class_balance: whether w_c balances object and background.

    Returns:
        (*space) float32; 0 at ignored pixels.
    """
    weights = np.ones(mask.shape)
    if class_balance:
        n_object, n_background = int((mask > 0).sum()), int((mask == 0).sum())
        if n_object and n_background:
            weights[mask > 0] = (n_object + n_background) / (2 * n_object)
            weights[mask == 0] = (n_object + n_background) / (2 * n_background)
    weights += _border_term(mask, w0, sigma)
    weights[mask < 0] = 0
    return weights.astype(np.float32)


def border_weights_2019(
    mask: Mask, background: float = 0.1, w0: float = 50.0, sigma: float = 6.0, fade: float = 10.0
) -> Float:
    """The weights of the authors' later release: 1 on objects, and little on background that is far from all of them.

    A background pixel weighs v + (1 - v) exp(-d1^2 / (2 fade^2)) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), with
    v = `background`. Without any object it weighs v; with one only, there is no last term.

    Args:
        mask: (*space) instances, -1 = ignore; touching objects are separated beforehand.
        background: what background weighs far from all objects.
        w0: the border term's height.
        sigma: its reach, in pixels.
        fade: how far from objects, in pixels, background still weighs nearly as much as they do.

    Returns:
        (*space) float32; 0 at ignored pixels. The border term is left out where it is below 5e-5.
    """
    weights = np.ones(mask.shape)
    here = mask == 0
    near = np.zeros(mask.shape)
    if (mask > 0).any():
        near = np.exp(-(ndimage.distance_transform_edt(mask <= 0) ** 2) / (2 * fade**2))
    weights[here] = background + (1 - background) * near[here]
    weights += _border_term(mask, w0, sigma)
    weights[mask < 0] = 0
    return weights.astype(np.float32)


def _border_term(mask: Mask, w0: float, sigma: float) -> NDArray[np.float64]:
    """w0 exp(-(d1 + d2)^2 / (2 sigma^2)) on background, 0 elsewhere and where it is negligible."""
    term = np.zeros(mask.shape)
    if w0 > NEGLIGIBLE:
        reach = sigma * math.sqrt(2 * math.log(w0 / NEGLIGIBLE))
        both = _two_nearest(mask, reach)
        near = (both <= reach) & (mask == 0)
        term[near] = w0 * np.exp(-(both[near] ** 2) / (2 * sigma**2))
    return term


def _two_nearest(mask: Mask, reach: float) -> NDArray[np.float64]:
    """d1 + d2 of every pixel, exact wherever it is at most `reach`, larger (often infinite) elsewhere.

    d1 + d2 <= reach asks for d2 < reach, so an object matters only in its bounding box widened by the reach: one
    small distance transform per object, of which each pixel keeps the two smallest values.
    """
    labels, _ = compact_ids(mask)
    first = np.full(mask.shape, np.inf)
    second = np.full(mask.shape, np.inf)
    widen = math.floor(reach)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        window = tuple(slice(max(side.start - widen, 0), side.stop + widen) for side in box)
        distance = ndimage.distance_transform_edt(labels[window] != index)
        nearest = first[window]
        np.minimum(second[window], np.maximum(nearest, distance), out=second[window])
        np.minimum(nearest, distance, out=nearest)
    both: NDArray[np.float64] = first + second
    return both


def _rank_by_area(mask: Mask) -> NDArray[np.int32]:
    """(*space) 0 outside objects, else the object's place when sorted by area and then by id, from 1."""
    labels, n = compact_ids(mask)
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    rank = np.zeros(n + 1, np.int32)
    rank[1 + np.argsort(areas[1:], kind="stable")] = np.arange(1, n + 1)
    return rank[labels]


def _touching_side(rank: NDArray[np.int32], larger: bool) -> NDArray[np.bool_]:
    """(*space) True at the pixels of the larger (or smaller) of two objects that touch here."""
    side = np.zeros(rank.shape, bool)
    for here, there in _neighbour_pairs(rank.ndim):
        a, b = rank[here], rank[there]
        meet = (a > 0) & (b > 0)
        side[here] |= meet & ((a > b) if larger else (a < b))
        side[there] |= meet & ((b > a) if larger else (b < a))
    return side


def _grow_within(region: NDArray[np.bool_], rank: NDArray[np.int32]) -> NDArray[np.bool_]:
    """The region and its neighbours of the same object."""
    grown = region.copy()
    for here, there in _neighbour_pairs(rank.ndim):
        same = rank[here] == rank[there]
        grown[here] |= region[there] & same
        grown[there] |= region[here] & same
    return grown


def _neighbour_pairs(ndim: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each of the (3^ndim - 1) / 2 directions two equal windows, so that array[a] and array[b] are neighbours."""
    ends = {-1: (slice(1, None), slice(None, -1)), 0: (slice(None),) * 2, 1: (slice(None, -1), slice(1, None))}
    for offset in itertools.product((-1, 0, 1), repeat=ndim):
        if offset > (0,) * ndim:
            yield tuple(ends[o][0] for o in offset), tuple(ends[o][1] for o in offset)
