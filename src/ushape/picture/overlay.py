"""Images with what was found in them, as arrays of colours.

Conventions
- image (C, height, width) of any real type; labels and instances (height, width) integers, 0 = background, -1 =
  ignore. Of a volume, pass one slice. Pictures are (height, width, 3) uint8 RGB, of the image's size, so that they can
  be tiled, saved and tested without a screen.
- A label keeps its colour in every picture. Colours follow each other by the golden angle around the colour circle,
  so that neighbouring ids, which are often neighbouring objects, are far apart. Classes take the colours that a data
  set has chosen for them, where it has.
- Error maps use three colours of Okabe and Ito that people with any colour blindness tell apart, and that differ in
  lightness too: bluish green found, orange missed, sky blue invented. `LEGEND` names them.

References: Okabe and Ito 2008, Color Universal Design; an object is found at IoU > 0.5 as in `ushape.scoring.objects`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.errors import DataError

__all__ = [
    "FOUND",
    "INVENTED",
    "LEGEND",
    "MISSED",
    "display_limits",
    "draw_errors",
    "error_map",
    "errors",
    "hatch",
    "label_colours",
    "overlay",
    "to_display",
]

Image = NDArray[Any]
Labels = NDArray[np.integer[Any]]
Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

FOUND = (0, 158, 115)
MISSED = (230, 159, 0)
INVENTED = (86, 180, 233)

# What each colour of an error map means, in the order in which a legend should say it.
LEGEND: tuple[tuple[str, Colour], ...] = (("found", FOUND), ("missed", MISSED), ("invented", INVENTED))

# Percentiles that become black and white: a few hot or dead pixels must not decide the contrast.
DARKEST, BRIGHTEST = 0.5, 99.5

# Share of the light that an error map leaves to the image, so that its colours stand out.
DIMMED = 0.5

# Pixels from one stripe to the next, of which a quarter is striped.
STRIPE_PERIOD = 8

BAND = 1024  # rows that are drawn at a time

GOLDEN_ANGLE = 0.381966  # of a full turn, (3 - sqrt 5) / 2


def display_limits(image: Image) -> tuple[tuple[float, float], ...]:
    """What becomes black and what becomes bright in each channel of an image (C, height, width), for `to_display`."""
    return tuple(_limits(channel.astype(np.float64)) for channel in np.asarray(image))


def to_display(image: Image, limits: Sequence[tuple[float, float]] = ()) -> Picture:
    """An image of any kind as colours: each channel is stretched from its 0.5th to its 99.5th percentile.

    One channel becomes grey, two become magenta and green (white where both are bright), of three and more the first
    three become red, green and blue. An image of one value throughout is shown as mid grey; a channel of one value
    beside others is dark, and so is what is no finite number.

    Args:
        image: (C, height, width), real numbers or bool.
        limits: of each channel instead of its own percentiles, as `display_limits` gives them, so that several images
            can be compared in brightness.

    Returns:
        (height, width, 3) uint8.

    Raises:
        DataError: the array has no channel axis, or is a volume.
    """
    first = _drawable(image)[:3]
    chosen = limits[:3] or display_limits(first)
    flat = 0.5 if all(low == high for low, high in chosen) else 0.0
    planes = [_stretch(channel, limit, flat) for channel, limit in zip(first, chosen, strict=True)]
    if len(planes) == 1:
        red = green = blue = planes[0]
    elif len(planes) == 2:
        red, green = planes
        blue = red
    else:
        red, green, blue = planes
    return np.rint(np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)


def label_colours(labels: Labels, colours: Sequence[Colour] = ()) -> Picture:
    """The colour of each label, (*labels.shape, 3) uint8; black for 0 and below, the same for a label everywhere.

    Args:
        labels: integers.
        colours: the colours to give to labels, by label; those beyond the last one have their own.
    """
    labels = np.asarray(labels)
    values = np.unique(labels)
    chosen = [colours[v] if 0 < v < len(colours) else _colour(v) for v in map(int, values)]
    table = np.array(chosen, dtype=np.uint8).reshape(-1, 3)
    return table[np.searchsorted(values, labels)]


def overlay(image: Image, labels: Labels, alpha: float = 0.45, colours: Sequence[Colour] = ()) -> Picture:
    """The image with each label as a tint and a full outline of its own colour.

    Args:
        image: (C, height, width).
        labels: (height, width) classes or instances; 0 and below stay as they are.
        alpha: weight of the tint inside the outlines, in [0, 1]; 0 draws outlines only.
        colours: as in `label_colours`.

    Returns:
        (height, width, 3) uint8.
    """
    image, labels = _drawable(image), np.asarray(labels)
    _check_size(image.shape[1:], labels)
    limits, picture = display_limits(image[:3]), np.empty((*labels.shape, 3), np.uint8)
    # Band by band: colours in float64 take many times the room of the picture.
    for top in range(0, len(labels), BAND):
        rows = slice(top, top + BAND)
        painted, inside = label_colours(labels[rows], colours), labels[rows] > 0
        picture[rows] = _blend(to_display(image[:, rows], limits), painted, alpha * inside)
        # An outline asks the rows next to the band too.
        around = max(top - 1, 0)
        outline = _outline(labels[around : top + BAND + 1])[top - around :][: len(painted)]
        picture[rows][outline] = painted[outline]
    return picture


def hatch(picture: Picture, where: NDArray[np.bool_]) -> Picture:
    """The picture (height, width, 3) with stripes where `where` (height, width) is true: what nobody has annotated."""
    _check_size(picture.shape[:2], where)
    rows, columns = np.arange(where.shape[0])[:, None], np.arange(where.shape[1])
    stripes = (rows + columns) % STRIPE_PERIOD < STRIPE_PERIOD / 4
    return _blend(picture, np.where(stripes, 200, 70)[..., None], 0.5 * where)


def errors(reference: Labels, estimate: Labels, *, instances: bool) -> tuple[Labels, Labels, Labels]:
    """(found, missed, invented): three label arrays, 0 where nothing of the kind is.

    Classes are compared pixel by pixel: found where both give the same class above 0, missed where the reference has a
    class that the estimate has not, invented where only the estimate has one. A pixel with two different classes is
    missed.

    Instances are compared object by object: found and invented objects are those of the estimate, missed ones those of
    the reference, so a pixel can be in two arrays. An estimate object that lies mostly on ignored pixels without being
    a match is neither, as in the scores.

    Args:
        reference: (height, width) integers, -1 = ignore: 0 in all three arrays.
        estimate: (height, width) integers.
        instances: whether labels are objects or classes.
    """
    reference, estimate = np.asarray(reference), np.asarray(estimate)
    _check_size(reference.shape, estimate)
    counted = reference >= 0
    if not instances:
        found = np.where((reference > 0) & (reference == estimate), reference, 0)
        missed = np.where((reference > 0) & (reference != estimate), reference, 0)
        return found, missed, np.where((reference == 0) & (estimate > 0), estimate, 0)
    found_reference, found_estimate, invented = _matches(reference, estimate, counted)
    missed = np.where(np.isin(reference, found_reference) | ~counted, 0, reference)
    found = np.where(np.isin(estimate, found_estimate) & counted, estimate, 0)
    return found, missed, np.where(np.isin(estimate, invented) & counted, estimate, 0)


def draw_errors(image: Image, found: Labels, missed: Labels, invented: Labels, *, instances: bool) -> Picture:
    """What `errors` gave, in the colours of `LEGEND` on the dimmed grey image; objects are outlined.

    Args:
        image: (C, height, width).
        found, missed, invented: (height, width) each.
        instances: whether labels are objects or classes.

    Returns:
        (height, width, 3) uint8.
    """
    picture = to_display(image)
    grey = picture.mean(axis=-1, keepdims=True) * DIMMED
    picture = np.broadcast_to(np.rint(grey), picture.shape).astype(np.uint8)
    # Missed last: where an invented object lies over a missed one, what is missing must not be hidden.
    for labels, colour in ((found, FOUND), (invented, INVENTED), (missed, MISSED)):
        _check_size(picture.shape[:2], labels)
        # An outlined object needs less colour; among pixels, wrong ones need more attention than right ones.
        strength = 0.4 if instances else 0.45 if colour is FOUND else 0.75
        picture = _blend(picture, np.array(colour), strength * (labels > 0))
        if instances:
            picture[_outline(labels)] = colour
    return picture


def error_map(image: Image, reference: Labels, estimate: Labels, *, instances: bool) -> Picture:
    """Where an estimate is right and where it is wrong: `errors`, drawn by `draw_errors`."""
    found, missed, invented = errors(reference, estimate, instances=instances)
    return draw_errors(image, found, missed, invented, instances=instances)


def _matches(reference: Labels, estimate: Labels, counted: NDArray[np.bool_]) -> tuple[Labels, Labels, Labels]:
    """(reference ids that were found, estimate ids that found them, estimate ids that are invented).

    The rules are those of `ushape.scoring.objects`: ignored pixels are in no intersection and no union, and an object
    with more than half of its pixels on them is invented nowhere.
    """
    # One sort of all pixels; everything else is read from the few pairs of ids that share any.
    base = int(max(estimate.max(initial=0), 0)) + 1
    pairs = np.where(counted, reference, -1).astype(np.int64) * base + np.maximum(estimate, 0)
    pairs, shared = np.unique(pairs, return_counts=True)
    reference_ids, estimate_ids = np.divmod(pairs, base)
    ignored = reference_ids < 0
    _, row = np.unique(reference_ids, return_inverse=True)
    columns, column = np.unique(estimate_ids, return_inverse=True)
    reference_area, estimate_area = np.bincount(row, shared), np.bincount(column, shared * ~ignored)
    ignored_area = np.bincount(column, shared * ignored)

    union = reference_area[row] + estimate_area[column] - shared
    match = (reference_ids > 0) & (estimate_ids > 0) & (2 * shared > union)
    found = estimate_ids[match]
    invented = np.setdiff1d(columns[(columns > 0) & (ignored_area <= estimate_area)], found)
    return reference_ids[match], found, invented


def _drawable(image: Image) -> Image:
    """The image, when it is one: (C, height, width)."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[0] == 0:
        raise DataError(
            f"expected an image of shape (channels, height, width) to draw, found {image.shape}; "
            "add a channel axis with image[None], or pass one slice of a volume"
        )
    return image


def _check_size(size: tuple[int, ...], labels: NDArray[Any]) -> None:
    if labels.shape != size:
        raise DataError(
            f"expected labels of the image's size {size}, found {labels.shape}; draw each image with its own labels"
        )


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """The percentiles of a channel that become black and bright."""
    finite = np.isfinite(values)
    values = values if finite.all() else values[finite]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, [DARKEST, BRIGHTEST])
    if low == high:
        # Objects on a flat background can fill less than half a percent: fall back to the full range.
        low, high = values.min(), values.max()
    return float(low), float(high)


def _stretch(channel: Image, limits: tuple[float, float], flat: float) -> NDArray[np.float64]:
    """One channel in [0, 1], dark to bright; `flat` throughout where its limits are one."""
    low, high = limits
    if low == high:
        return np.full(channel.shape, flat)
    values = channel.astype(np.float64)
    if not np.isfinite(values).all():
        values[~np.isfinite(values)] = low
    stretched: NDArray[np.float64] = np.clip((values - low) / (high - low), 0, 1)
    return stretched


def _colour(label: int) -> tuple[int, int, int]:
    """RGB of one label: golden-angle hues, with lightness changing too for ids that share a hue by chance."""
    if label <= 0:
        return (0, 0, 0)
    hue = (0.05 + label * GOLDEN_ANGLE) % 1
    lightness = (0.62, 0.5, 0.7)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _outline(labels: Labels) -> NDArray[np.bool_]:
    """The pixels of each object that touch another value: one pixel wide, inside it, open at the image's border."""
    highest = ndimage.maximum_filter(labels, size=3, mode="nearest")
    lowest = ndimage.minimum_filter(labels, size=3, mode="nearest")
    outline: NDArray[np.bool_] = (labels > 0) & (highest != lowest)
    return outline


def _blend(picture: Picture, colours: NDArray[Any], weight: NDArray[Any]) -> Picture:
    """picture and colours mixed by a weight in [0, 1] per pixel."""
    share = np.asarray(weight, dtype=np.float64)[..., None]
    return np.rint(picture * (1 - share) + colours * share).astype(np.uint8)
