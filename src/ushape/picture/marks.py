"""Lines, arrows and outlines upon pictures, and a sheet of such pictures.

A mark is a function from the spot where a picture stands to shapes: it is made in pixels of the picture, and becomes
units of the sheet when its place is known.

Conventions: those of `ushape.picture.canvas`; places in a picture are (row, column), (0, 0) being the centre of the
first pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.picture.canvas import Bitmap, Box, Drawing, Polygon, Shape, Text, arrow
from ushape.picture.legend import INK, SOFT
from ushape.picture.overlay import Colour, label_colours
from ushape.picture.plate import in_lines

__all__ = ["IN_A_ROW", "SIDE", "Mark", "MarkedPanel", "Spot", "arrows", "curves", "frame", "grid", "outlines", "sheet"]

Floats = NDArray[np.floating[Any]]

ROWS, COLUMNS, BORDER = "#56b4e9", "#ff8f5a", "#ffffff"
"""Grid lines along rows and along columns, so that a turn is seen; the border of the image."""
MOVED = "#ffd21f"
"""Arrows and frames."""

MARGIN, GAP, TITLE, WORDS, LINE, SIDE, IN_A_ROW = 24.0, 20.0, 17.0, 11.5, 15.0, 236.0, 4
"""Around everything, between panels, sizes of the heading and of words, from line to line, the largest side of a panel
in units, and panels in a row."""


@dataclass(frozen=True)
class Spot:
    """Where a picture stands on the sheet: its corner, and units per pixel."""

    x: float
    y: float
    scale: float

    def at(self, row: float, column: float) -> tuple[float, float]:
        """The place on the sheet of a place in the picture."""
        return self.x + (column + 0.5) * self.scale, self.y + (row + 0.5) * self.scale


Mark = Callable[[Spot], Iterator[Shape]]


@dataclass(frozen=True)
class MarkedPanel:
    """A picture (rows, columns, 3) with a title above, words below and marks upon it."""

    picture: NDArray[np.uint8]
    title: str
    said: str = ""
    marks: tuple[Mark, ...] = ()


def curves(values: Floats, levels: Sequence[float], tolerance: float = 0.1) -> Iterator[Floats]:
    """The lines (n, 2) of places along which `values` (rows, columns) has one of the levels.

    They reach to the rim of the outermost pixels, half a pixel beyond their centres, where `values` is continued
    straight on. `tolerance` is how far, in pixels, a line may be off for the sake of fewer points.
    """
    from skimage import measure

    find: Any = measure.find_contours  # scikit-image has no types here
    simplify: Any = measure.approximate_polygon
    values = np.asarray(values, np.float64)
    if min(values.shape) < 2:
        return
    places = [np.array([-0.5, *range(n), n - 0.5]) for n in values.shape]
    for axis in (0, 1):
        first, second, before, last = (values.take([index], axis) for index in (0, 1, -2, -1))
        values = np.concatenate([1.5 * first - 0.5 * second, values, 1.5 * last - 0.5 * before], axis)
    for level in levels:
        for curve in find(values, level):
            placed = [np.interp(curve[:, axis], np.arange(len(places[axis])), places[axis]) for axis in (0, 1)]
            yield simplify(np.stack(placed, axis=1), tolerance)


def level_lines(values: Floats, levels: Sequence[float], colour: str, width: float) -> Mark:
    """The lines of `curves`."""

    def draw(spot: Spot) -> Iterator[Shape]:
        for curve in curves(values, levels, 0.1 / spot.scale):
            points = tuple(spot.at(row, column) for row, column in curve)
            yield Polygon(points, line=colour, line_width=width, closed=False)

    return draw


def grid(source: Floats, size: Sequence[int], spacing: float, origin: Sequence[float]) -> tuple[Mark, ...]:
    """A regular grid of an image, and the image's border, as they come to lie in a picture that was read from it.

    Args:
        source: (2, rows, columns), the place in the image where each pixel of the picture was read.
        size: of the image.
        spacing: of the grid, in pixels of the image.
        origin: the place in the image that it goes through.
    """
    marks = []
    for axis, colour in enumerate((ROWS, COLUMNS)):
        low, high = (end - origin[axis] for end in (source[axis].min(), source[axis].max()))
        steps = np.arange(np.floor(low / spacing), np.ceil(high / spacing) + 1)
        marks.append(level_lines(source[axis], list(origin[axis] + spacing * steps), colour, 0.9))
    marks += [level_lines(source[axis], (-0.5, n - 0.5), BORDER, 1.6) for axis, n in enumerate(size)]
    return tuple(marks)


def arrows(places: Floats, moves: Floats) -> Mark:
    """An arrow from each of the places (n, 2), as long as its move (n, 2)."""

    def draw(spot: Spot) -> Iterator[Shape]:
        for start, stop in zip(places, places + moves, strict=True):
            x, y = spot.at(*start)
            yield Box(x - 3, y - 3, 6, 6, fill=MOVED, line="#000000", radius=3)
            yield replace(arrow((x, y), spot.at(*stop), MOVED, 2.2), line="#000000", line_width=0.8)

    return draw


def outlines(mask: NDArray[np.integer[Any]], colours: Sequence[Colour] = ()) -> Mark:
    """The outline of each label of a mask (rows, columns), in its colour; of 0 and below none."""

    def draw(spot: Spot) -> Iterator[Shape]:
        for label, box in enumerate(ndimage.find_objects(np.maximum(mask, 0)), start=1):
            if box is None:
                continue
            # One pixel of something else around it, but where the picture cuts it: there its outline stays open.
            top, left = (max(0, side.start - 1) for side in box)
            own = mask[top : box[0].stop + 1, left : box[1].stop + 1] == label
            red, green, blue = label_colours(np.array([label]), colours)[0]
            for curve in curves(own, (0.5,), 0.25 / spot.scale):
                points = tuple(spot.at(row + top, column + left) for row, column in curve)
                yield Polygon(points, line=f"#{red:02x}{green:02x}{blue:02x}", line_width=1.3, closed=False)

    return draw


def frame(corner: Sequence[float], size: Sequence[int], *, dashed: bool = False) -> Mark:
    """A rectangle around `size` pixels, the first one in the corner (row, column)."""

    def draw(spot: Spot) -> Iterator[Shape]:
        x, y = spot.at(corner[0] - 0.5, corner[1] - 0.5)
        height, width = (n * spot.scale for n in size)
        yield Box(x, y, width, height, line=MOVED, line_width=1.5, dashed=dashed)

    return draw


def sheet(title: str, note: str, panels: Sequence[MarkedPanel], caption: str) -> Drawing:
    """Panels in rows under a title and a note; the caption becomes the drawing's description."""
    width = 2 * MARGIN + IN_A_ROW * SIDE + (IN_A_ROW - 1) * GAP
    shapes: list[Shape] = [Text(MARGIN, MARGIN + TITLE, title, TITLE, INK, bold=True)]
    y = MARGIN + TITLE + 8
    for line in in_lines(note, width - 2 * MARGIN):
        y += LINE
        shapes.append(Text(MARGIN, y, line, WORDS, SOFT))
    for start in range(0, len(panels), IN_A_ROW):
        y += GAP + WORDS
        bottoms = []
        for column, panel in enumerate(panels[start : start + IN_A_ROW]):
            drawn, bottom = _panel(panel, MARGIN + column * (SIDE + GAP), y)
            shapes += drawn
            bottoms.append(bottom)
        y = max(bottoms)
    return Drawing(width, y + MARGIN, tuple(shapes), title, caption)


def _panel(panel: MarkedPanel, x: float, y: float) -> tuple[list[Shape], float]:
    """A panel whose title stands at (x, y), and where it ends."""
    spot = Spot(x, y + 8, SIDE / max(panel.picture.shape[:2]))
    high, wide = (n * spot.scale for n in panel.picture.shape[:2])
    shapes: list[Shape] = [Text(x, y, panel.title, WORDS + 0.5, INK, bold=True)]
    shapes.append(Bitmap(spot.x, spot.y, wide, high, panel.picture))
    shapes += [shape for mark in panel.marks for shape in mark(spot)]
    below = spot.y + high + 3
    lines = in_lines(panel.said, SIDE)
    shapes += [Text(x, below + LINE * n, line, WORDS, SOFT) for n, line in enumerate(lines, start=1)]
    return shapes, below + LINE * len(lines)
