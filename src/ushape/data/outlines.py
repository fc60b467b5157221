"""Outlines drawn in Fiji, QuPath, LabelMe and other programs: no masks, but a sentence on how to make masks of them.

    masks/x.zip, masks/x.roi     regions of Fiji's ROI Manager
    masks/x.geojson              QuPath
    masks/x.json                 LabelMe, COCO and others
    masks/x.xml                  ImageScope, CVAT, Pascal VOC and others

Where masks are expected, such a file is known by its name. Beside images it may be something else, an archive or what a
microscope noted, so it is looked into there.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ushape.data.headers import SUFFIXES, suffix_of

__all__ = ["is_regions_of_fiji", "outlines_in"]

FIJI = "make a label image of each in Fiji (ROIs to Label image, from the update site PTBIOP)"
# suffix: (whose outlines, what to do)
OUTLINES = {
    ".zip": ("Fiji's ROI Manager", FIJI),
    ".roi": ("Fiji's ROI Manager", FIJI),
    ".geojson": ("QuPath", "export label images from QuPath by a script (LabeledImageServer with useInstanceLabels)"),
    ".json": (
        "LabelMe, COCO or the like",
        "convert them to label images (LabelMe: labelme2voc.py, its SegmentationObject are masks)",
    ),
    ".xml": (
        "ImageScope, CVAT or the like",
        "export masks as PNG or TIFF from the program they were drawn with",
    ),
}
# What stands near the beginning of such a file, and not in the notes of a microscope.
SIGNS = {".json": re.compile(rb'"shapes"'), ".xml": re.compile(rb"<annotations?[\s>]")}
BEGINNING = 4096  # bytes


def _names_in(path: Path) -> list[Path]:
    """What a packed archive holds; nothing where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [Path(name) for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def is_regions_of_fiji(path: Path) -> bool:
    """Whether a .zip file holds regions of Fiji's ROI Manager."""
    return path.suffix.lower() == ".zip" and any(name.suffix.lower() == ".roi" for name in _names_in(path))


def _is_outlines(path: Path, among_masks: bool) -> bool:
    suffix = path.suffix.lower()
    if suffix not in OUTLINES or path.name.startswith(".") or not path.is_file():
        return False
    if suffix == ".zip" and not is_regions_of_fiji(path):
        return among_masks and not any(suffix_of(name) in SUFFIXES for name in _names_in(path))
    if among_masks or suffix not in SIGNS:
        return True
    with path.open("rb") as file:
        return SIGNS[suffix].search(file.read(BEGINNING).lower()) is not None


def outlines_in(folders: Sequence[Path], *, among_masks: bool) -> str:
    """What is said about the first of the folders with outlines instead of masks, '' where none has any.

    among_masks  whether masks are expected in the folders, and nothing else
    """
    for folder in folders:
        found = Counter(p.suffix.lower() for p in sorted(folder.iterdir()) if _is_outlines(p, among_masks))
        if found:
            suffix = found.most_common(1)[0][0]
            whose, action = OUTLINES[suffix]
            return f"{folder}: expected masks, found outlines of {whose} ({suffix}), which are not read; {action}"
    return ""
