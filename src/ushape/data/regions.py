"""Regions drawn in Fiji, QuPath or LabelMe, and the pixels that lie in them.

    x.roi, x.zip    a region, or several, of Fiji's ROI Manager: polygons, freehand, ovals, rectangles, composed ones
    x.geojson       QuPath, also as .json and zipped: polygons with holes, and objects of several pieces
    x.json          LabelMe: polygons, rectangles, circles and masks

Corners are (x, y) in pixels with (0, 0) in the outer corner of the first one; a pixel is inside where its centre is. A
centre on an edge that two regions share lies in one of them. What `ushape predict --save geojson` writes is read to the
same objects.

References: RFC 7946 (GeoJSON); QuPath's "Exporting annotations"; ImageJ's RoiDecoder, as read by roifile; LabelMe 5.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ushape.data.object_pages import merged_objects
from ushape.errors import DataError

__all__ = [
    "DRAWING_SUFFIXES",
    "Drawing",
    "Region",
    "Stamp",
    "draw",
    "drawings_in",
    "has_pixels",
    "is_drawing",
    "read_drawing",
]

Corners = NDArray[np.float64]
Mask = NDArray[np.int32]
Rings = tuple[Corners, ...]

DRAWING_SUFFIXES = (".roi", ".zip", ".geojson", ".json")
GEOJSON = re.compile(rb'"type"\s*:\s*"Feature')
LABELME = re.compile(rb'"(?:shapes"\s*:\s*\[|(?:imagePath|imageData)"\s*:)')
"""What stands near the beginning of QuPath's and of LabelMe's files, and of no other .json."""
BEGINNING = 4096  # bytes
CIRCLE = 180  # corners of a circle or an oval
IGNORED = "ignore"
"""Beginning of a class, in small letters, that means: not annotated. QuPath has Ignore*, LabelMe __ignore__."""
BACKGROUND = "background"
FOUND = ("cell", "detection")
"""Kinds of QuPath's objects that a program finds, mostly inside an annotation: where it was to look."""
AROUND = 4
"""Times the size of the largest of the found objects inside it, and more, that such an annotation has."""


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
    def of(cls, inside: NDArray[np.bool_], row: int = 0, column: int = 0) -> Stamp:
        """The stamp of a mask (height, width)."""
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


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BEGINNING)


def _packed(path: Path, ending: str) -> list[str]:
    """What an archive holds that ends so, without what macOS adds; nothing where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []
    own = [name for name in names if not name.startswith("__MACOSX") and not Path(name).name.startswith("._")]
    return [name for name in own if name.lower().endswith(ending)]


def is_drawing(path: Path) -> bool:
    """Whether a visible file is one of those that are read here, by its name or, where that says little, its content.

    One that is damaged may be one.
    """
    suffix = path.suffix.lower()
    if suffix not in DRAWING_SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    if suffix == ".zip":
        return bool(_packed(path, ".roi")) or len(_packed(path, ".geojson")) == 1
    if suffix != ".json":
        return True
    beginning = _beginning(path)
    return any(sign.search(beginning) for sign in (GEOJSON, LABELME))


def drawings_in(path: Path) -> list[Path]:
    """The files of regions that lie directly in a folder, by name."""
    return sorted(p for p in path.iterdir() if is_drawing(p))


def _edges(rings: Rings) -> tuple[Corners, Corners]:
    """(where they start, where they end), each (N, 2), of all edges of rings."""
    return np.concatenate(rings), np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])


def _circle(centre: Sequence[float], radii: Sequence[float]) -> Corners:
    angles = np.linspace(0, 2 * np.pi, CIRCLE, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(np.asarray(centre) + np.asarray(radii) * around, np.float64)


def _box(points: Corners) -> Corners:
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)


def _rings_of_fiji(content: bytes) -> Rings:
    """The rings of one of Fiji's regions; none of what has no inside, and of texts and pictures laid over the image."""
    from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

    roi = ImagejRoi.frombytes(content)
    lines = (ROI_TYPE.LINE, ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE, ROI_TYPE.ANGLE, ROI_TYPE.POINT)
    if roi.roitype in lines or roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE, ROI_SUBTYPE.ARROW):
        return ()
    if roi.roitype == ROI_TYPE.OVAL:
        radii = (roi.right - roi.left) / 2, (roi.bottom - roi.top) / 2
        return (_circle((roi.left + radii[0], roi.top + radii[1]), radii),)
    return tuple(np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True) if len(ring) > 2)


def _read_fiji(path: Path) -> Drawing:
    if path.suffix.lower() == ".roi":
        found = [path.read_bytes()]
    else:
        with zipfile.ZipFile(path) as archive:
            found = [archive.read(name) for name in _packed(path, ".roi")]
    rings, damaged = [], []
    for content in found:
        try:
            rings.append(_rings_of_fiji(content))
        except Exception as error:  # roifile raises anything, and one odd region need not cost all others.
            damaged.append(error)
    if damaged and not any(rings):
        raise damaged[0]
    regions = tuple(Region((each,)) for each in rings if each)
    return Drawing(regions, others=len(found) - len(regions))


def _features(content: Any) -> list[dict[str, Any]]:
    """The features of GeoJSON: of a collection, of a bare list as QuPath exports it, or the only one."""
    if isinstance(content, list):
        return content
    return list(content["features"]) if content["type"] == "FeatureCollection" else [content]


def _parts_of(geometry: dict[str, Any] | None) -> tuple[Rings, ...]:
    """The polygons of a geometry; none of lines, points and what is nowhere."""
    if geometry is None:
        return ()
    kind = geometry["type"]
    if kind == "GeometryCollection":
        return tuple(part for each in geometry["geometries"] for part in _parts_of(each))
    if kind not in ("Polygon", "MultiPolygon"):
        return ()
    pieces = geometry["coordinates"] if kind == "MultiPolygon" else [geometry["coordinates"]]
    # An empty polygon is a list without rings.
    rings = [tuple(np.array(ring, np.float64)[:, :2] for ring in piece if len(ring) > 2) for piece in pieces]
    return tuple(each for each in rings if each)


def _class_of(feature: dict[str, Any]) -> str:
    """The name of a feature's class, '' without one."""
    said = (feature.get("properties") or {}).get("classification") or ""
    return said if isinstance(said, str) else said.get("name") or ": ".join(said.get("names", ()))


def _area(region: Region) -> float:
    """The area inside its outer rings."""
    outer = [(rings[0], np.roll(rings[0], 1, axis=0)) for rings in region.parts]
    return float(sum(abs(np.sum(a[:, 1] * b[:, 0] - a[:, 0] * b[:, 1])) / 2 for a, b in outer))


def _is_around(region: Region, found: Sequence[Region]) -> bool:
    """Whether objects that a program found lie inside it, and it is much larger than each of them."""
    if not found:
        return False
    middles = np.array([each.parts[0][0].mean(axis=0) for each in found])
    starts, ends = (np.concatenate(rings) for rings in zip(*map(_edges, region.parts), strict=True))
    inside = np.zeros(len(found), np.bool_)
    for (x0, y0), (x1, y1) in zip(starts, ends, strict=True):
        crosses = (y0 <= middles[:, 1]) != (y1 <= middles[:, 1])
        inside ^= crosses & (middles[:, 0] < x0 + (middles[:, 1] - y0) * (x1 - x0) / ((y1 - y0) or 1))
    return bool(inside.any()) and _area(region) >= AROUND * max(_area(found[k]) for k in np.flatnonzero(inside))


def _read_geojson(path: Path) -> Drawing:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read(_packed(path, ".geojson")[0])
    else:
        text = path.read_bytes()
    features = _features(json.loads(text))
    drawn = [Region(_parts_of(feature.get("geometry")), _class_of(feature)) for feature in features]
    # QuPath's Region* and the like are no objects.
    kept = [bool(region.parts) and (region.is_ignored or not region.name.endswith("*")) for region in drawn]
    is_found = [(feature.get("properties") or {}).get("objectType") in FOUND for feature in features]
    found = [region for region, keep, by_program in zip(drawn, kept, is_found, strict=True) if keep and by_program]
    regions = [
        region
        for region, keep, by_program in zip(drawn, kept, is_found, strict=True)
        if keep and (by_program or region.is_ignored or not _is_around(region, found))
    ]
    return Drawing(tuple(regions), others=kept.count(False), around=kept.count(True) - len(regions))


def _rings_of_shape(shape: dict[str, Any]) -> Rings:
    """The ring of one of LabelMe's shapes; none of what has no inside."""
    kind, points = shape.get("shape_type") or "polygon", np.array(shape["points"], np.float64)
    if kind == "rectangle":
        return (_box(points),)
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        return (_circle(points[0].tolist(), (radius, radius)),)
    return (points,) if kind in ("polygon", "oriented_rectangle") and len(points) > 2 else ()


def _stamp_of_shape(shape: dict[str, Any]) -> Stamp:
    """The pixels of a shape that LabelMe keeps as a PNG in base64; the first of its points is its upper left pixel."""
    column, row = np.array(shape["points"], np.float64).min(axis=0).round().astype(int)
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
        return Stamp.of(np.asarray(picture) > 0, int(row), int(column))


def _read_labelme(path: Path) -> Drawing:
    content = json.loads(path.read_bytes())
    found: dict[Any, tuple[list[Rings], list[Stamp]]] = {}
    others = 0
    for index, shape in enumerate(content["shapes"]):
        # Shapes of one group and name are pieces of one object.
        group = shape.get("group_id")
        key = (index if group is None else None, group, str(shape["label"]))
        rings, is_painted = _rings_of_shape(shape), shape.get("shape_type") == "mask"
        if rings or is_painted:
            parts, stamps = found.setdefault(key, ([], []))
            stamps += [_stamp_of_shape(shape)] if is_painted else []
            parts += [rings] if rings else []
        else:
            others += 1
    size = content.get("imageHeight"), content.get("imageWidth")
    regions = (Region(tuple(parts), key[2], tuple(stamps)) for key, (parts, stamps) in found.items())
    return Drawing(tuple(regions), None if None in size else (int(size[0]), int(size[1])), others)


def read_drawing(path: Path) -> Drawing:
    """The regions of a file; DataError names one that cannot be read."""
    try:
        suffix = path.suffix.lower()
        if suffix == ".roi" or (suffix == ".zip" and _packed(path, ".roi")):
            return _read_fiji(path)
        if suffix == ".json" and not GEOJSON.search(_beginning(path)):
            return _read_labelme(path)
        return _read_geojson(path)
    except Exception as error:  # Of damaged files roifile raises anything, and JSON may hold anything.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: expected regions as Fiji, QuPath or LabelMe save them, found what cannot be read "
            f"({reason[:120]}); save them again or leave the file out"
        ) from error


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
