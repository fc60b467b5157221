"""Boxes, lines, words and pictures in a plane, and two writers for them: SVG and an array of pixels.

A drawing is laid out once, as a list of shapes; both writers draw the same list, so they cannot disagree.

Conventions: lengths are in units of one pixel at the drawing's own width; x grows to the right, y downwards; colours
are "#rrggbb". A text stands on its baseline at y. The font is whatever plain sans serif a machine has, so widths of
texts are estimated, from above: what fits by `text_width` fits in any of the usual ones.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

__all__ = [
    "Bitmap",
    "Box",
    "Drawing",
    "Line",
    "Polygon",
    "Shape",
    "Text",
    "arrow",
    "bounds",
    "overlaps",
    "png",
    "svg",
    "text_width",
]

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

FAMILIES = ("Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")
"""Fonts to try in this order; the last one comes with matplotlib."""

NARROW, WIDE = set(" .,:;|!'iljI()[]·ft-rJ/"), set("mMwW×→←–—+=≤@%")
"""Characters that are much narrower or wider than the others in the usual fonts."""

HEAD = 2.4
"""Length and width of an arrow's head, in widths of its shaft, and no less than HEAD_LEAST units."""
HEAD_LEAST = 7.5

DASHES = (4.0, 3.0)
"""Length of a dash and of the gap behind it."""

MOST_PIXELS = 1.5
"""Pixels of a bitmap for each unit, along each axis: what has more of them is averaged down, which no eye sees."""


@dataclass(frozen=True)
class Box:
    """A rectangle with round corners; `hint` is what a browser shows when the mouse rests on it."""

    x: float
    y: float
    width: float
    height: float
    fill: str = "none"
    line: str = "none"
    line_width: float = 1.0
    radius: float = 0.0
    dashed: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Polygon:
    """A shape with corners; `closed` joins the last one to the first."""

    points: tuple[Point, ...]
    fill: str = "none"
    line: str = "none"
    line_width: float = 1.0
    closed: bool = True


@dataclass(frozen=True)
class Line:
    """A straight line."""

    start: Point
    stop: Point
    colour: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Text:
    """A line of words whose start, middle or end stands at (x, y)."""

    x: float
    y: float
    words: str
    size: float = 12.0
    colour: str = "#000000"
    anchor: Anchor = "start"
    bold: bool = False


@dataclass(frozen=True, eq=False)
class Bitmap:
    """A picture (rows, columns, 3) uint8; a small one is enlarged without blurring, so that its pixels are squares."""

    x: float
    y: float
    width: float
    height: float
    picture: NDArray[np.uint8]

    def reduced(self) -> NDArray[np.uint8]:
        """The picture, averaged down to MOST_PIXELS for each unit where it has more."""
        most = (round(MOST_PIXELS * self.height), round(MOST_PIXELS * self.width))
        rows, columns = (max(1, min(n, wanted)) for n, wanted in zip(self.picture.shape, most, strict=False))
        whole = PillowImage.fromarray(np.ascontiguousarray(self.picture))
        return np.asarray(whole.resize((columns, rows), PillowImage.Resampling.BOX))


Shape = Box | Polygon | Line | Text | Bitmap


@dataclass(frozen=True)
class Drawing:
    """Shapes on a sheet; `title` and `description` are read out to those who cannot see it."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    description: str = ""


def text_width(words: str, size: float, bold: bool = False) -> float:
    """Width of a line of words, rather too large than too small."""
    ems = sum(0.42 if letter in NARROW else 1.0 if letter in WIDE else 0.65 for letter in words)
    return size * ems * (1.08 if bold else 1.0)


def bounds(shape: Shape) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a shape."""
    if isinstance(shape, Box | Bitmap):
        return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
    if isinstance(shape, Text):
        width = text_width(shape.words, shape.size, shape.bold)
        left = shape.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[shape.anchor] * width
        return left, shape.y - 0.78 * shape.size, left + width, shape.y + 0.22 * shape.size
    points = shape.points if isinstance(shape, Polygon) else (shape.start, shape.stop)
    columns, rows = zip(*points, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def arrow(start: Point, stop: Point, colour: str, width: float = 2.0) -> Polygon:
    """A straight arrow, level or upright or slanted, as one shape."""
    (x0, y0), (x1, y1) = start, stop
    length = max(1e-6, float(np.hypot(x1 - x0, y1 - y0)))
    along, across = ((x1 - x0) / length, (y1 - y0) / length), (-(y1 - y0) / length, (x1 - x0) / length)
    head = min(max(HEAD * width, HEAD_LEAST), 0.7 * length)
    wing = max(HEAD * width, HEAD_LEAST) / 2
    outline = [
        (0, width / 2),
        (length - head, width / 2),
        (length - head, wing),
        (length, 0),
        (length - head, -wing),
        (length - head, -width / 2),
        (0, -width / 2),
    ]
    return Polygon(
        tuple((x0 + a * along[0] + b * across[0], y0 + a * along[1] + b * across[1]) for a, b in outline), fill=colour
    )


def svg(drawing: Drawing) -> str:
    """The drawing as one `<svg>` element that asks for nothing outside itself."""
    families = ", ".join(f"'{name}'" if " " in name else name for name in FAMILIES)
    size = f"{_number(drawing.width)} {_number(drawing.height)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_number(drawing.width)}" '
        f'height="{_number(drawing.height)}" role="img" font-family="{families}, sans-serif">',
        f"<title>{escape(drawing.title)}</title>",
        f"<desc>{escape(drawing.description)}</desc>",
        *(_element(shape) for shape in drawing.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    """At most one place behind the point, which no eye sees past."""
    return f"{value:.1f}".removesuffix(".0")


def _element(shape: Shape) -> str:
    """A shape as an SVG element."""
    if isinstance(shape, Text):
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        weight = ' font-weight="bold"' if shape.bold else ""
        return (
            f'<text x="{_number(shape.x)}" y="{_number(shape.y)}" font-size="{_number(shape.size)}" '
            f'fill="{shape.colour}"{anchor}{weight}>{escape(shape.words)}</text>'
        )
    if isinstance(shape, Line):
        ends = zip(("x1", "y1", "x2", "y2"), (*shape.start, *shape.stop), strict=True)
        place = " ".join(f'{name}="{_number(value)}"' for name, value in ends)
        return f'<line {place} stroke="{shape.colour}"{_stroke(shape.width, shape.dashed)}/>'
    if isinstance(shape, Bitmap):
        return _embedded(shape)
    stroke = "" if shape.line == "none" else f' stroke="{shape.line}"{_stroke(shape.line_width, _is_dashed(shape))}'
    if isinstance(shape, Polygon):
        points = " ".join(f"{_number(x)},{_number(y)}" for x, y in shape.points)
        name = "polygon" if shape.closed else "polyline"
        return f'<{name} points="{points}" fill="{shape.fill}"{stroke} stroke-linejoin="round"/>'
    names = ("x", "y", "width", "height", "rx")
    values = (shape.x, shape.y, shape.width, shape.height, shape.radius)
    place = " ".join(f'{name}="{_number(value)}"' for name, value in zip(names, values, strict=True))
    opened = f'<rect {place} fill="{shape.fill}"{stroke}'
    return f"{opened}><title>{escape(shape.hint)}</title></rect>" if shape.hint else f"{opened}/>"


def _embedded(shape: Bitmap) -> str:
    """A bitmap as an SVG element that holds its pixels."""
    file = io.BytesIO()
    pixels = shape.reduced()
    grey = (pixels == pixels[..., :1]).all()  # a third of the bytes
    PillowImage.fromarray(np.ascontiguousarray(pixels[..., 0]) if grey else pixels).save(file, "PNG", optimize=True)
    names = ("x", "y", "width", "height")
    place = " ".join(f'{name}="{_number(getattr(shape, name))}"' for name in names)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    look = 'preserveAspectRatio="none" image-rendering="pixelated"'
    return f'<image {place} {look} href="data:image/png;base64,{data}"/>'


def _is_dashed(shape: Box | Polygon) -> bool:
    return isinstance(shape, Box) and shape.dashed


def _stroke(width: float, dashed: bool) -> str:
    dashes = f' stroke-dasharray="{_number(DASHES[0])} {_number(DASHES[1])}"' if dashed else ""
    return f' stroke-width="{_number(width)}"{dashes}'


def png(drawing: Drawing, width: int | None = None) -> NDArray[np.uint8]:
    """The drawing as pixels (H, W, 3) uint8, `width` pixels wide (its own width when none is given)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = round(drawing.width) if width is None else width
    # 72 points make an inch, so that a unit of the drawing is a point and sizes of fonts need no conversion.
    figure = Figure(figsize=(drawing.width / 72, drawing.height / 72), dpi=72 * width / drawing.width)
    canvas: Any = FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
    ax.set_axis_off()
    family = _family()
    for order, shape in enumerate(drawing.shapes):
        # One over the other as they are listed, whatever their kinds: so does SVG.
        _put(ax, shape, family).set_zorder(order)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    # The sheet has round corners; what lies outside them is the white of the figure.
    return np.ascontiguousarray(pixels[..., :3])


def _put(ax: Any, shape: Shape, family: str) -> Any:
    """Put a shape upon the axes; what matplotlib made of it."""
    if isinstance(shape, Text):
        return ax.text(
            shape.x,
            shape.y,
            shape.words.replace("$", r"\$"),
            fontsize=shape.size,
            color=shape.colour,
            ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor],
            va="baseline",
            weight="bold" if shape.bold else "normal",
            family=family,
        )
    if isinstance(shape, Bitmap):
        extent = (shape.x, shape.x + shape.width, shape.y + shape.height, shape.y)
        return ax.imshow(shape.reduced(), extent=extent, interpolation="nearest", aspect="auto")
    return ax.add_artist(_artist(shape))


def _family() -> str:
    """The first of the fonts that this machine has."""
    from matplotlib.font_manager import fontManager

    known = {entry.name for entry in fontManager.ttflist}
    return next((name for name in FAMILIES if name in known), FAMILIES[-1])


def _artist(shape: Box | Polygon | Line) -> Any:
    """A shape as matplotlib draws it."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyBboxPatch
    from matplotlib.patches import Polygon as PolygonPatch

    if isinstance(shape, Line):
        (x0, y0), (x1, y1) = shape.start, shape.stop
        style: Any = (0, _dashes(shape.width)) if shape.dashed else "-"
        return Line2D([x0, x1], [y0, y1], color=shape.colour, linewidth=shape.width, linestyle=style)
    look: dict[str, Any] = {"facecolor": shape.fill, "edgecolor": shape.line, "joinstyle": "round"}
    look["linewidth"] = 0 if shape.line == "none" else shape.line_width
    if isinstance(shape, Polygon):
        return PolygonPatch(shape.points, closed=shape.closed, **look)
    if shape.dashed:
        look["linestyle"] = (0, _dashes(shape.line_width))
    rounded = f"round,pad=0,rounding_size={shape.radius}" if shape.radius else "square,pad=0"
    return FancyBboxPatch((shape.x, shape.y), shape.width, shape.height, boxstyle=rounded, **look)


def _dashes(width: float) -> tuple[float, float]:
    """As matplotlib counts them: in widths of the line."""
    return DASHES[0] / width, DASHES[1] / width


def overlaps(shapes: Sequence[Shape], others: Sequence[Shape]) -> Iterator[tuple[Shape, Shape]]:
    """Pairs of one shape from each side whose bounds have an area in common."""
    for shape in shapes:
        left, top, right, bottom = bounds(shape)
        for other in others:
            l2, t2, r2, b2 = bounds(other)
            if other is not shape and min(right, r2) - max(left, l2) > 0.01 and min(bottom, b2) - max(top, t2) > 0.01:
                yield shape, other
