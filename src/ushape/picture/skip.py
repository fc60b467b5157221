"""One skip connection: what it cuts out of the maps on the way down, and where that lands on the way up.

To the left the maps at the end of a level's way down, with the part that is copied; to the right the concatenation,
the copied maps first and those of the up-convolution behind them, as the next convolution sees it. Lengths are drawn
to one scale, as far as they can be seen, and written beside. Of volumes the last two axes are drawn and the first one
is told in words.

References: P2 of docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ushape.errors import RecipeError
from ushape.picture.canvas import Box, Drawing, Line, Shape, Text, arrow, bounds, overlaps, png, svg, text_width
from ushape.picture.describe import written
from ushape.picture.legend import ARROWS, COPIED, INK, MAP_LIGHT, MAP_LINE, RIM, SHEET, SOFT
from ushape.picture.trace import Network, Skip, Step, Trace, trace

__all__ = ["skip_png", "skip_svg"]

LARGEST, LEAST, LEAST_CROP = 250.0, 34.0, 6.0
"""Side of the largest map, and the least of any and of the outline of what is copied."""

MARGIN, STACK, FRAME = 30.0, 6.0, 14.0
"""Around everything; from one map of a stack to the one behind it; around the concatenation."""

COPY_ROOM, NEXT_ROOM, UP_ROOM, LINE = 190.0, 118.0, 46.0, 17.0
"""For the arrows of the copy, of the next convolution and of the up-convolution; and from line to line."""

GUIDED = 130.0
"""The least height of a copy that is joined to its origin by lines above and below the words of the arrow."""

HEADING, WORDS, LABEL = 19.0, 12.5, 11.5
"""Sizes of the heading, of sentences and of labels."""

LOST, LANDING = "#eef2f6", "#f6f8fa"
"""What is cut off, and the ground under the concatenation."""

AXES = ("slices", "rows", "columns")


@dataclass(frozen=True)
class Stack:
    """Maps one behind the other: the place and the size of the front one."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Of the maps behind."""
        return self.x + self.width + 2 * STACK

    @property
    def top(self) -> float:
        """Of the maps behind."""
        return self.y - 2 * STACK

    @property
    def bottom(self) -> float:
        """Of the front one."""
        return self.y + self.height

    @property
    def centre(self) -> float:
        """Halfway across the front one."""
        return self.x + self.width / 2

    @property
    def middle(self) -> float:
        """Halfway down the front one."""
        return self.y + self.height / 2

    def shapes(self, fill: str) -> list[Shape]:
        """Two maps behind, and the front one."""
        shifts = (2 * STACK, STACK, 0.0)
        return [Box(self.x + a, self.y - a, self.width, self.height, fill, MAP_LINE) for a in shifts]


@dataclass(frozen=True)
class Landing:
    """The steps around a concatenation: the maps below, raised, joined with the skip, and convolved."""

    below: Step
    raised: Step
    joined: Step
    convolved: Step


def skip_svg(network: Network, size: int | Sequence[int], level: int = 0) -> str:
    """The skip at a level, 0 being the first, for an input of this size, as one `<svg>` element.

    Raises:
        SizeError: for a size that the network cannot take, with the nearest ones that it can.
        RecipeError: for a level without a skip.
    """
    return svg(skip_drawing(trace(network, size), level))


def skip_png(network: Network, size: int | Sequence[int], level: int = 0, width: int = 1600) -> NDArray[np.uint8]:
    """The same as pixels (H, W, 3) uint8, `width` pixels wide."""
    return png(skip_drawing(trace(network, size), level), width)


def skip_drawing(traced: Trace, level: int) -> Drawing:
    """The whole sheet."""
    n = len(traced.skips)
    if not 0 <= level < n:
        known = f"has them at levels 0 to {n - 1}" if n > 1 else "has one at level 0"
        known = known if n else "has none, take a deeper one"
        raise RecipeError(f"expected a level with a skip, found {level}; {traced.geometry} {known}")
    skip, landing = traced.skips[level], _landing(traced, level)
    source, copied, raised, below, convolved = _stacks(skip, landing)
    frame = _frame(copied, raised)
    content = [
        *_source(skip, source),
        *_guides(skip, source, copied),
        frame,
        *_copy(skip, source, frame),
        *_landed(landing, frame, copied, raised),
        *_from_below(landing, raised, below, frame),
        *_onward(traced, landing, frame, convolved),
    ]
    return _sheet(traced, skip, content)


def _landing(traced: Trace, level: int) -> Landing:
    place = next(n for n, step in enumerate(traced.steps) if step.kind == "up" and step.level == level)
    return Landing(*traced.steps[place - 1 : place + 3])


# Where the stacks stand.


def _stacks(skip: Skip, landing: Landing) -> tuple[Stack, Stack, Stack, Stack, Stack]:
    """What is copied from, its copy, the raised maps beside it, those that were raised, and the result."""
    scale = LARGEST / max(skip.size[-2:])

    def lengths(size: Sequence[int]) -> tuple[float, float]:
        height, width = (max(LEAST, n * scale) for n in size[-2:])
        return width, height

    source = Stack(MARGIN + 46, 152.0, *lengths(skip.size))
    width, height = lengths(skip.cropped)
    y = max(source.middle - height / 2, 152.0)
    copied = Stack(source.right + COPY_ROOM + FRAME, y, width, height)
    # The names under both halves need room.
    apart = max(2 * STACK + 10, sum(text_width(words, LABEL) for words in _names(landing)) / 2 + 12 - width)
    raised = Stack(copied.x + width + apart, y, width, height)
    width, height = lengths(landing.below.size)
    frame = _frame(copied, raised)
    top = bounds(frame)[3] + UP_ROOM + 2 * STACK
    below = Stack(raised.centre - width / 2, top, width, height)
    width, height = lengths(landing.convolved.size)
    convolved = Stack(bounds(frame)[2] + NEXT_ROOM, raised.middle - height / 2, width, height)
    return source, copied, raised, below, convolved


def _names(landing: Landing) -> tuple[str, str]:
    """Of the two halves of a concatenation."""
    half = landing.raised.channels
    return f"{landing.joined.channels - half} copied", f"{half} from below"


def _frame(copied: Stack, raised: Stack) -> Box:
    """The ground under both halves and their names."""
    left, top = copied.x - FRAME, copied.top - FRAME
    overhang = max(0.0, text_width("1024 from below", LABEL) - raised.width) / 2
    right = max(raised.right, raised.x + raised.width + overhang) + FRAME
    return Box(left, top, right - left, raised.bottom + 26 - top, LANDING, RIM, radius=6)


# What is drawn.


def _source(skip: Skip, source: Stack) -> Iterator[Shape]:
    """The maps on the way down, with the outline of what is copied and its lengths."""
    yield from source.shapes(LOST if skip.crops else MAP_LIGHT)
    x, y, width, height = _outline(skip, source)
    if skip.crops:
        yield Box(x, y, width, height, MAP_LIGHT)
        yield Box(x, y, width, height, "none", INK, 1.2, dashed=True)
    yield from _title(source.x, source.top, f"way down, level {skip.level}", skip.channels, skip.size)
    ends = (source.x, x, x + width, source.x + source.width)
    yield from _ruler_below(ends, source.bottom + 16, skip.offset[-1], skip.cropped[-1])
    ends = (source.y, y, y + height, source.bottom)
    yield from _ruler_beside(ends, source.x - 16, skip.offset[-2], skip.cropped[-2])


def _outline(skip: Skip, source: Stack) -> tuple[float, float, float, float]:
    """Left, top, width and height of what is copied."""
    height, width = (
        max(LEAST_CROP, length * part / whole)
        for length, part, whole in zip((source.height, source.width), skip.cropped[-2:], skip.size[-2:], strict=True)
    )
    return source.centre - width / 2, source.middle - height / 2, width, height


def _title(x: float, y: float, words: str, channels: int, size: Sequence[int]) -> Iterator[Shape]:
    """Two lines over a stack."""
    yield Text(x, y - 10 - LINE, words, LABEL, SOFT)
    yield Text(x, y - 10, f"{channels} × {written(size)}", LABEL + 1.5, INK, bold=True)


def _ruler_below(ends: Sequence[float], y: float, offset: int, length: int) -> Iterator[Shape]:
    """Lengths along the lower side: what is lost, kept and lost."""
    first, start, stop, last = ends
    yield Line((first, y), (last, y), SOFT)
    yield from (Line((x, y - 4), (x, y + 4), SOFT) for x in dict.fromkeys(ends))
    yield Text((start + stop) / 2, y + LINE, str(length), LABEL, INK, "middle", True)
    if offset:
        # The lost parts may be narrower than their numbers, which then reach outwards.
        room = text_width(str(length), LABEL, True) / 2 + 6
        left, right = (start + stop) / 2 - room, (start + stop) / 2 + room
        half = text_width(str(offset), LABEL) / 2
        yield Text(min((first + start) / 2, left - half), y + LINE, str(offset), LABEL, SOFT, "middle")
        yield Text(max((stop + last) / 2, right + half), y + LINE, str(offset), LABEL, SOFT, "middle")


def _ruler_beside(ends: Sequence[float], x: float, offset: int, length: int) -> Iterator[Shape]:
    """The same along the left side."""
    first, start, stop, last = ends
    yield Line((x, first), (x, last), SOFT)
    yield from (Line((x - 4, y), (x + 4, y), SOFT) for y in dict.fromkeys(ends))
    middle = (start + stop) / 2 + 4
    yield Text(x - 8, middle, str(length), LABEL, INK, "end", True)
    if offset:
        yield Text(x - 8, min((first + start) / 2 + 4, middle - 15), str(offset), LABEL, SOFT, "end")
        yield Text(x - 8, max((stop + last) / 2 + 4, middle + 15), str(offset), LABEL, SOFT, "end")


def _guides(skip: Skip, source: Stack, copied: Stack) -> Iterator[Shape]:
    """From the corners of what is copied to those of its copy, where the words of the arrow fit between."""
    if copied.height < GUIDED:
        return
    x, y, width, height = _outline(skip, source)
    for start, stop in ((y, copied.y), (y + height, copied.bottom)):
        yield Line((x + width, start), (copied.x, stop), ARROWS["skip"], 0.9, dashed=True)


def _copy(skip: Skip, source: Stack, frame: Box) -> Iterator[Shape]:
    """The grey arrow, and what it copies in words."""
    start, stop = source.right + 12, frame.x - 10
    middle, centre = source.middle, (start + stop) / 2
    yield arrow((start, middle), (stop, middle), ARROWS["skip"], 8)
    words = "copy and crop" if skip.crops else "copy"
    yield Text(centre, middle - 15, words, LABEL + 1, INK, "middle", True)
    ranges = zip(AXES[-len(skip.size) :], skip.offset, skip.cropped, strict=True)
    lines = [f"{axis} {offset} to {offset + n - 1}" for axis, offset, n in ranges]
    lines = lines if skip.crops else ["nothing is cut off"]
    for place, line in enumerate(lines):
        yield Text(centre, middle + 24 + place * LINE, line, LABEL, SOFT, "middle")


def _landed(landing: Landing, frame: Box, copied: Stack, raised: Stack) -> Iterator[Shape]:
    """The concatenation on its ground."""
    yield from copied.shapes(COPIED)
    yield from raised.shapes(MAP_LIGHT)
    yield from _title(frame.x, frame.y, "concatenation", landing.joined.channels, landing.joined.size)
    for stack, words in zip((copied, raised), _names(landing), strict=True):
        yield Text(stack.centre, stack.bottom + 17, words, LABEL, SOFT, "middle")


def _from_below(landing: Landing, raised: Stack, below: Stack, frame: Box) -> Iterator[Shape]:
    """The maps of the level below and the up-convolution."""
    yield arrow((below.centre, below.top - 6), (below.centre, bounds(frame)[3] + 4), ARROWS["up"], 4)
    yield from below.shapes(MAP_LIGHT)
    x, y = below.right + 14, below.middle
    yield Text(x, y - LINE + 4, f"level {landing.below.level}", LABEL, SOFT)
    yield Text(x, y + 4, f"{landing.below.channels} × {written(landing.below.size)}", LABEL + 1.5, INK, bold=True)
    two = "×".join("2" * len(landing.below.size))
    yield Text(below.centre + 12, below.top - UP_ROOM / 2 + 2, f"up-convolution {two}", LABEL, SOFT)


def _onward(traced: Trace, landing: Landing, frame: Box, convolved: Stack) -> Iterator[Shape]:
    """The next convolution and its result."""
    start, stop = bounds(frame)[2] + 10, convolved.x - 10
    centre, middle = (start + stop) / 2, convolved.middle
    yield arrow((start, middle), (stop, middle), ARROWS["convolution"], 4)
    yield Text(centre, middle - 14, "convolution", LABEL, SOFT, "middle")
    yield Text(centre, middle + 22, "×".join("3" * traced.settings["dims"]), LABEL, SOFT, "middle")
    yield from convolved.shapes(MAP_LIGHT)
    step = landing.convolved
    yield from _title(convolved.x, convolved.top, f"way up, level {step.level}", step.channels, step.size)


# The sheet.


def _sheet(traced: Trace, skip: Skip, content: Sequence[Shape]) -> Drawing:
    """Heading and sentences around the drawing."""
    name = f"A skip connection: level {skip.level}"
    heading = Text(MARGIN, MARGIN + HEADING * 0.8, name, HEADING, INK, bold=True)
    first = "Detail from the left, context from below: together they say what is where, to the pixel."
    content = [heading, Text(MARGIN, heading.y + 23, first, WORDS, SOFT), *content]
    sentences = _sentences(traced, skip)
    below = max(bounds(shape)[3] for shape in content)
    width = max(text_width(line, WORDS) for line in sentences)
    top = below - len(sentences) * LINE
    if any(overlaps([Box(MARGIN, top - 20, width + 20, below - top + 20)], content)):
        top = below + 20
        below = top + len(sentences) * LINE
    content += [Text(MARGIN, top + (n + 1) * LINE - 4, line, WORDS, INK) for n, line in enumerate(sentences)]
    right = max(bounds(shape)[2] for shape in content)
    paper = Box(0.5, 0.5, right + MARGIN - 1, below + MARGIN - 1, SHEET, RIM, radius=10)
    return Drawing(right + MARGIN, below + MARGIN, (paper, *content), name, " ".join([first, *sentences]))


def _sentences(traced: Trace, skip: Skip) -> list[str]:
    """Why, and how much."""
    if not skip.crops:
        why = (
            "The convolutions are padded with zeros" if traced.geometry.padding == "same" else "Nothing was lost below"
        )
        return [f"{why}, so both halves have the", f"same size, {written(skip.size)}, and all of it is copied."]
    sums = dict.fromkeys(
        f"{n} − 2 × {offset} = {m}" for n, offset, m in zip(skip.size, skip.offset, skip.cropped, strict=True)
    )
    return [
        "Convolutions without padding lose a pixel on each side,",
        "so the maps from below are smaller than the skip's.",
        f"Only its centre fits: {', '.join(sums)}.",
        "Rows and columns are counted from 0.",
    ]
