"""Regions, as people draw objects, and the pixels that lie in them.

Corners are (x, y) in pixels with (0, 0) in the outer corner of the first one; a pixel is inside where its centre is. A
centre on an edge that two regions share lies in one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ushape.data.object_pages import merged_objects

__all__ = ["IGNORED", "Corners", "Drawing", "Region", "Rings", "Stamp", "are_around", "draw", "has_pixels"]

Corners = NDArray[np.float64]
Mask = NDArray[np.int32]
Rings = tuple[Corners, ...]

IGNORED = "ignore"
"""Beginning of a class, in small letters, that means: not annotated. QuPath has Ignore*, LabelMe __ignore__."""
BACKGROUND = "background"
AROUND = 4
"""Times the size of the largest of the found objects inside it, and more, that something around them has."""


@dataclass(frozen=True, eq=False)
class Stamp:
    """Pixels that were painted, with the first of them at `row` and `column` of the image.

    bits  eight to a byte, row by row: there may be thousands of them
    size  (height, width) of what is painted
    """

    row: int
    column: int
    bits: NDArray[np.uint8]
    size: tuple[int, int]

    @classmethod
    def of(cls, inside: NDArray[np.bool_], row: int, column: int) -> Stamp:
        """The stamp of a mask (height, width) whose first pixel lies there."""
        return cls(row, column, np.packbits(inside), (inside.shape[0], inside.shape[1]))

    @property
    def inside(self) -> NDArray[np.bool_]:
        """The mask (height, width)."""
        n = self.size[0] * self.size[1]
        return np.unpackbits(self.bits, count=n).view(np.bool_).reshape(self.size)


@dataclass(frozen=True, eq=False)
class Region:
    """One object as it was drawn.

    parts   what belongs to it: of each, a pixel is inside where an odd number of the rings go around it; a ring is
            (N, 2), its corners as (x, y)
    name    of its class; empty where it has none
    stamps  what belongs to it, too
    """

    parts: tuple[Rings, ...]
    name: str = ""
    stamps: tuple[Stamp, ...] = ()

    @property
    def is_ignored(self) -> bool:
        """Whether its pixels are said to be not annotated."""
        return self.name.strip("_").lower().startswith(IGNORED)

    @property
    def is_background(self) -> bool:
        """Whether it says that nothing is there."""
        return self.name.strip("_").lower() == BACKGROUND


@dataclass(frozen=True)
class Drawing:
    """All regions of an image, in the order they were drawn in.

    size    (height, width) of the image they were drawn on, where the file says it
    others  how many lines, points and the like there are beside them
    around  how many of QuPath's annotations there are around cells or detections, and are left out
    """

    regions: tuple[Region, ...]
    size: tuple[int, int] | None = None
    others: int = 0
    around: int = 0

    @property
    def objects(self) -> tuple[Region, ...]:
        """The regions that are something."""
        return tuple(region for region in self.regions if not region.is_ignored and not region.is_background)


def _edges(rings: Rings) -> tuple[Corners, Corners]:
    """(where they start, where they end), each (N, 2), of all edges of rings."""
    return np.concatenate(rings), np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])


def _area(region: Region) -> float:
    """The area inside its outer rings."""
    outer = [(rings[0], np.roll(rings[0], 1, axis=0)) for rings in region.parts]
    return float(sum(abs(np.sum(a[:, 1] * b[:, 0] - a[:, 0] * b[:, 1])) / 2 for a, b in outer))


def _around(region: Region, points: Corners) -> NDArray[np.bool_]:
    """Which of the points (N, 2) lie in a region's rings."""
    starts, ends = (np.concatenate(rings) for rings in zip(*map(_edges, region.parts), strict=True))
    inside = np.zeros(len(points), np.bool_)
    x, y = points.T
    for (x0, y0), (x1, y1) in zip(starts, ends, strict=True):
        inside ^= ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * (x1 - x0) / ((y1 - y0) or 1))
    return inside


def are_around(regions: Sequence[Region], found: Sequence[Region]) -> list[Region]:
    """The regions that objects which a program found lie in, and that are much larger than each of these."""
    if not found:
        return []
    middles = np.array([each.parts[0][0].mean(axis=0) for each in found])
    areas = np.array([_area(each) for each in found])
    around = []
    for region in regions:
        inside = np.flatnonzero(_around(region, middles))
        if len(inside) and _area(region) >= AROUND * areas[inside].max():
            around.append(region)
    return around


def _inside(rings: Rings, size: tuple[int, int]) -> NDArray[np.intp]:
    """Flat indices of the pixels of an image (height, width) whose centres an odd number of the rings go around.

    Row by row: a centre is inside where an odd number of edges were crossed on the way to it from the left. An edge
    is crossed from its upper end on and up to its lower one, and by a centre that lies on it.
    """
    starts, ends = _edges(rings)
    # All downwards, so that two regions that share an edge cross it at the same place.
    upper, lower = (np.where((starts[:, 1:] < ends[:, 1:]) == way, starts, ends) for way in (True, False))
    first, last = (np.clip(np.ceil(end[:, 1] - 0.5), 0, size[0]).astype(int) for end in (upper, lower))
    counts = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(counts)), counts)
    if not len(edge):
        return np.empty(0, np.intp)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    across, down = (lower - upper).T
    slope = across / np.where(down == 0, 1, down)
    x = upper[edge, 0] + (rows + 0.5 - upper[edge, 1]) * slope[edge]
    columns = np.clip(np.ceil(x - 0.5), 0, size[1]).astype(int)
    top, left = rows.min(), columns.min()
    crossed = np.zeros((rows.max() + 1 - top, columns.max() + 1 - left), np.uint8)
    np.bitwise_xor.at(crossed, (rows - top, columns - left), 1)
    y, x = np.nonzero(np.bitwise_xor.accumulate(crossed, axis=1))
    return np.asarray((y + top) * size[1] + x + left, np.intp)


def _stamped(stamp: Stamp, size: tuple[int, int]) -> NDArray[np.intp]:
    """Flat indices of its pixels in an image (height, width)."""
    y, x = np.nonzero(stamp.inside)
    y, x = y + stamp.row, x + stamp.column
    kept = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
    return np.asarray(y[kept] * size[1] + x[kept], np.intp)


def _pixels(region: Region, size: tuple[int, int]) -> NDArray[np.intp]:
    """Flat indices of a region's pixels in an image (height, width), each of them once."""
    found = [_inside(rings, size) for rings in region.parts] + [_stamped(stamp, size) for stamp in region.stamps]
    return found[0] if len(found) == 1 else np.unique(np.concatenate(found))


def has_pixels(drawing: Drawing, size: tuple[int, int]) -> bool:
    """Whether any pixel of an image (height, width) lies in an object."""
    return any(len(_pixels(region, size)) for region in drawing.objects)


def draw(drawing: Drawing, size: tuple[int, int], classes: Sequence[str] = ()) -> Mask:
    """The mask (height, width) of a drawing: each object an id 1..n, in the order they were drawn in.

    Where regions overlap, the smaller one is on top; one that is covered wholly gets no id. What is said to be ignored
    is -1.

    classes  names, the background first: then each pixel holds the number of its region's class instead. A region of no
             class is of the only one, or is ignored where there are several.
    """
    objects = drawing.objects
    pixels = [_pixels(region, size) for region in objects]
    if classes:
        unnamed = 1 if len(classes) == 2 else -1
        mask = np.zeros(size, np.int32)
        for place in sorted(range(len(objects)), key=lambda k: (-len(pixels[k]), k)):
            name = objects[place].name
            mask.reshape(-1)[pixels[place]] = classes.index(name) if name in classes[1:] else unnamed
    else:
        mask = merged_objects(pixels, size)
    for region in drawing.regions:
        if region.is_ignored:
            mask.reshape(-1)[_pixels(region, size)] = -1
    return mask
