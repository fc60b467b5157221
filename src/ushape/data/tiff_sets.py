"""A TIFF that is one file of a set is read as what lies in it.

Two kinds of TIFF say in each file what all of them hold together: OME-TIFF with a file for each position or channel
(Bio-Formats writes such sets) and Micro-Manager's stacks. tifffile follows that and joins the files, so that the second
position of a set would be read as the first one, or as all. In a folder of images a file is an image of its own, with a
mask of its own.

References: the OME-TIFF specification, on UUID and TiffData; Micro-Manager's file formats; tifffile's parameters.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

__all__ = ["own_part"]

# What Micro-Manager's summary calls the sizes of the whole set, and what its names have before the position.
SET_SIZES = ("Channels", "Slices", "Positions", "Frames")
STACK = "_MMStack"


def _named(element: ElementTree.Element, name: str) -> bool:
    return str(element.tag).rpartition("}")[2] == name


def _own_xml(text: str, file_name: str) -> str | None:
    """OME-XML with those images alone that lie wholly in this file; None where there are none.

    The text itself where no other file is named. ParseError for what is no XML.
    """
    root = ElementTree.fromstring(text)
    files = {e.text: e.get("FileName", "") for e in root.iter() if _named(e, "UUID")}
    if set(files) <= {root.get("UUID")}:
        return text
    by_name = {uuid for uuid, name in files.items() if name.lower() == file_name.lower()}
    # A file may have got the name of another one; its own number it keeps.
    own = {root.get("UUID")} if root.get("UUID") in files else by_name
    if not own and len(files) == 1 and root.get("UUID") is None:
        own = set(files)  # one file that was renamed
    for image in [e for e in root if _named(e, "Image")]:
        if not {e.text for e in image.iter() if _named(e, "UUID")} <= own:
            root.remove(image)
    for data in [e for e in root.iter() if _named(e, "TiffData")]:
        for uuid in [e for e in data if _named(e, "UUID")]:
            data.remove(uuid)
    found = any(_named(e, "Image") for e in root)
    return ElementTree.tostring(root, encoding="unicode") if found else None


def _is_stack_of_several(tiff: tifffile.TiffFile, path: Path) -> bool:
    """Whether a Micro-Manager stack holds a part of its set, and other files lie beside it."""
    if not tiff.is_mmstack or STACK not in path.name:
        return False
    known = tiff.micromanager_metadata or {}
    size = math.prod(int(known["Summary"].get(name, 1)) for name in SET_SIZES)
    prefix = path.name.split(STACK)[0] + STACK
    return size > len(known["IndexMap"]) and any(
        other.name != path.name and other.name.startswith(prefix) and other.suffix == path.suffix
        for other in path.parent.iterdir()
    )


def own_part(tiff: tifffile.TiffFile, path: Path) -> dict[str, Any]:
    """What `tifffile.TiffFile` has to be told to read this file alone; {} where it does so by itself.

    Of an image that is spread over several files no more is known than its pages: they come without axes.
    """
    told: dict[str, Any] = {"is_mmstack": False} if _is_stack_of_several(tiff, path) else {}
    if tiff.is_ome:
        text = tiff.ome_metadata or ""
        try:
            own = _own_xml(text, path.name)
        except ElementTree.ParseError:
            own = text
        if own != text:
            told |= {"is_ome": False} if own is None else {"omexml": own}
    return told
