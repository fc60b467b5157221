"""Outlines of programs whose files are not read: no masks, but a sentence on how to make masks of them.

    masks/x.json                 of unknown programs
    masks/x.xml                  ImageScope, CVAT, Pascal VOC and others

What Fiji, QuPath and LabelMe write (`region_readers`) and COCO's files (`coco`) are read, so that a sentence is needed
only where they are named unlike any image. Where masks are expected, outlines are known by their names. Beside images
such a file may be something else, what a microscope noted, so it is looked into there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ushape.data.coco import is_coco
from ushape.data.region_readers import beginning_of, drawings_in

__all__ = ["outlines_in"]

# suffix: (whose outlines, what to do)
OUTLINES = {
    ".json": ("an unknown program", "save them as COCO or GeoJSON has them, or as label images"),
    ".xml": ("ImageScope, CVAT or the like", "export masks as PNG or TIFF from the program they were drawn with"),
}
# What stands near the beginning of such a file, and not in the notes of a microscope.
SIGNS = {".xml": re.compile(rb"<annotations?[\s>]")}


def _is_outlines(path: Path, among_masks: bool) -> bool:
    suffix = path.suffix.lower()
    if suffix not in OUTLINES or path.name.startswith(".") or not path.is_file():
        return False
    if among_masks:
        # What is wrong with one of COCO's has been told.
        return not is_coco(path)
    if suffix not in SIGNS:
        return False
    return SIGNS[suffix].search(beginning_of(path).lower()) is not None


def outlines_in(folders: Sequence[Path], *, among_masks: bool) -> str:
    """What is said about the first of the folders with outlines instead of masks, '' where none has any.

    among_masks  whether masks are expected in the folders, and nothing else
    """
    for folder in folders:
        drawn = drawings_in(folder)
        if drawn:
            return (
                f"{folder}: expected regions named like their images (a.zip, a.geojson or a.json with a.tif), found "
                f"{drawn[0].name} and no image of that name; rename the files"
            )
        found = Counter(p.suffix.lower() for p in sorted(folder.iterdir()) if _is_outlines(p, among_masks))
        if found:
            suffix = found.most_common(1)[0][0]
            whose, action = OUTLINES[suffix]
            return f"{folder}: expected masks, found outlines of {whose} ({suffix}), which are not read; {action}"
    return ""
