"""Files of regions that were drawn in Fiji, QuPath or LabelMe, one for each image.

    x.roi, x.zip    a region, or several, of Fiji's ROI Manager: polygons, freehand, ovals, rectangles, composed ones
    x.geojson       QuPath, also as .json and zipped: polygons with holes, and objects of several pieces
    x.json          LabelMe: polygons, rectangles, circles and masks

What `ushape predict --save geojson` writes is read to the same objects.

References: RFC 7946 (GeoJSON); QuPath's "Exporting annotations"; ImageJ's RoiDecoder, as read by roifile; LabelMe 5.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ushape.data.headers import open_picture
from ushape.data.notes import reason_of
from ushape.data.regions import Corners, Drawing, Region, Rings, Stamp, are_around
from ushape.errors import DataError

__all__ = ["DRAWING_SUFFIXES", "beginning_of", "drawings_in", "is_drawing", "read_drawing"]

DRAWING_SUFFIXES = (".roi", ".zip", ".geojson", ".json")
GEOJSON = re.compile(rb'"type"\s*:\s*"Feature')
LABELME = re.compile(rb'"(?:shapes"\s*:\s*\[|(?:imagePath|imageData)"\s*:)')
"""What stands near the beginning of QuPath's and of LabelMe's files, and of no other .json."""
BEGINNING = 4096  # bytes
CIRCLE = 180  # corners of a circle or an oval
FOUND = ("cell", "detection")
"""Kinds of QuPath's objects that a program finds, mostly inside an annotation: where it was to look."""


def beginning_of(path: Path) -> bytes:
    """The first bytes of a file, which tell what kind of text it is."""
    with path.open("rb") as file:
        return file.read(BEGINNING)


def _packed(path: Path, ending: str) -> list[str]:
    """What an archive holds that ends so, without what macOS adds; nothing where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []
    return [name for name in names if name.lower().endswith(ending) and not Path(name).name.startswith("._")]


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
    beginning = beginning_of(path)
    return any(sign.search(beginning) for sign in (GEOJSON, LABELME))


def drawings_in(path: Path) -> list[Path]:
    """The files of regions that lie directly in a folder, by name."""
    return sorted(p for p in path.iterdir() if is_drawing(p))


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
    by_program = [(feature.get("properties") or {}).get("objectType") in FOUND for feature in features]
    told = [(region, found) for region, found, keep in zip(drawn, by_program, kept, strict=True) if keep]
    by_hand = [region for region, found in told if not found and not region.is_ignored]
    around = set(are_around(by_hand, [region for region, found in told if found]))
    regions = tuple(region for region, _ in told if region not in around)
    return Drawing(regions, others=kept.count(False), around=len(around))


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
    with open_picture(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
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
        if suffix == ".json" and not GEOJSON.search(beginning_of(path)):
            return _read_labelme(path)
        return _read_geojson(path)
    except Exception as error:  # Of damaged files roifile raises anything, and JSON may hold anything.
        raise DataError(
            f"{path}: expected regions as Fiji, QuPath or LabelMe save them, found what cannot be read "
            f"({reason_of(error)}); save them again or leave the file out"
        ) from error
