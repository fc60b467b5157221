"""What one pixel's answer can see, and what it looks at: the receptive field, drawn on the image.

The frame is exact: no pixel outside it can change the answer, whatever the weights are. Inside it the influence is
measured: how much the answer would move if a pixel changed a little. After training most of it lies near the middle,
on what the network has learnt to look at; the far parts of the frame count for little.

References: Luo et al. 2016 (arXiv 1701.04128); P5 of docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError
from ushape.geometry import Interval, mirrored
from ushape.picture.overlay import INVENTED, MISSED, Picture, to_display
from ushape.picture.plate import Frame, Panel, Plate, colour_map, draw_panels, heat
from ushape.prediction.gradients import extent

__all__ = ["draw_receptive_field", "glow"]

FIELD, PIXEL = MISSED, INVENTED
"""Colours of the frame and of the pixel: orange and sky blue."""

FEW_PIXELS = 100
"""Up to this many on a side, one pixel is large enough on a plate to be seen in a frame."""

OUTSIDE = 0.35
"""Share of the light that is left to what lies outside the image."""

BRIGHTEST = 99.8
"""Percentile of the influence at which a picture is brightest; a few pixels have far more."""

HALF, MOST = 0.5, 0.95
"""Shares of all influence whose squares are measured."""


def glow(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Magnitudes as shares of the brightest colour, their square roots: gradients have long tails."""
    positive = values[values > 0]
    top = float(np.percentile(positive, BRIGHTEST)) if positive.size else 1.0
    return np.sqrt(np.clip(np.asarray(values, np.float64) / max(top, np.finfo(np.float64).tiny), 0, 1))


def draw_receptive_field(
    image: NDArray[Any],
    found: NDArray[np.floating[Any]],
    place: Sequence[int],
    field: Sequence[Interval],
    *,
    mean: NDArray[np.floating[Any]] | None = None,
    outside: bool = True,
    asked: str = "the answer for the marked pixel",
    side: float = 300.0,
    width: int = 1600,
) -> Plate:
    """The receptive field of a pixel on its image, and the influence measured in it.

    Args:
        image: (C, height, width), as it is to be shown.
        found: (height, width) as `influence` gives it.
        place: (row, column) of the pixel.
        field: (start, stop) of rows and of columns, as `reads` gives them; may reach beyond the image.
        mean: as `mean_influence` gives it, for a third panel.
        outside: whether the network sees the image mirrored there; else it sees zeros.
        asked: what the influence is on, in words.
        side: of a panel, in units; three of them are as wide as `width` pixels.
    """
    size = image.shape[1:]
    if found.shape != size or len(field) != 2:
        raise DataError(
            f"expected influence of the image's size {size} and a field of two intervals, found {found.shape} and "
            f"{len(field)}; of a volume, pass one slice"
        )
    rows, columns = field
    on_image, corner = _on_image(image, found, field, mirror=outside)
    marks = (
        Frame(rows[0] - corner[0], columns[0] - corner[1], rows[1] - corner[0], columns[1] - corner[1], FIELD),
        _around(place[0] - corner[0], place[1] - corner[1], size),
    )
    high, wide = rows[1] - rows[0], columns[1] - columns[0]
    beyond = min(rows[0], columns[0]) < 0 or rows[1] > size[0] or columns[1] > size[1]
    seen_as = "mirrored" if outside else "as zeros"
    panels = [
        Panel(
            on_image,
            "On the image",
            (
                f"Orange: the receptive field, {high}×{wide} px around row {place[0]}, column {place[1]} (blue)."
                + (f" Beyond the image (dark) the network sees it {seen_as}." if beyond else ""),
                "Glowing: where a small change moves " + asked + ".",
            ),
            marks,
        ),
        _close(found, place, field),
    ]
    words = _caption(high, wide, beyond, seen_as, asked)
    if mean is not None:
        panel, sentence = _mean_panel(mean)
        panels.append(panel)
        words = f"{words} {sentence}"
    picture = draw_panels("What one pixel's answer sees", panels, columns=len(panels), side=side, width=width)
    return Plate(picture, words)


def _around(row: int, column: int, size: Sequence[int]) -> Frame:
    """A frame around a pixel; in a large image around its neighbours too, so that the pixel stays visible."""
    room = 1 if max(size) > FEW_PIXELS else 0
    return Frame(row - room, column - room, row + 1 + room, column + 1 + room, PIXEL)


def _on_image(
    image: NDArray[Any], found: NDArray[np.floating[Any]], field: Sequence[Interval], *, mirror: bool
) -> tuple[Picture, tuple[int, int]]:
    """The image with the influence glowing on it, continued where the field leaves it; and its first row and column."""
    picture = heat(to_display(image), glow(found))
    spans = [(min(0, start), max(n, stop)) for (start, stop), n in zip(field, image.shape[1:], strict=True)]
    places = [mirrored(start, stop, n) for (start, stop), n in zip(spans, image.shape[1:], strict=True)]
    # Outside, only what is seen there: the influence belongs to the pixels themselves.
    around = to_display(image)[np.ix_(*places)] * (OUTSIDE if mirror else 0.0)
    whole = np.rint(around).astype(np.uint8)
    top, left = -spans[0][0], -spans[1][0]
    whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole, (spans[0][0], spans[1][0])


def _close(found: NDArray[np.floating[Any]], place: Sequence[int], field: Sequence[Interval]) -> Panel:
    """The influence in the part of the field that lies in the image."""
    (top, bottom), (left, right) = (
        (max(0, start), min(n, stop)) for (start, stop), n in zip(field, found.shape, strict=True)
    )
    inside = found[top:bottom, left:right]
    shares = np.sort(inside.ravel())[::-1].cumsum() / max(float(inside.sum()), np.finfo(np.float64).tiny)
    n_half = int(np.searchsorted(shares, HALF)) + 1
    row, column = place[0] - top, place[1] - left
    return Panel(
        colour_map(glow(inside), 1.0, "inferno"),
        "Influence in this image",
        (
            f"Half of it comes from {n_half} pixels, {100 * n_half / inside.size:.2g} % of those shown. "
            "Brightness is its square root, so that weak influence shows too.",
        ),
        (_around(row, column, found.shape),),
    )


def _mean_panel(mean: NDArray[np.floating[Any]]) -> tuple[Panel, str]:
    """The effective receptive field with the squares that hold half and most of it; and a sentence."""
    middle = mean.shape[0] // 2
    half, most = extent(mean, HALF), extent(mean, MOST)
    frames = tuple(
        Frame(middle - n, middle - n, middle + n + 1, middle + n + 1, colour)
        for n, colour in ((half, PIXEL), (most, FIELD))
    )
    said = (
        f"half of all influence lies within {half} px of the pixel (a square of {2 * half + 1} px), "
        f"95 % within {most} px ({2 * most + 1} px)"
    )
    panel = Panel(
        colour_map(glow(mean), 1.0, "inferno"),
        "Mean influence around many pixels",
        (
            f"Blue: the square of {2 * half + 1} px that holds half of it; orange: {2 * most + 1} px, 95 %. "
            f"In all {mean.shape[0]} px are shown.",
        ),
        frames,
    )
    return panel, f"On the average over many pixels of this image {said}, of {mean.shape[0]} px that are looked at."


def _caption(high: int, wide: int, beyond: bool, seen_as: str, asked: str) -> str:
    """What the frame says, and what the influence does not."""
    outside = f" It reaches beyond the image, which the network sees {seen_as} there." if beyond else ""
    return (
        f"The orange frame, {high}×{wide} px, is the receptive field: it follows from the layers alone, and no pixel "
        f"outside it can change {asked}.{outside} The glow is measured: the magnitude of the gradient of the answer's "
        "log odds with respect to each pixel, for this image and these weights. It tells about small changes of single "
        "pixels only; where it is dark, a larger change or one of many pixels may still matter."
    )
