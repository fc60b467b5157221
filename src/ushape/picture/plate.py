"""Pictures in rows on a white plate, each with a title and a few words.

A plate is laid out in the units of `ushape.picture.canvas`; words and lines are drawn by its writer, and pictures are
put between them pixel by pixel. A small picture is enlarged without blurring, so that its pixels are seen as squares;
a large one is averaged down.

Conventions: pictures are (height, width, 3) uint8 RGB. Every function that draws gives a `Plate`: the picture, and
beside it, as text, what it shows and what it does not. In a notebook a plate shows itself, with that text below.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ushape.picture.canvas import Drawing, Shape, Text, png, text_width
from ushape.picture.legend import INK, SOFT
from ushape.picture.overlay import Colour, Picture

__all__ = [
    "Frame",
    "Inset",
    "Panel",
    "Plate",
    "colour_map",
    "compose",
    "draw_panels",
    "heat",
    "in_lines",
    "shrunk",
    "small_jpeg",
]

MARGIN, GAP, TITLE, WORDS, LINE = 24.0, 18.0, 17.0, 11.5, 15.0
"""Around everything and between panels; sizes of the heading and of words, and from line to line."""

NOTEBOOK_WIDTH, NOTEBOOK_QUALITY = 1000, 75
"""In a notebook: pixels, as wide as a cell, and JPEG's quality, so that a file full of plates stays small."""

THICK = 2
"""Pixels of the plate that the line of a frame is thick."""

HEATED = "inferno"
"""The colour map of what is laid over an image: even to the eye, and to most people with a colour blindness."""


class Plate(NamedTuple):
    """What every drawing gives; as the last line of a notebook's cell it shows the picture and the caption below."""

    picture: Picture
    caption: str

    def _ipython_display_(self) -> None:
        # Whoever calls this has IPython; nothing else needs it.
        notebook = import_module("IPython.display")
        notebook.display(notebook.Image(small_jpeg(self.picture)))
        if self.caption:
            notebook.display(notebook.Markdown(f"*{self.caption}*"))


@dataclass(frozen=True)
class Frame:
    """A rectangle around pixels of a picture: the edges, which lie between pixels; `top` 0 is the upper rim."""

    top: float
    left: float
    bottom: float
    right: float
    colour: Colour


@dataclass(frozen=True)
class Panel:
    """A picture with a title above it, lines below it, and frames on it."""

    picture: Picture
    title: str
    lines: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Inset:
    """Where a picture stands on the plate, in units."""

    picture: Picture
    x: float
    y: float
    width: float
    height: float
    frames: tuple[Frame, ...] = ()


def colour_map(values: NDArray[np.floating[Any]], top: float, name: str = "magma") -> Picture:
    """Values from 0 to `top` as colours of a map of matplotlib; what is larger looks like `top`."""
    from matplotlib import colormaps

    shares = np.clip(np.asarray(values, np.float64) / top, 0, 1) if top > 0 else np.zeros(values.shape)
    colours: NDArray[np.float64] = colormaps[name](shares)[..., :3]
    return np.rint(colours * 255).astype(np.uint8)


def heat(picture: Picture, shares: NDArray[np.floating[Any]]) -> Picture:
    """A greyed and dimmed picture, glowing where `shares` (height, width) in [0, 1] is large."""
    grey = picture.mean(axis=-1, keepdims=True) * 0.75
    weight = np.clip(shares, 0, 1)[..., None]
    # The dark end of the map would only darken the image; it is faded out instead.
    glow = colour_map(0.35 + 0.65 * weight[..., 0], 1.0, HEATED)
    mixed: Picture = np.rint(grey * (1 - weight) + glow * weight).astype(np.uint8)
    return mixed


def shrunk(values: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Values (height, width) averaged down to fit into `size`; never enlarged."""
    height, width = values.shape
    wanted = (min(width, size[1]), min(height, size[0]))
    made = PillowImage.fromarray(np.asarray(values, np.float32)).resize(wanted, PillowImage.Resampling.BOX)
    return np.asarray(made)


def small_jpeg(picture: Picture, width: int = NOTEBOOK_WIDTH, quality: int = NOTEBOOK_QUALITY) -> bytes:
    """A JPEG file at most `width` pixels wide: of noisy images a fraction of a PNG's bytes."""
    image = PillowImage.fromarray(np.ascontiguousarray(picture))
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), PillowImage.Resampling.LANCZOS)
    written = io.BytesIO()
    # Colours at full resolution, because outlines are one pixel wide and words are small.
    image.save(written, "JPEG", quality=quality, subsampling=0)
    return written.getvalue()


def in_lines(words: str, width: float, size: float = WORDS) -> list[str]:
    """Words broken into lines that fit into a width."""
    lines: list[str] = []
    for word in words.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def compose(drawing: Drawing, insets: Sequence[Inset], width: int) -> Picture:
    """The drawing, `width` pixels wide, with the pictures put upon it."""
    sheet = png(drawing, width).copy()
    scale = sheet.shape[1] / drawing.width
    for inset in insets:
        top, left = round(inset.y * scale), round(inset.x * scale)
        size = (max(1, round(inset.height * scale)), max(1, round(inset.width * scale)))
        made = _framed(_fitted(inset.picture, size), inset.picture.shape[:2], inset.frames)
        sheet[top : top + size[0], left : left + size[1]] = made
    return sheet


def draw_panels(
    title: str, panels: Sequence[Panel], *, columns: int, note: str = "", side: float = 250.0, width: int = 1600
) -> Picture:
    """Panels in rows under a title.

    Args:
        note: below the title, for all panels.
        columns: panels in a row.
        side: largest width and height of a panel, in units.
        width: in pixels, of a plate with four panels in a row; others are narrower or wider, their panels as large.
    """
    columns = min(columns, len(panels))
    sheet = max(2 * MARGIN + columns * side + (columns - 1) * GAP, 2 * MARGIN + 1.02 * text_width(title, TITLE, True))
    shapes: list[Shape] = [Text(MARGIN, MARGIN + TITLE, title, TITLE, INK, bold=True)]
    insets: list[Inset] = []
    y = MARGIN + TITLE
    for line in in_lines(note, sheet - 2 * MARGIN):
        y += LINE
        shapes.append(Text(MARGIN, y + 6, line, WORDS, SOFT))
    y += GAP
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        height = max(_extent(panel.picture, side)[1] for panel in row)
        lines = [_lines(panel, side) for panel in row]
        for column, (panel, below) in enumerate(zip(row, lines, strict=True)):
            x = MARGIN + column * (side + GAP)
            shapes.extend(_words(x, y, panel.title, below, height))
            wide, high = _extent(panel.picture, side)
            insets.append(Inset(panel.picture, x, y + LINE + 4, wide, high, panel.frames))
        y += LINE + 4 + height + LINE * max(len(below) for below in lines) + GAP
    drawing = Drawing(sheet, y + MARGIN - GAP, tuple(shapes), title)
    return compose(drawing, insets, round(width * sheet / (2 * MARGIN + 4 * side + 3 * GAP)))


def _lines(panel: Panel, side: float) -> list[str]:
    return [line for words in panel.lines for line in in_lines(words, side)]


def _words(x: float, y: float, title: str, below: Sequence[str], height: float) -> Iterator[Shape]:
    """The title of a panel and the lines below it."""
    yield Text(x, y + WORDS, title, WORDS + 0.5, INK, bold=True)
    for index, line in enumerate(below):
        yield Text(x, y + LINE + 4 + height + LINE * (index + 1), line, WORDS, SOFT)


def _extent(picture: Picture, side: float) -> tuple[float, float]:
    """Width and height, in units, of a picture that just fits into a square."""
    height, width = picture.shape[:2]
    return side * width / max(height, width), side * height / max(height, width)


def _fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture at a size (height, width): pixels become squares, or are averaged where there are too many."""
    larger = size[0] >= picture.shape[0]
    how = PillowImage.Resampling.NEAREST if larger else PillowImage.Resampling.BOX
    return np.asarray(PillowImage.fromarray(np.ascontiguousarray(picture)).resize(size[::-1], how))


def _framed(made: Picture, size: tuple[int, ...], frames: Sequence[Frame]) -> Picture:
    """The picture with frames around pixels of what it was made from, of `size`, with a dark line around them."""
    made = made.copy()
    rows, columns = made.shape[0] / size[0], made.shape[1] / size[1]
    for frame in frames:
        for grow, colour in ((2, (0, 0, 0)), (1, frame.colour)):
            # At the rim of the picture the frame is drawn inside, so that it is seen.
            top, left = max(0, round(frame.top * rows) - grow), max(0, round(frame.left * columns) - grow)
            bottom = min(made.shape[0], round(frame.bottom * rows) + grow)
            right = min(made.shape[1], round(frame.right * columns) + grow)
            _outline(made, (top, left, bottom, right), THICK if grow == 1 else 1, colour)
    return made


def _outline(picture: Picture, edges: tuple[int, int, int, int], thickness: int, colour: Colour) -> None:
    """Paint the rim of a rectangle, as far as it lies on the picture."""
    height, width = picture.shape[:2]
    top, left, bottom, right = edges
    rows, columns = np.arange(height)[:, None], np.arange(width)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    deep = (rows >= top + thickness) & (rows < bottom - thickness)
    deep = deep & (columns >= left + thickness) & (columns < right - thickness)
    picture[inside & ~deep] = colour
