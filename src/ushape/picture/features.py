"""The feature maps of a network for one image, laid out as the U in which they arise.

Each block shows some channels of one level: to the left what the way down ends with, and what the skip carries, to
the right what the way up makes of it, below both the bottom. All panels of a block have one scale, from 0 to the
99.5th percentile of what is shown; the maps come out of a ReLU and are never negative. Between blocks the scales
differ, so brightness is to be compared within a block only.

Which channels: by default the most different ones, chosen one after the other, each the one that those before it
explain least (the pivots of a QR decomposition of the centred maps). Two channels that show the same are thus not both
shown, and a channel that is the same everywhere comes last.

References: Businger and Golub 1965 (QR with column pivots).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from ushape.errors import DataError, RecipeError
from ushape.picture.canvas import Box, Drawing, Shape, Text, arrow, text_width
from ushape.picture.legend import ARROWS, INK, RIM, SOFT
from ushape.picture.overlay import Picture, to_display
from ushape.picture.plate import Inset, Plate, colour_map, compose, in_lines, shrunk
from ushape.picture.trace import receptive_field
from ushape.prediction.features import FeatureMap

__all__ = ["Order", "choose_channels", "feature_sheet"]

Order = Literal["different", "first"]

MARGIN, MIDDLE, GAP, ROW_GAP, HEAD, BAR = 28.0, 64.0, 6.0, 30.0, 20.0, 70.0
"""Around everything; between the two sides, panels and rows; the line above a block, and the width of its scale."""

HEADING, WORDS, LABEL, LINE = 19.0, 12.0, 11.0, 17.0
"""Sizes of the heading, of sentences and of labels; from line to line."""

WIDTH, TALLEST = 1240.0, 1.5
"""Of the sheet, and the most heights in a width that a panel may have."""

PERCENTILE = 99.5
"""Of what a block shows: the end of its scale."""

MOST_PIXELS = 4096
"""So many places, evenly spread, tell channels apart."""


@dataclass(frozen=True)
class Layout:
    """Lengths on the sheet that depend on the image and on the number of panels."""

    panel: float
    height: float
    n_columns: int
    n: int

    @property
    def side(self) -> float:
        """Width of the blocks of one side."""
        return self.n * (self.panel + GAP) - GAP

    @property
    def row(self) -> float:
        """From the top of a block to that of the one below it."""
        return HEAD + self.height + ROW_GAP


def choose_channels(values: NDArray[np.floating[Any]], n: int, order: Order = "different") -> list[int]:
    """Up to n channels of maps (C, height, width) to show: the most different ones, or the first ones."""
    if order not in ("different", "first"):
        raise RecipeError(
            f"expected the order 'different' or 'first' of channels, found {order!r}; choose one of the two"
        )
    if order == "first":
        return list(range(min(n, len(values))))
    places = values.reshape(len(values), -1).T.astype(np.float64)
    places = places[:: -(-len(places) // MOST_PIXELS)]
    _, pivots = qr(places - places.mean(axis=0), mode="r", pivoting=True)
    return [int(channel) for channel in pivots[:n]]


def feature_sheet(
    image: NDArray[Any],
    maps: Sequence[FeatureMap],
    *,
    n: int = 5,
    order: Order = "different",
    answer: Picture | None = None,
    said: str = "",
    title: str = "What the network sees",
    width: int = 1600,
) -> Plate:
    """One sheet of the feature maps of every level.

    Args:
        image: (C, height, width), as it is to be shown.
        maps: as `feature_maps` gives them, of an image; of a volume the planes of one slice.
        n: panels of a block; the bottom has twice as many, and every block where there is no way up.
        order: which channels, see the module's docstring.
        answer: a picture of what the network makes of the image, for the upper right corner.
        said: the answer in words, below it.
        title: of the sheet.
        width: of the picture, in pixels.
    """
    if any(found.values.ndim != 3 for found in maps):
        raise DataError(
            "expected feature maps (C, height, width) to draw, found those of a volume; "
            "take the planes of one slice with FeatureMap.plane"
        )
    layout = _layout(image.shape[1:], n, with_way_up=any(found.cells.side == "up" for found in maps))
    depth = maps[0].cells.geometry.depth
    shapes: list[Shape] = []
    insets: list[Inset] = []
    top = _heading(shapes, insets, layout, image, answer, said, title)
    for found in maps:
        x, y, room = _place(found, layout, top)
        block, pictures = _block(found, layout, x, y, room, choose_channels(found.values, room, order), width / WIDTH)
        shapes.extend(block)
        insets.extend(pictures)
        shapes.extend(_arrows(found, layout, x, y, depth))
    drawing = Drawing(WIDTH, top + depth * layout.row - ROW_GAP + MARGIN, tuple(shapes), title)
    return Plate(compose(drawing, insets, width), _caption(maps, order))


def _layout(size: tuple[int, ...], n: int, *, with_way_up: bool) -> Layout:
    """Two columns of blocks, or a single one as wide as both."""
    n_columns = 2 if with_way_up else 1
    room = WIDTH - 2 * MARGIN - (MIDDLE if with_way_up else 0)
    n = n if with_way_up else 2 * n
    panel = float((room / n_columns - (n - 1) * GAP) / n)
    return Layout(panel, min(TALLEST * panel, panel * size[0] / size[1]), n_columns, n)


def _place(found: FeatureMap, layout: Layout, top: float) -> tuple[float, float, int]:
    """Left, top and number of panels of a block."""
    y = top + found.cells.level * layout.row
    if layout.n_columns == 1:
        return MARGIN, y, layout.n
    if found.cells.side == "bottom":
        room = min(2 * layout.n, len(found.values))
        width = room * (layout.panel + GAP) - GAP
        return (WIDTH - max(width, layout.side)) / 2, y, room
    return (MARGIN if found.cells.side == "down" else WIDTH - MARGIN - layout.side), y, layout.n


def _heading(
    shapes: list[Shape],
    insets: list[Inset],
    layout: Layout,
    image: NDArray[Any],
    answer: Picture | None,
    said: str,
    title: str,
) -> float:
    """The image, the words and the answer above the U; returns where the U begins."""
    high = max(layout.height, 118.0)
    wide = min(high * image.shape[2] / image.shape[1], layout.side / 2)
    high = wide * image.shape[1] / image.shape[2]
    y = MARGIN + HEAD
    shapes.append(Text(MARGIN, y - 7, f"image, {_size(image.shape[1:])} px", LABEL, INK, bold=True))
    insets.append(Inset(to_display(image), MARGIN, y, wide, high))
    right = WIDTH - MARGIN
    if answer is not None:
        right -= wide
        shapes.append(Text(right, y - 7, said or "answer", LABEL, INK, bold=True))
        insets.append(Inset(answer, right, y, wide, high))
    elif said:
        shapes.append(Text(right, y + 14, said, HEADING, INK, "end", bold=True))
        right -= text_width(said, HEADING, True)
    left = MARGIN + wide + 2 * GAP + 12
    shapes.append(Text(left, y + 14, title, HEADING, INK, bold=True))
    sides = "Left: the way down, whose maps the skips copy. Right: the way up. " if layout.n_columns == 2 else ""
    words = (
        f"{sides}Each block shows some channels of one level, on one scale from 0 (black); scales differ between "
        "blocks, so compare brightness within a block only. Small maps are drawn enlarged: a square is one value."
    )
    lines = in_lines(words, right - left - 24, WORDS)
    for index, line in enumerate(lines, start=1):
        shapes.append(Text(left, y + 24 + LINE * index, line, WORDS, SOFT))
    return float(y + max(high, 24 + LINE * len(lines)) + ROW_GAP)


def _block(
    found: FeatureMap, layout: Layout, x: float, y: float, room: int, channels: Sequence[int], scale: float
) -> tuple[list[Shape], list[Inset]]:
    """The label of a level, its scale, and its panels."""
    shown = found.values[list(channels)]
    # A long and thin image leaves less than a pixel of its short side.
    size = (max(1, round(layout.height * scale)), max(1, round(layout.panel * scale)))
    small = [shrunk(values, size) for values in shown]
    top = float(np.percentile(np.stack(small), PERCENTILE))
    insets = [
        Inset(colour_map(values, top), x + index * (layout.panel + GAP), y + HEAD, layout.panel, layout.height)
        for index, values in enumerate(small)
    ]
    wide = max(room * (layout.panel + GAP) - GAP, layout.side)
    ramp = colour_map(np.linspace(0, 1, 64)[None], 1.0)
    end = f"{top:.2g}"
    bar = x + wide - text_width(end, LABEL) - 4 - BAR
    insets.append(Inset(ramp, bar, y + 4, BAR, 9))
    shapes: list[Shape] = [
        Text(x, y + 13, found.name, WORDS, INK, bold=True),
        Text(x + text_width(found.name, WORDS, True) + 4, y + 13, _facts(found), LABEL, SOFT),
        Text(bar - 4, y + 13, "0", LABEL, SOFT, "end"),
        Text(bar + BAR + 4, y + 13, end, LABEL, SOFT),
    ]
    # A level with fewer channels than panels leaves the others empty.
    shapes.extend(
        Box(x + index * (layout.panel + GAP), y + HEAD, layout.panel, layout.height, line=RIM, dashed=True)
        for index in range(len(channels), room)
    )
    return shapes, insets


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _facts(found: FeatureMap) -> str:
    """Channels, size, silent channels and receptive field of a level."""
    channels, *size = found.values.shape
    low, high = receptive_field(found.cells.geometry, found.cells.level, found.cells.side)
    sees = f"{low} px" if low == high else f"{low}–{high} px"
    silent = int((found.values.reshape(channels, -1).max(axis=1) <= 0).sum())
    words = [f"{channels} channels", _size(size), f"each value sees {sees}"]
    return ", ".join(words + ([f"{silent} silent"] if silent else []))


def _arrows(found: FeatureMap, layout: Layout, x: float, y: float, depth: int) -> Iterator[Shape]:
    """What leads out of a block: the pooling and the skip, or the up-convolution."""
    middle = y + HEAD + layout.height / 2
    low, high = y + HEAD + layout.height + 4, y + layout.row + 1
    level, side = found.cells.level, found.cells.side
    if side == "down":
        at = x + layout.side * 0.75
        yield arrow((at, low), (at, high), ARROWS["pool"], 2.4)
        if level == 0 and depth > 1:
            yield Text(at + 10, (low + high) / 2 + 4, "max pool 2x2", LABEL, ARROWS["pool"])
        if layout.n_columns == 2:
            right = WIDTH - MARGIN - layout.side
            yield arrow((x + layout.side + 6, middle), (right - 6, middle), ARROWS["skip"], 3.0)
            yield Text((x + layout.side + right) / 2, middle - 10, "skip", LABEL, SOFT, "middle")
    if side == "up":
        at = x + layout.side * 0.25
        yield arrow((at, high), (at, low), ARROWS["up"], 2.4)
        if level == 0:
            yield Text(at + 10, (low + high) / 2 + 4, "up-convolution 2x2", LABEL, ARROWS["up"])


def _caption(maps: Sequence[FeatureMap], order: Order) -> str:
    """What is to be seen, and what is not."""
    rule = (
        "the most different channels, each the one that those before it explain least"
        if order == "different"
        else "the first channels"
    )
    silent = [found.name for found in maps if (found.values.reshape(len(found.values), -1).max(axis=1) <= 0).any()]
    words = (
        f"Feature maps at the end of each level's block, for this image: {rule}. Black is 0, and the brightest colour "
        f"the {PERCENTILE}th percentile of what a block shows; scales differ between blocks. "
    )
    if silent:
        words += f"Channels that are 0 everywhere in this image are called silent ({', '.join(silent)}). "
    return words + (
        "Patterns that repeat every two pixels on the way up come from the up-convolution, which writes a 2x2 square "
        "from one value. A bright place says that a channel answers there, not that it matters for the result, and a "
        "channel need not stand for anything that has a name."
    )
