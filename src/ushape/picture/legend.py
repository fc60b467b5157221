"""What stands around the U on its sheet: heading, facts, and the legend of arrows and boxes.

The corners under the arms of the U are empty where it is deep; there the facts and the legend go. Where they do not
fit they go below.

Conventions: those of `ushape.picture.canvas`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ushape.picture.canvas import Box, Drawing, Line, Polygon, Shape, Text, arrow, bounds, overlaps, text_width
from ushape.picture.describe import in_words, readable, written
from ushape.picture.trace import Trace

__all__ = ["ARROWS", "COPIED", "INK", "MAP_LIGHT", "MAP_LINE", "RIM", "SHEET", "SOFT", "moved", "sheet"]

INK, SOFT, SHEET, RIM = "#1d2733", "#5d6a77", "#ffffff", "#d5dbe1"
"""Words, lesser words, the sheet and its rim."""

MAP_LIGHT, MAP_LINE, COPIED = "#deecfa", "#2f6ba8", "#ffffff"
"""Feature maps at the first level, their outline, and maps that a skip has copied."""

ARROWS = {
    "convolution": "#1f5c9e",
    "skip": "#98a3ae",
    "pool": "#d2413a",
    "up": "#2c9a55",
    "head": "#0e9a97",
    "fold": "#7a57c2",
    "unfold": "#7a57c2",
    "pad": "#b7791f",
    "cut": "#b7791f",
    "mean": "#b5478f",
    "linear": "#0e9a97",
}
"""The colours of the paper's figure; those of what the paper has not are ours."""

MARGIN, CLEAR = 28.0, 14.0
"""Around everything; between a block of words and what stands beside it."""

HEADING, WORDS, LINE_HEIGHT, ICON = 19.0, 12.0, 20.0, 38.0
"""Sizes of the heading and of words in a block, from line to line, and the width of a legend's icons."""

WIDER, DEEPER = 300, 100
"""How much wider and deeper than the U a sheet may be made so that the blocks fit into its corners."""

NORMS = {"none": "", "batch": "batch norm, ", "instance": "instance norm, ", "group": "group norm, "}


@dataclass(frozen=True)
class Group:
    """Shapes that belong together, from (0, 0) to (width, height)."""

    shapes: tuple[Shape, ...]
    width: float
    height: float


def moved(shapes: Sequence[Shape], across: float, down: float) -> list[Shape]:
    """Shapes, farther to the right and down."""
    return [_moved(shape, across, down) for shape in shapes]


def _moved(shape: Shape, across: float, down: float) -> Shape:
    if isinstance(shape, Polygon):
        return replace(shape, points=tuple((x + across, y + down) for x, y in shape.points))
    if isinstance(shape, Line):
        (x0, y0), (x1, y1) = shape.start, shape.stop
        return replace(shape, start=(x0 + across, y0 + down), stop=(x1 + across, y1 + down))
    return replace(shape, x=shape.x + across, y=shape.y + down)


def sheet(traced: Trace, drawn: Sequence[Shape]) -> Drawing:
    """The U, already drawn, with everything around it."""
    heading, facts, legend = _heading(traced), _facts(traced), _legend(traced)
    left, top, right, bottom = _all_bounds(drawn)
    drawn = moved(drawn, -left, MARGIN + heading.height - top)
    least = max(right - left, heading.width, legend.width)
    below = MARGIN + heading.height + bottom - top
    found = _corners(drawn, right - left, facts, legend, least, below)
    if found is None:
        inner = least
        blocks, below = _blocks_below(facts, legend, inner, below + 2 * CLEAR)
    else:
        inner, below = found
        blocks = moved(facts.shapes, MARGIN, below - facts.height)
        blocks += moved(legend.shapes, MARGIN + inner - legend.width, below - legend.height)
    content = moved(drawn, MARGIN + (inner - right + left) / 2, 0)
    width, height = inner + 2 * MARGIN, below + MARGIN
    paper = Box(0.5, 0.5, width - 1, height - 1, SHEET, RIM, radius=10)
    shapes = (paper, *moved(heading.shapes, MARGIN, MARGIN), *content, *blocks)
    return Drawing(width, height, shapes, title(traced), _description(traced))


def _corners(
    drawn: Sequence[Shape], across: float, facts: Group, legend: Group, least: float, below: float
) -> tuple[float, float] | None:
    """The inner width and the bottom of the smallest sheet that has room for both blocks in its lower corners."""
    fitting = []
    for extra, drop in product(range(0, WIDER, 20), range(0, DEEPER, 20)):
        inner, bottom = least + extra, below + drop
        # Seen from the U, whose left side is at 0.
        left = (across - inner) / 2
        corners = ((facts, left), (legend, left + inner - legend.width))
        apart = facts.width + legend.width + 2 * CLEAR <= inner
        if apart and all(_is_free(drawn, x, bottom - block.height, block) for block, x in corners):
            fitting.append((inner, bottom))
    return min(fitting, key=lambda size: (size[0] + 2 * MARGIN) * (size[1] + MARGIN), default=None)


def _all_bounds(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of them all."""
    lefts, tops, rights, bottoms = zip(*map(bounds, shapes), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _blocks_below(facts: Group, legend: Group, inner: float, top: float) -> tuple[list[Shape], float]:
    """The blocks beside each other from `top` on, or one above the other where they are too wide; and their end."""
    blocks = moved(legend.shapes, MARGIN, top)
    beside = legend.width + 3 * CLEAR
    if beside + facts.width <= inner:
        return [*blocks, *moved(facts.shapes, MARGIN + beside, top)], top + max(facts.height, legend.height)
    top += legend.height + CLEAR
    return [*blocks, *moved(facts.shapes, MARGIN, top)], top + facts.height


def _is_free(content: Sequence[Shape], x: float, y: float, block: Group) -> bool:
    around = Box(x - CLEAR, y - CLEAR, block.width + 2 * CLEAR, block.height + CLEAR)
    return not any(overlaps([around], content))


# Words.


def title(traced: Trace) -> str:
    """What the picture shows, in a line."""
    settings = traced.settings
    paper = {"channels": 64, "depth": 5, "padding": "valid", "norm": "none", "dims": 2, "scale": 1}
    if all(settings[name] == value for name, value in paper.items()) and "head" not in settings:
        return "The U-Net of Ronneberger, Fischer and Brox (2015)"
    levels = "1 level" if traced.depth == 1 else f"{traced.depth} levels"
    kind = "3-D U-Net" if settings["dims"] == 3 else "U-Net"
    kind += " as a classifier," if "head" in settings else ""
    return f"{kind} of {levels}, from {settings['channels']} channels"


def _unit(traced: Trace) -> str:
    return "voxels" if traced.settings["dims"] == 3 else "pixels"


def _sizes(traced: Trace) -> str:
    """What goes in and what comes out."""
    first, last = traced.steps[0], traced.steps[-1]
    out = f"{last.channels} logits" if last.kind == "linear" else "×".join(map(str, last.size))
    through = f"{'×'.join(map(str, first.size))} {_unit(traced)} in, {out} out"
    return f"{through}; {'without padding' if traced.geometry.padding == 'valid' else 'padded with zeros'}"


def _description(traced: Trace) -> str:
    """The picture in sentences, for those who cannot see it."""
    steps = [f"{step.kind} {step.channels} × {'×'.join(map(str, step.size))}" for step in traced.steps]
    return f"{_sizes(traced)}. {traced.parameters:,} parameters. Step by step: {'; '.join(steps)}."


def _heading(traced: Trace) -> Group:
    lines = [
        Text(0, HEADING * 0.8, title(traced), HEADING, INK, bold=True),
        Text(0, HEADING * 0.8 + 22, _sizes(traced), WORDS + 0.5, SOFT),
    ]
    return Group(tuple(lines), max(bounds(line)[2] for line in lines), HEADING * 0.8 + 22 + LINE_HEIGHT)


def _facts(traced: Trace) -> Group:
    """Numbers, and beside them what they count."""
    training, prediction = (readable(sum(each), "B") for each in (traced.training_bytes, traced.prediction_bytes))
    rows = (
        (f"{traced.parameters:,}", "parameters"),
        (readable(traced.operations, "FLOP"), "for one pass"),
        (training, "of activations to train"),
        (prediction, "of activations to predict"),
        (in_words(traced.receptive_field), f"{_unit(traced)} of receptive field"),
    )
    column = max(text_width(number, WORDS, bold=True) for number, _ in rows) + 4
    shapes: list[Shape] = []
    for place, (number, words) in enumerate(rows):
        y = (place + 0.5) * LINE_HEIGHT + 4
        shapes.append(Text(0, y, number, WORDS, INK, bold=True))
        shapes.append(Text(column, y, words, WORDS, SOFT))
    return Group(tuple(shapes), max(bounds(shape)[2] for shape in shapes), len(rows) * LINE_HEIGHT)


def _legend(traced: Trace) -> Group:
    """A row for each kind of arrow and box that occurs."""
    shapes: list[Shape] = []
    rows = [*_arrow_rows(traced), *_box_rows(traced)]
    for place, (icon, words) in enumerate(rows):
        y = (place + 0.5) * LINE_HEIGHT
        shapes.extend(moved(icon, 0, y))
        shapes.append(Text(ICON, y + 4, words, WORDS, INK))
    return Group(tuple(shapes), max(bounds(shape)[2] for shape in shapes), len(rows) * LINE_HEIGHT)


def _arrow_rows(traced: Trace) -> Iterator[tuple[list[Shape], str]]:
    """Icon and words of each operation that occurs, in the order of the paper's legend."""
    dims, scale = traced.settings["dims"], traced.settings["scale"]
    kinds = {step.kind for step in traced.steps}
    three, two, one = ("×".join([str(n)] * dims) for n in (3, 2, 1))
    words = {
        "convolution": f"convolution {three}, {NORMS[traced.settings['norm']]}ReLU",
        "skip": "copy and crop" if any(skip.crops for skip in traced.skips) else "copy",
        "pool": f"max pooling {two}",
        "up": f"up-convolution {two}",
        "head": f"convolution {one}",
        "fold": f"blocks of {'×'.join([str(scale)] * dims)} pixels become channels"
        + (", and back" if "unfold" in kinds else ""),
        "pad": "zeros added at the far end" + (", and cut off again" if "cut" in kinds else ""),
        "mean": "mean over the image",
        "linear": "linear layer",
    }
    for kind, name in words.items():
        if kind in kinds or (kind == "skip" and traced.skips):
            upright = {"pool": (-8.0, 8.0), "up": (8.0, -8.0)}.get(kind)
            ends = ((14.0, upright[0]), (14.0, upright[1])) if upright else ((0.0, 0.0), (28.0, 0.0))
            yield [arrow(*ends, ARROWS[kind], 4.5 if kind == "skip" else 2.4)], name


def _box_rows(traced: Trace) -> Iterator[tuple[list[Shape], str]]:
    """Icon and words of the boxes."""
    if any(skip.crops for skip in traced.skips):
        source: list[Shape] = [
            Box(7, -8, 14, 16, MAP_LIGHT, MAP_LINE),
            Box(9, -5, 10, 10, "none", INK, 1, dashed=True),
        ]
        yield source, "what a skip copies"
    if traced.skips:
        landed: list[Shape] = [Box(2, -8, 12, 16, COPIED, MAP_LINE), Box(14, -8, 12, 16, MAP_LIGHT, MAP_LINE)]
        yield landed, "copied maps, then those from below"
    example: list[Shape] = [
        Text(14, -1, "64", 9, INK, "middle", True),
        Text(14, 9, written((572,) * len(traced.steps[0].size)), 9, SOFT, "middle"),
    ]
    yield example, "channels (above a box) and size (below)"
