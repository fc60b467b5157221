"""Outlines of objects, as other programs draw them: GeoJSON for QuPath, ROIs for ImageJ and Fiji.

An outline runs along the edges of pixels, so that what lies inside it is exactly what the label image holds. Its
corners are (x, y) in pixels with (0, 0) in the outer corner of the first one, which is where QuPath and ImageJ have it.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Outline", "trace", "write_geojson", "write_rois"]

Labels = NDArray[np.integer[Any]]
Corner = tuple[int, int]
Direction = tuple[int, int]
Ring = list[Corner]

RIGHT_OF: dict[Direction, Direction] = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}
LEFT_OF = {after: before for before, after in RIGHT_OF.items()}
"""Directions (x, y) after a turn, in an image whose rows run downwards."""


@dataclass(frozen=True)
class Outline:
    """Of a connected piece of an object: corners in order, the first one not repeated.

    label  the object's id
    name   of its class; empty where objects have none
    outer  clockwise on the screen, the object on the right hand
    holes  the other way round
    """

    label: int
    outer: Ring
    holes: tuple[Ring, ...] = ()
    name: str = ""


def edges(inside: NDArray[np.bool_]) -> dict[Corner, list[Direction]]:
    """The edges of the pixels of a mask (height, width) at its rim: from each corner, the directions that leave it."""
    padded = np.pad(inside, 1)
    leaving: dict[Corner, list[Direction]] = {}
    # The neighbour that is missing, where the edge to it begins, and where it runs.
    for (dy, dx), (x0, y0), direction in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (0, 1)),
        ((1, 0), (1, 1), (-1, 0)),
        ((0, -1), (0, 1), (0, -1)),
    ):
        neighbour = padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            leaving.setdefault((x + x0, y + y0), []).append(direction)
    return leaving


def rings(inside: NDArray[np.bool_], turn: Mapping[Direction, Direction]) -> list[Ring]:
    """The closed lines around a 4-connected mask (height, width), corners only, the outer one first.

    turn  what a line prefers where two pixels meet at a corner only
    """
    leaving, found = edges(inside), []
    # The topmost corners first, of those the leftmost: one line only begins there, and the outer one reaches highest.
    for first in sorted(leaving, key=lambda corner: (corner[1], corner[0])):
        if first not in leaving:
            continue
        ring: Ring = []
        place, direction, before = first, leaving[first][0], (0, 0)
        while True:
            if direction != before:
                ring.append(place)
            leaving[place].remove(direction)
            if not leaving[place]:
                del leaving[place]
            place, before = (place[0] + direction[0], place[1] + direction[1]), direction
            ways = leaving.get(place)
            if not ways:
                break
            direction = turn[before] if turn[before] in ways else ways[0]
        found.append(ring)
    return found


def trace(objects: Labels, names: Sequence[str] = (), *, holes: bool = True) -> list[Outline]:
    """The outlines of objects (height, width), 0 = background, by rising id; pieces that touch nowhere have their own.

    names  of classes, where `objects` are classes: their connected pieces, whatever the class, are numbered from 1 in
           the order of their first pixels, row by row, as `measure_pieces` numbers them in the table
    holes  whether whoever reads them knows holes. Then no line meets itself: what the background reaches through a
           corner is a hole. Otherwise the outer line runs in and out through that corner, so that it is not filled.
    """
    turn = LEFT_OF if holes else RIGHT_OF
    outlines: list[Outline] = []
    for label, where in enumerate(ndimage.find_objects(objects), start=1):
        if where is None:
            continue
        pieces = ndimage.label(objects[where] == label)[0]
        rows, columns = where
        for piece, part in enumerate(ndimage.find_objects(pieces), start=1):
            top, left = rows.start + part[0].start, columns.start + part[1].start
            moved = [[(x + left, y + top) for x, y in ring] for ring in rings(pieces[part] == piece, turn)]
            inner = tuple(moved[1:]) if holes else ()
            outlines.append(Outline(label, moved[0], inner, names[label] if names else ""))
    if not names:
        return outlines
    # An outline begins at the first pixel of its piece.
    outlines.sort(key=lambda outline: outline.outer[0][::-1])
    return [replace(outline, label=number) for number, outline in enumerate(outlines, start=1)]


def feature(pieces: Sequence[Outline]) -> dict[str, Any]:
    """A detection as QuPath reads it, of all pieces of an object."""
    polygons = [[[*ring, ring[0]] for ring in (piece.outer, *piece.holes)] for piece in pieces]
    geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": polygons}
    if len(polygons) == 1:
        geometry = {"type": "Polygon", "coordinates": polygons[0]}
    properties: dict[str, Any] = {"objectType": "detection", "name": str(pieces[0].label)}
    if pieces[0].name:
        properties["classification"] = {"name": pieces[0].name}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def write_geojson(path: Path, outlines: Sequence[Outline]) -> None:
    """Write outlines as a GeoJSON feature collection, a feature for each object; complete or not at all."""
    objects: dict[int, list[Outline]] = {}
    for outline in outlines:
        objects.setdefault(outline.label, []).append(outline)
    collection = {"type": "FeatureCollection", "features": [feature(pieces) for pieces in objects.values()]}
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(collection), encoding="utf-8")
    os.replace(temporary, path)


def write_rois(path: Path, outlines: Sequence[Outline], place: Mapping[str, int] | None = None) -> None:
    """Write outlines as a zip of ImageJ ROIs, which have no holes; complete or not at all.

    place  where in a stack they lie, from 0: `position` among its pages, or its frame `t` and slice `z`
    """
    from roifile import ROI_TYPE, ImagejRoi

    temporary = path.with_name(path.name + ".part")
    taken: Counter[str] = Counter()
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for outline in outlines:
            name = f"{outline.label:04d}" + (f"-{outline.name}" if outline.name else "")
            taken[name] += 1
            roi = ImagejRoi.frompoints(outline.outer, name=name, **(place or {}))
            roi.roitype = ROI_TYPE.TRACED
            # Corners lie between pixels, so that the box ends at the last corner and not one behind it.
            roi.right, roi.bottom = (max(axis) for axis in zip(*outline.outer, strict=True))
            repeated = f"-{taken[name]}" if taken[name] > 1 else ""
            archive.writestr(f"{safe(name)}{repeated}.roi", roi.tobytes())
    os.replace(temporary, path)


def safe(name: str) -> str:
    """A name that may stand in an archive."""
    return "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name)
