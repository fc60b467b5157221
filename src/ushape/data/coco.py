"""COCO: the regions of many images in one JSON file, as CVAT, Label Studio, Roboflow and published data sets have them.

    images/default/x.png, annotations/instances_default.json     CVAT
    x.jpg, _annotations.coco.json                                Roboflow, in train/, valid/ and test/
    images/x.png, result.json                                    Label Studio

Each annotation is a region: polygons, whose pieces belong together, or pixels by run lengths, packed or not. What is
called a crowd is not annotated. Boxes alone are no regions.

Reference: the COCO data format and the run-length encoding of its API.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.headers import composed
from ushape.data.notes import reason_of
from ushape.data.region_readers import beginning_of
from ushape.data.regions import IGNORED, Drawing, Region, Stamp
from ushape.errors import DataError

__all__ = ["coco_files", "entry_of", "is_coco", "read_coco"]

SIGN = re.compile(rb'"(?:images|annotations|categories|info|licenses)"\s*:\s*[\[{]')
"""What stands near the beginning of such a file."""
ANNOTATIONS = b'"annotations"'
"""What stands somewhere in it, and not in what a microscope notes about images."""
FILES_KEPT = 2
"""Files whose regions are kept in memory: they are asked for image by image."""


def is_coco(path: Path) -> bool:
    """Whether a visible file looks like one of COCO's, by its content."""
    if path.suffix.lower() != ".json" or path.name.startswith(".") or not path.is_file():
        return False
    return SIGN.search(beginning_of(path)) is not None and ANNOTATIONS in path.read_bytes()


def coco_files(folder: Path) -> list[Path]:
    """The files in a folder that look like COCO's, by name."""
    return sorted(path for path in folder.iterdir() if is_coco(path))


def _unpacked(text: str) -> list[int]:
    """Run lengths from letters: five bits of a number each, lowest first; from the fourth on less the last but one."""
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _from_runs(segmentation: dict[str, Any]) -> NDArray[np.bool_]:
    """Pixels (height, width) from run lengths, of background first, column by column."""
    counts = segmentation["counts"]
    runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    height, width = segmentation["size"]
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def _is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is of what nobody told apart.

    CVAT calls all that was painted so, because of how it is written, and says beside it what was meant.
    """
    painted = isinstance(annotation.get("segmentation"), dict)
    said = annotation.get("attributes")
    if painted and isinstance(said, dict):
        return bool(said.get("is_crowd"))
    return bool(annotation.get("iscrowd"))


def _region(annotation: dict[str, Any], name: str) -> Region | None:
    """The region of an annotation; None for a box alone, and for what has no inside."""
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        inside = _from_runs(segmentation)
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return None
        place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return Region((), name, (Stamp.of(inside[place], int(rows[0]), int(columns[0])),))
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    parts = tuple((np.array(ring, np.float64).reshape(-1, 2),) for ring in rings if len(ring) > 5)
    return Region(parts, name) if parts else None


def _path_of(image: dict[str, Any]) -> str:
    return composed(str(image["file_name"]).replace("\\", "/"))


@lru_cache(maxsize=FILES_KEPT)
def _read(path: Path, _changed: int) -> dict[str, Drawing]:
    content = json.loads(path.read_bytes())
    names = {each["id"]: str(each["name"]) for each in content.get("categories", ())}
    regions: dict[Any, list[Region]] = {}
    others: Counter[Any] = Counter()
    for annotation in content["annotations"]:
        image, name = annotation["image_id"], names.get(annotation.get("category_id"), "")
        try:
            region = _region(annotation, IGNORED if _is_crowd(annotation) else name)
        except (TypeError, ValueError, KeyError, IndexError):
            # One odd annotation need not cost all others.
            region = None
        if region is None:
            others[image] += 1
        else:
            regions.setdefault(image, []).append(region)
    drawings: dict[str, Drawing] = {}
    alike = Counter(PurePosixPath(_path_of(image)).name for image in content["images"])
    for image in content["images"]:
        key, where, sides = image["id"], _path_of(image), (image.get("height"), image.get("width"))
        size = None if None in sides else (int(sides[0]), int(sides[1]))
        drawing = Drawing(tuple(regions.get(key, ())), size, others[key])
        drawings[where] = drawing
        if alike[PurePosixPath(where).name] == 1:
            drawings[PurePosixPath(where).name] = drawing
    return drawings


def entry_of(drawings: dict[str, Drawing], image: Path) -> Drawing | None:
    """The regions of an image; None where it is not named, or its name is that of several in other folders."""
    parts = [composed(part) for part in image.parts]
    return next((drawings[key] for n in range(len(parts)) if (key := "/".join(parts[n:])) in drawings), None)


def read_coco(path: Path) -> dict[str, Drawing]:
    """The regions of each image, by its path as it is named; DataError for a file that cannot be read.

    By the name of its file alone, too, where no other has it.

    They are kept in memory until the file changes.
    """
    try:
        return _read(path, path.stat().st_mtime_ns)
    except Exception as error:  # JSON may hold anything.
        raise DataError(
            f"{path}: expected regions of images as COCO has them, found what cannot be read ({reason_of(error)}); "
            "save them again or leave the file out"
        ) from error
