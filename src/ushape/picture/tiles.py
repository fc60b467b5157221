"""The overlap-tile figure of the paper, drawn from the geometry that predicts: what is read, and what is written.

Three pictures stand beside each other: the image on its mirrored plane with all tiles, the region that one tile reads,
and what the network answers for it, of which the tile writes a part. Every frame is a number of
`ushape.geometry.tiles`, and every mirrored pixel is one that `ushape.prediction.tiled.read_tile` gives to the network.

Conventions: those of `ushape.picture.canvas`. As in the paper's figure 2, blue is read and yellow is written. Of a
volume one slice is drawn.

References: P10, P11 of docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError, RecipeError
from ushape.geometry import Geometry, Interval, Tile, tiles
from ushape.picture.canvas import Bitmap, Box, Drawing, Line, Shape, Text
from ushape.picture.legend import INK, SOFT
from ushape.picture.overlay import Picture, hatch, to_display
from ushape.picture.plate import colour_map, in_lines
from ushape.prediction.tiled import read_tile

__all__ = ["Answer", "draw_tiles", "tile_at"]

Answer = Callable[[Tile], NDArray[np.floating[Any]]]
"""From a tile to how sure the network is, from 0 to 1, that each pixel of its output is no background: (*out)."""

READ, WRITE, FRAME = "#2f8fd8", "#f2b311", "#ffffff"
"""Blue and yellow as in the paper's figure; the border of the image."""
WRITE_RGB = np.array([242, 179, 17])

MARGIN, GAP, TITLE, WORDS, LINE, ROOM = 24.0, 30.0, 17.0, 11.5, 15.0, 40.0
"""Around everything, between panels, sizes of the heading and of words, from line to line, and the room that the
lengths beside a panel take, in units."""

PLANE, TILE = 330.0, 270.0
"""Largest sides of the panel with the plane and of those with a tile, in units."""

OUTSIDE, TINT = 0.45, 0.3
"""Share of the light that is left to what lies outside the image; weight of the yellow on what a tile writes."""

MOST_PLANE = 1600
"""Pixels of the plane along an axis from which only some of them are drawn."""

HATCHED = 400
"""Pixels of a side that an answer is enlarged to, about, before it is hatched."""

DENSE = 4.0
"""Units between the lines of tiles below which they would cover the image, and are left out."""


@dataclass(frozen=True)
class _Place:
    """Where pixels of the mirrored plane lie on the sheet: `rows` and `columns` are shown from (x, y) on."""

    x: float
    y: float
    scale: float
    rows: Interval
    columns: Interval

    def box(self, region: Sequence[Interval], **look: Any) -> Box:
        """A rectangle around a region of the plane."""
        (top, bottom), (left, right) = region[-2:]
        x, y = self.x + (left - self.columns[0]) * self.scale, self.y + (top - self.rows[0]) * self.scale
        return Box(x, y, (right - left) * self.scale, (bottom - top) * self.scale, **look)

    def bitmap(self, picture: Picture, region: Sequence[Interval]) -> Bitmap:
        """A picture on a region of the plane."""
        box = self.box(region)
        return Bitmap(box.x, box.y, box.width, box.height, picture)

    @property
    def width(self) -> float:
        """In units."""
        return (self.columns[1] - self.columns[0]) * self.scale

    @property
    def height(self) -> float:
        """In units."""
        return (self.rows[1] - self.rows[0]) * self.scale


def tile_at(cut: Sequence[Tile], place: Sequence[int]) -> Tile:
    """The tile that writes a pixel; RecipeError when the image has no such pixel."""
    for tile in cut:
        if len(place) == len(tile.write) and all(
            start <= at < stop for at, (start, stop) in zip(place, tile.write, strict=True)
        ):
            return tile
    size = " x ".join(str(max(tile.write[axis][1] for tile in cut)) for axis in range(len(cut[0].write)))
    raise RecipeError(
        f"expected a pixel of the image, which has {size}, found {','.join(map(str, place))}; choose one inside it"
    )


def draw_tiles(
    image: NDArray[Any],
    geometry: Geometry,
    tile_size: int,
    *,
    place: Sequence[int] | None = None,
    answer: Answer | None = None,
) -> Drawing:
    """An image, the tiles that predict it, and what one of them reads and writes.

    Args:
        image: (C, *space), as it is to be shown; of a volume the slice at `place`, else the middle one.
        geometry, tile_size: as in `ushape.geometry.tiles`.
        place: (row, column), for a volume with the slice first; the tile that writes this pixel is drawn. None: the
            first one, which reads beyond two borders of the image.
        answer: what the network says of a tile; None: the image itself stands for it.

    Returns:
        The drawing; its description is the caption.
    """
    if image.ndim not in (3, 4):
        raise DataError(f"expected an image (C, height, width) or a volume, found shape {image.shape}; add the channel")
    space = image.shape[1:]
    where = tuple(place) if place is not None else (*(n // 2 for n in space[:-2]), 0, 0)
    cut = tiles(geometry, space, tile_size)
    tile = tile_at(cut, where)
    z = where[0] if len(space) == 3 else None
    shown = to_display(image if z is None else image[:, z])
    answered = _answered(shown, tile, geometry, z, answer)
    title = f"The overlap-tile of {geometry}"
    words = _words(cut, tile, geometry, answer)
    shapes, width, height = _sheet(title, shown, cut, tile, geometry, answered, words)
    return Drawing(width, height, tuple(shapes), title, _caption(geometry))


def _out(tile: Tile, geometry: Geometry) -> tuple[Interval, ...]:
    """The region of the plane that the network answers for when it reads a tile."""
    return tuple((start + geometry.lost, stop - geometry.lost) for start, stop in tile.read)


def _answered(shown: Picture, tile: Tile, geometry: Geometry, z: int | None, answer: Answer | None) -> Picture:
    """What the network answers for the tile, hatched where it is not written."""
    out = _out(tile, geometry)
    if answer is None:
        picture = _plane(shown, out[-2:], 1.0)
    else:
        sure = answer(tile)
        picture = colour_map(sure if z is None else sure[z - out[0][0]], 1.0, "viridis")
    rows, columns = (np.arange(*side) for side in out[-2:])
    (top, bottom), (left, right) = tile.write[-2:]
    written = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    # Enlarged, so that stripes are fine on small tiles too.
    k = max(1, HATCHED // max(written.shape))
    return hatch(picture.repeat(k, axis=0).repeat(k, axis=1), ~written.repeat(k, axis=0).repeat(k, axis=1))


def _plane(shown: Picture, region: Sequence[Interval], light: float) -> Picture:
    """A region of the mirrored plane, as `read_tile` reads it, with `light` left to what lies outside the image."""
    step = max(1, max(stop - start for start, stop in region) // MOST_PLANE)
    region = tuple(region)[-2:]
    tile = Tile(region, (), ())
    picture = np.moveaxis(read_tile(np.moveaxis(shown, -1, 0), tile), 0, -1)[::step, ::step]
    inside = [
        (np.arange(start, stop, step) >= 0) & (np.arange(start, stop, step) < n)
        for (start, stop), n in zip(region, shown.shape, strict=False)
    ]
    share = np.where(inside[0][:, None] & inside[1], 1.0, light)[..., None]
    dimmed: Picture = np.rint(picture * share).astype(np.uint8)
    return dimmed


# What stands on the sheet.


def _sheet(
    title: str,
    shown: Picture,
    cut: Sequence[Tile],
    tile: Tile,
    geometry: Geometry,
    answered: Picture,
    words: Sequence[tuple[str, str]],
) -> tuple[list[Shape], float, float]:
    """The shapes of the three panels with their words, and the sheet's width and height."""
    top = MARGIN + TITLE + GAP
    reads = [(min(t.read[axis][0] for t in cut), max(t.read[axis][1] for t in cut)) for axis in (-2, -1)]
    whole = _put(MARGIN, top + WORDS, PLANE, reads)
    read = _put(MARGIN + PLANE + GAP + ROOM, top + WORDS + ROOM, TILE, tile.read)
    wrote = _put(read.x + TILE + GAP + ROOM, read.y, TILE, tile.read)
    shapes: list[Shape] = [Text(MARGIN, MARGIN + TITLE, title, TITLE, INK, bold=True)]
    shapes += _on_plane(whole, shown, cut, tile)
    shapes += _on_read(read, shown, tile, geometry)
    shapes += _on_written(wrote, answered, tile, geometry)
    below = max(place.y + place.height for place in (whole, read)) + 6
    last = below
    room = {whole.x: PLANE, read.x - ROOM: TILE + ROOM, wrote.x - ROOM: TILE + ROOM}
    for (x, width), (head, said) in zip(room.items(), words, strict=True):
        shapes.append(Text(x, top, head, WORDS + 0.5, INK, bold=True))
        for index, line in enumerate(in_lines(said, width), start=1):
            shapes.append(Text(x, below + LINE * index, line, WORDS, SOFT))
            last = max(last, below + LINE * index)
    return shapes, wrote.x + TILE + MARGIN, last + MARGIN


def _put(x: float, y: float, side: float, region: Sequence[Interval]) -> _Place:
    """A region of the plane at (x, y), as large as fits into a square."""
    rows, columns = region[-2:]
    return _Place(x, y, side / max(rows[1] - rows[0], columns[1] - columns[0]), rows, columns)


def _on_plane(place: _Place, shown: Picture, cut: Sequence[Tile], tile: Tile) -> Iterator[Shape]:
    """The image on its mirrored plane, the borders between what tiles write, and one tile's regions."""
    region = (place.rows, place.columns)
    yield place.bitmap(_plane(shown, region, OUTSIDE), region)
    written = _plane(shown, tile.write, 1.0)
    yield place.bitmap(np.rint(written * (1 - TINT) + WRITE_RGB * TINT).astype(np.uint8), tile.write[-2:])
    image = place.box([(0, n) for n in shown.shape[:2]])
    for axis in (-2, -1):
        edges = sorted({t.write[axis][0] for t in cut} - {0})
        start = image.y if axis == -2 else image.x
        if edges and min(np.diff([0, *edges])) * place.scale < DENSE:
            continue
        for edge in edges:
            at = start + edge * place.scale
            ends = [(image.x, at), (image.x + image.width, at)]
            ends = ends if axis == -2 else [(at, image.y), (at, image.y + image.height)]
            yield Line(ends[0], ends[1], WRITE, 0.9)
    yield from _outlined(place.box([(0, n) for n in shown.shape[:2]]), FRAME, 1.0)
    yield from _outlined(place.box(tile.write), WRITE, 1.8)
    yield from _outlined(place.box(tile.read), READ, 1.8)


def _on_read(place: _Place, shown: Picture, tile: Tile, geometry: Geometry) -> Iterator[Shape]:
    """What the network is given, where the image ends in it, and its lengths."""
    region = (place.rows, place.columns)
    yield place.bitmap(_plane(shown, region, 1.0), region)
    for line in _image_border(place, shown.shape[:2]):
        yield Line(line.start, line.stop, "#000000", 2.4)
        yield line
    yield from _outlined(place.box(tile.write), WRITE, 1.8)
    yield from _outlined(place.box(tile.read), READ, 1.8)
    stops = [_margins(side, geometry.margin) for side in region]
    yield from _lengths(place, stops[0], stops[1])


def _on_written(place: _Place, answered: Picture, tile: Tile, geometry: Geometry) -> Iterator[Shape]:
    """What the network answers, in the frame of what it has read, and its lengths."""
    yield place.box(tile.read, fill="#f4f6f8", line=READ, line_width=1.2, dashed=True)
    yield place.bitmap(answered, _out(tile, geometry))
    yield from _outlined(place.box(tile.write), WRITE, 1.8)
    yield from _lengths(place, tile.write[-2], tile.write[-1])


def _outlined(box: Box, colour: str, width: float) -> Iterator[Box]:
    """A frame with a dark rim, so that it is seen on dark and on bright images."""
    yield Box(box.x, box.y, box.width, box.height, line="#000000", line_width=width + 1.2)
    yield Box(box.x, box.y, box.width, box.height, line=colour, line_width=width)


def _image_border(place: _Place, size: Sequence[int]) -> Iterator[Line]:
    """The parts of the image's border that lie inside a region of the plane."""
    box = place.box([(0, n) for n in size])
    left, right = max(box.x, place.x), min(box.x + box.width, place.x + place.width)
    top, bottom = max(box.y, place.y), min(box.y + box.height, place.y + place.height)
    for x in (box.x, box.x + box.width):
        if place.x < x < place.x + place.width:
            yield Line((x, top), (x, bottom), FRAME, 1.2)
    for y in (box.y, box.y + box.height):
        if place.y < y < place.y + place.height:
            yield Line((left, y), (right, y), FRAME, 1.2)


def _margins(side: Interval, margin: int) -> tuple[int, ...]:
    """Where the margins of a read region begin and end, along one axis."""
    start, stop = side
    return (start, start + margin, stop - margin, stop) if margin else side


def _lengths(place: _Place, rows: Sequence[int], columns: Sequence[int]) -> Iterator[Shape]:
    """The lengths between places along both axes, in pixels, above and to the left."""
    y, x = place.y - 9, place.x - 9
    at = [place.x + (column - place.columns[0]) * place.scale for column in columns]
    yield Line((at[0], y), (at[-1], y), SOFT)
    yield from (Line((each, y - 3.5), (each, y + 3.5), SOFT) for each in at)
    for (a, b), n in zip(pairwise(at), np.diff(columns), strict=True):
        yield Text((a + b) / 2, y - 6, f"{n}", WORDS - 1, SOFT, anchor="middle")
    at = [place.y + (row - place.rows[0]) * place.scale for row in rows]
    yield Line((x, at[0]), (x, at[-1]), SOFT)
    yield from (Line((x - 3.5, each), (x + 3.5, each), SOFT) for each in at)
    for (a, b), n in zip(pairwise(at), np.diff(rows), strict=True):
        yield Text(x - 6, (a + b) / 2 + 0.36 * (WORDS - 1), f"{n}", WORDS - 1, SOFT, anchor="end")


# Words.


def _times(lengths: Sequence[int]) -> str:
    return "×".join(map(str, lengths))


def _words(
    cut: Sequence[Tile], tile: Tile, geometry: Geometry, answer: Answer | None
) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
    """The title of each panel, and what stands below it."""
    inside = [
        max(0, min(stop, max(t.write[axis][1] for t in cut)) - max(start, 0))
        for axis, (start, stop) in enumerate(tile.read)
    ]
    beyond = 1 - np.prod(inside) / np.prod(tile.size)
    n, one = ("One tile", "it") if len(cut) == 1 else (f"{len(cut)} tiles", "one of them")
    share = f"{100 * beyond:.0f}" if beyond >= 0.01 else "less than 1"
    mirrors = f"of which {share} % lie beyond the image (white line) and are mirrored"
    out = [stop - start for start, stop in _out(tile, geometry)]
    wrote = _times([stop - start for start, stop in tile.write])
    lost = (
        f"It learnt with padding; without, the network answers for {_times(out)} px, those whose whole context it has "
        "read, as it would with"
        if geometry.shift
        else f"Without padding the network answers for {_times(out)} px, those whose whole context it has read"
        if geometry.padding == "valid"
        else f"With padding the network answers for all {_times(out)} px, but zeros have gone into the outer "
        f"{geometry.margin} px"
    )
    stands = "the image stands for the answer" if answer is None else "bright: surely no background"
    thrown = (
        " Hatched: not written; a neighbour writes it, or it lies outside the image." if wrote != _times(out) else ""
    )
    return (
        (
            "The image and its tiles",
            f"{n} of {_times(tile.size)} px. Blue: what {one} reads; yellow: what it alone writes. Dark: beyond "
            "the image, which is mirrored there.",
        ),
        (
            "What one tile reads",
            f"{_times(tile.size)} px, {mirrors if beyond else 'all of them in the image'}. The margin of "
            f"{geometry.margin} px is context only.",
        ),
        ("What the network answers", f"{lost}; the tile writes {wrote} ({stands}).{thrown}"),
    )


def _caption(geometry: Geometry) -> str:
    """What makes it seamless, and when it is not."""
    return (
        "A pixel is written by one tile only, and only where everything that it depends on has been read: with "
        f"{geometry} that is a margin of {geometry.margin} px. Beyond the image's border the plane is mirrored about "
        f"the edge pixel. Tiles lie whole strides of {geometry.stride} px apart, so that neighbours pool the same "
        "pixels together; they agree on what lies between them, and the parts abut without a seam. Instance and group "
        "normalisation take their mean from a tile, and would break that."
    )
