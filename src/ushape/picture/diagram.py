"""The U of a real network, drawn from the network itself.

Each box is a stack of feature maps: its channels stand above it, its size below it; its height grows with the size,
its width with the channels, both less than proportionally, so that 572 and 28, 1 and 1024 fit on one sheet. Volumes
are drawn as slabs. Arrows are the operations, in the colours of the paper's figure 1. A dashed outline inside a box is
what its skip copies; the white half of the box on the other side is where it lands.

The drawing is laid out once and written as SVG or as pixels. It brings its own light sheet, so that it can stand on a
dark page.

References: figure 1 of Ronneberger, Fischer and Brox (2015); P1-P6 of docs/paper.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ushape.picture.canvas import Box, Drawing, Polygon, Shape, Text, arrow, png, svg, text_width
from ushape.picture.describe import written
from ushape.picture.legend import ARROWS, COPIED, INK, MAP_LIGHT, MAP_LINE, SOFT, sheet
from ushape.picture.trace import Network, Skip, Step, Trace, trace

__all__ = ["architecture_png", "architecture_svg"]

MAP_DARK = "#96c1ea"
"""Feature maps at the bottom; at the levels between they are between."""

IMAGE_FILL, IMAGE_LINE, LOGITS_FILL, LOGITS_LINE = "#eceff2", "#7b8794", "#d9f2f0", "#0e8f8c"
SLAB_TOP, SLAB_SHADE, SHADED = "#f4f9fe", "#5a78a0", 0.25
"""The top of a slab, and the colour of which its right side has a share."""

TALLEST, LOWEST, HEIGHT_POWER = 190.0, 9.0, 0.6
"""Height of the largest map and the least of any; heights grow with this power of the size."""

THINNEST, WIDENING = 6.0, 0.4
"""Width of a map of one channel, and how much is added for each squared doubling of the channels."""

SLANT = (0.3, -0.2)
"""How far a slab reaches to the right and up, in heights of a square as long as it is deep."""

LABEL, GAP, ROOM, ROW_GAP, SKIP_ROOM = 11.0, 25.0, 7.0, 60.0, 92.0
"""Size of the labels; between boxes, labels, rows; for the arrow of a skip."""

NEARLY = 6.0
"""Boxes side by side that differ by less in height have their labels in one line."""


@dataclass(frozen=True)
class Place:
    """Where the maps of a step stand: the front of their box, and how far a slab reaches beyond it."""

    step: Step
    x: float
    y: float
    width: float
    height: float
    slant: tuple[float, float] = (0.0, 0.0)

    @property
    def left(self) -> float:
        """Of the front."""
        return self.x

    @property
    def right(self) -> float:
        """Of all."""
        return self.x + self.width + self.slant[0]

    @property
    def centre(self) -> float:
        """Halfway between left and right."""
        return (self.left + self.right) / 2

    @property
    def top(self) -> float:
        """Of all."""
        return self.y + self.slant[1]

    @property
    def bottom(self) -> float:
        """Of the front."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """Halfway between top and bottom: the middle of the row."""
        return (self.top + self.bottom) / 2

    @property
    def halves(self) -> tuple[float, float]:
        """Widths of the copied and of the raised half of a concatenation."""
        return self.width / 2, self.width / 2

    @property
    def raised_centre(self) -> float:
        """Where the up-convolution arrives."""
        return (self.x + self.width / 2 + self.right) / 2


@dataclass(frozen=True)
class Scale:
    """Sizes and channels -> lengths on the sheet."""

    largest: int

    def height(self, n: int) -> float:
        """Of a map with n rows."""
        return max(LOWEST, TALLEST * math.pow(n / self.largest, HEIGHT_POWER))

    @staticmethod
    def width(channels: int) -> float:
        """Of a stack of maps."""
        return THINNEST + WIDENING * math.log2(channels) ** 2

    def slant(self, size: Sequence[int]) -> tuple[float, float]:
        """Of a slab; nothing for an image."""
        if len(size) == 2:
            return 0.0, 0.0
        length = self.height(size[0])
        return SLANT[0] * length, SLANT[1] * length

    def place(self, step: Step) -> Place:
        """A step's box, at the origin."""
        parts = 2 if step.kind == "concatenate" else 1
        width = parts * self.width(step.channels // parts)
        return Place(step, 0.0, 0.0, width, self.height(step.size[-2]), self.slant(step.size))


def architecture_svg(network: Network, size: int | Sequence[int]) -> str:
    """The U of the network for an input of this size as one `<svg>` element; SizeError for an illegal size."""
    return svg(architecture_drawing(trace(network, size)))


def architecture_png(network: Network, size: int | Sequence[int], width: int = 1600) -> NDArray[np.uint8]:
    """The same as pixels (H, W, 3) uint8, `width` pixels wide."""
    return png(architecture_drawing(trace(network, size)), width)


def architecture_drawing(traced: Trace) -> Drawing:
    """The whole sheet: heading, U, facts and legend."""
    scale = Scale(max(step.size[-2] for step in traced.steps))
    places = _placed(traced, scale)
    content = [
        *_skips(traced, places),
        *_arrows(places),
        *_boxes(traced, places),
        *_outlines(traced, places, scale),
        *_labels(places),
    ]
    return sheet(traced, content)


# Where the boxes stand.


def _placed(traced: Trace, scale: Scale) -> list[Place]:
    """A place for each step that leaves maps behind, on rows from the top to the bottom."""
    first = _columns(traced, scale, 0.0)
    missing = max([0.0, *(SKIP_ROOM - _skip_room(first, skip.level) for skip in traced.skips)])
    places = _columns(traced, scale, missing / 2)
    middles = _rows(traced, places)
    return [replace(place, y=middles[place.step.level] - (place.height + place.slant[1]) / 2) for place in places]


def _columns(traced: Trace, scale: Scale, extra: float) -> list[Place]:
    """Places with their x: a level begins under the end of the one above, or above the end of the one below.

    `extra` widens the bottom, to make room for the skips above it.
    """
    places: list[Place] = []
    for step in traced.steps:
        if step.kind == "up":
            continue
        place, last = scale.place(step), places[-1] if places else None
        if last is None:
            shift = -place.left
        elif step.kind == "pool":
            shift = last.centre - place.centre
        elif step.kind == "concatenate":
            shift = last.centre - place.raised_centre
        else:
            wide = extra if step.side == "bottom" and step.kind == "convolution" else 0.0
            apart = (_label_width(last) + _label_width(place)) / 2 + ROOM
            gap = max(GAP, apart - (last.right - last.centre) - (place.centre - place.left))
            shift = last.right + gap + wide - place.left
        places.append(replace(place, x=shift))
    return places


def _rows(traced: Trace, places: Sequence[Place]) -> list[float]:
    """The height on the sheet of the middle of each level."""
    middles: list[float] = []
    below = 0.0
    for level in range(traced.depth):
        half = max(place.height - place.slant[1] for place in places if place.step.level == level) / 2
        middles.append(below + half + (ROW_GAP if level else 0.0))
        below = middles[-1] + half
    return middles


def _skip_room(places: Sequence[Place], level: int) -> float:
    """Between the box that a skip leaves, or the label of the one where it lands, and the other."""
    source, target = _ends(places, level)
    return min(target.left, target.centre - _label_width(target) / 2) - source.right


def _ends(places: Sequence[Place], level: int) -> tuple[Place, Place]:
    """The last box of a level on the way down, and its concatenation on the way up."""
    here = [place for place in places if place.step.level == level]
    target = next(place for place in here if place.step.kind == "concatenate")
    return here[here.index(target) - 1], target


# Boxes and their labels.


def _boxes(traced: Trace, places: Sequence[Place]) -> Iterator[Shape]:
    for place in places:
        fill, line = _colours(place.step, traced.depth)
        yield from _slab_sides(place, fill, line)
        hint = f"{place.step.channels} × {'×'.join(map(str, place.step.size))}"
        if place.step.kind == "concatenate":
            copied, raised = place.halves
            yield Box(place.x, place.y, copied, place.height, COPIED, line, hint=hint)
            yield Box(place.x + copied, place.y, raised, place.height, fill, line, hint=hint)
        else:
            yield Box(place.x, place.y, place.width, place.height, fill, line, hint=hint)


def _slab_sides(place: Place, fill: str, line: str) -> Iterator[Shape]:
    """The top, lighter, and the right side, darker, of a volume."""
    across, up = place.slant
    if not across:
        return
    left, right, top, bottom = place.x, place.x + place.width, place.y, place.y + place.height
    yield Polygon(((left, top), (left + across, top + up), (right + across, top + up), (right, top)), SLAB_TOP, line)
    side = ((right, top), (right + across, top + up), (right + across, bottom + up), (right, bottom))
    yield Polygon(side, _mixed(fill, SLAB_SHADE, SHADED), line)


def _colours(step: Step, depth: int) -> tuple[str, str]:
    """Fill and outline of a box; maps grow darker towards the bottom."""
    if step.kind in ("image", "pad", "fold"):
        return IMAGE_FILL, IMAGE_LINE
    if step.kind in ("head", "unfold", "cut", "linear"):
        return LOGITS_FILL, LOGITS_LINE
    return _mixed(MAP_LIGHT, MAP_DARK, step.level / max(1, depth - 1)), MAP_LINE


def _mixed(first: str, second: str, share: float) -> str:
    """A colour between two."""
    ends = (bytes.fromhex(colour[1:]) for colour in (first, second))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ends, strict=True))


def _labels(places: Sequence[Place]) -> Iterator[Shape]:
    """Channels above and sizes below each box; at one height for all of a block, whose sizes differ by little."""
    for place in places:
        tallest = _tallest_of_block(places, place)
        above, below = tallest.top - 5, tallest.bottom + LABEL + 2
        yield Text(place.centre, above, _channel_words(place.step), LABEL, INK, "middle")
        yield Text(place.centre, below, written(place.step.size), LABEL - 1, SOFT, "middle")
    first, last = places[0], places[-1]
    middle = first.middle + 4
    yield Text(
        min(first.left, first.centre - _label_width(first) / 2) - 9, middle, "image", LABEL + 1, INK, "end", True
    )
    right = max(last.right, last.centre + _label_width(last) / 2) + 9
    middle = last.middle + 4
    yield Text(right, middle, "logits", LABEL + 1, INK, "start", True)


def _tallest_of_block(places: Sequence[Place], place: Place) -> Place:
    """The box whose labels those of this one stand beside: the tallest of those around that are nearly as tall."""
    up = place.step.side == "up"
    around = [other for other in places if other.step.level == place.step.level and (other.step.side == "up") == up]
    return max((other for other in around if abs(other.height - place.height) < NEARLY), key=lambda other: other.height)


def _channel_words(step: Step) -> str:
    """Its number, or both of a concatenation."""
    return f"{step.channels // 2} + {step.channels // 2}" if step.kind == "concatenate" else str(step.channels)


def _label_width(place: Place) -> float:
    """Of the wider of its two labels."""
    return max(text_width(_channel_words(place.step), LABEL), text_width(written(place.step.size), LABEL - 1))


# Arrows.


def _arrows(places: Sequence[Place]) -> Iterator[Shape]:
    """An arrow for each step from the box before, but for the skips'."""
    for last, place in pairwise(places):
        kind = place.step.kind
        if kind == "pool":
            start, stop = _below(places, last), _above(places, place)
            yield arrow((place.centre, start), (place.centre, stop), ARROWS["pool"], 2.6)
        elif kind == "concatenate":
            start, stop = _above(places, last), _below(places, place)
            yield arrow((last.centre, start), (last.centre, stop), ARROWS["up"], 2.6)
        else:
            middle = place.middle
            yield arrow((last.right + 3, middle), (place.left - 3, middle), ARROWS[kind], 2.2)


def _below(places: Sequence[Place], place: Place) -> float:
    """Just under the label of its size."""
    tallest = _tallest_of_block(places, place)
    return tallest.bottom + LABEL + 7


def _above(places: Sequence[Place], place: Place) -> float:
    """Just over the label of its channels."""
    return _tallest_of_block(places, place).top - LABEL - 8


def _skips(traced: Trace, places: Sequence[Place]) -> Iterator[Shape]:
    """For each skip its arrow and, where there is room, in words what it cuts."""
    for skip in traced.skips:
        source, target = _ends(places, skip.level)
        yield arrow((source.right + 4, source.middle), (target.left - 4, source.middle), ARROWS["skip"], 4.5)
        stop = min(target.left, target.centre - _label_width(target) / 2)
        words = next((w for w in _skip_words(skip) if text_width(w, LABEL - 0.5) <= stop - source.right - 12), "")
        if words:
            yield Text((source.right + stop) / 2, source.middle - 9, words, LABEL - 0.5, SOFT, "middle")


def _outlines(traced: Trace, places: Sequence[Place], scale: Scale) -> Iterator[Shape]:
    """What each skip copies, as a dashed line inside the box; as high as the box where it lands."""
    for skip in traced.skips:
        source = _ends(places, skip.level)[0]
        height = scale.height(skip.cropped[-2])
        if skip.crops:
            top = source.y + (source.height - height) / 2
            yield Box(source.x + 2.5, top, source.width - 5, height, "none", INK, 1.0, dashed=True)


def _skip_words(skip: Skip) -> Iterable[str]:
    """What a skip does, from the longest to the shortest way to say it."""
    if not skip.crops:
        return (f"copy all of {written(skip.size)}", "copy")
    sizes = f"{written(skip.size)} → {written(skip.cropped)}"
    longer = [f"copy and crop {sizes}", sizes, "crop"]
    if len(set(skip.offset)) == 1:
        longer.insert(0, f"copy and crop {sizes}, {skip.offset[0]} pixels off each side")
    return longer
