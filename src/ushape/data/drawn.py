"""Images whose objects were drawn as regions, in Fiji, QuPath, LabelMe or as COCO has them, become a dataset.

Each region is an object. For the task semantic each is of a class, by the names that QuPath or LabelMe gave it, where
there are any. All files are read once, so that what is wrong with one is told before training begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ushape.data.assembly import Request, sample_of
from ushape.data.coco import entry_of, is_coco, read_coco
from ushape.data.dataset import Dataset, Sample
from ushape.data.description import DESCRIPTION_FILE
from ushape.data.images import read_layout
from ushape.data.matching import Match, is_named_as_regions
from ushape.data.notes import Notes, counted, first_of, told
from ushape.data.planes import pairs_of
from ushape.data.region_readers import is_drawing, read_drawing
from ushape.data.regions import Drawing, draw, has_pixels
from ushape.errors import DataError

__all__ = ["assemble_drawn", "has_drawings"]

Size = tuple[int, int]


def has_drawings(matches: Sequence[Match]) -> bool:
    """Whether what is annotated was drawn as regions; not where any image has a mask."""
    # Of many images the regions may lie in one file.
    masks = {match.mask for match in matches if match.mask is not None}
    return bool(masks) and all(is_drawing(mask) or is_coco(mask) for mask in masks)


def _drawing_of(path: Path, image: Path) -> Drawing:
    """The regions of an image, from a file of its own or from one of COCO's; DataError where it has none there."""
    if is_drawing(path):
        return read_drawing(path)
    found = entry_of(read_coco(path), image)
    if found is None:
        raise DataError(f"{path}: expected regions of {image.name}, found none; name the image as the file does")
    return found


def _read_drawn(path: Path, image: Path, size: Size, classes: tuple[str, ...]) -> NDArray[np.int32]:
    return draw(_drawing_of(path, image), size, classes)


def _checked(path: Path, image: Path, axes: str | None) -> tuple[Drawing, Size]:
    """The regions of a file and the size of their image; DataError where they cannot be of it."""
    layout = read_layout(image, axes=axes)
    if layout.n_pages > 1:
        raise DataError(
            f"{path}: expected regions of an image of one page, found {layout.n_pages} pages in {image.name}; save "
            "each page as an image, or make label images of the regions"
        )
    drawing, size = _drawing_of(path, image), layout.size
    if drawing.size not in (None, size):
        raise DataError(
            f"{path}: expected regions drawn on an image of size {size}, found {drawing.size}; give the regions of "
            f"{image.name} its name"
        )
    if drawing.objects and not has_pixels(drawing, size):
        raise DataError(
            f"{path}: expected regions inside the image of size {size}, found none of {len(drawing.objects)} there; "
            "save them in pixels of this image"
        )
    if drawing.others and not drawing.regions:
        raise DataError(
            f"{path}: expected regions with an inside, found lines, points, boxes and the like only for {image.name}; "
            "draw objects as polygons"
        )
    return drawing, size


def _names(drawings: Sequence[Drawing]) -> list[str]:
    return sorted({region.name for drawing in drawings for region in drawing.objects if region.name})


def _classes(request: Request, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes for the task semantic, background first; DataError where some are not among them."""
    described = tuple(rule.name for rule in request.description.classes)
    known = request.known if set(names) <= set(request.known[1:]) else ()
    classes = known or described or ("background", *(names or ["foreground"]))
    unknown = [name for name in names if name not in classes[1:]]
    if unknown:
        raise DataError(
            f"{request.path}: expected regions of the classes {', '.join(classes[1:])} only, as {DESCRIPTION_FILE} has "
            f"them, found {', '.join(unknown)}; name them alike"
        )
    return classes


def _finding(drawings: Sequence[Drawing], classes: Sequence[str]) -> str:
    """What was understood of the regions, as classes where there are any."""
    objects = [region for drawing in drawings for region in drawing.objects]
    names, n_ignored = _names(drawings), sum(r.is_ignored for drawing in drawings for r in drawing.regions)
    finding = f"The annotation was drawn ({counted(len(objects), 'region')} in {counted(len(drawings), 'image')}): "
    if classes:
        finding += f"regions are read as classes, as asked ({', '.join(classes[1:])})."
    else:
        finding += "each region is read as one object."
        pieces = [len(region.parts) + len(region.stamps) for region in objects]
        if max(pieces, default=1) > 1:
            several = sum(n > 1 for n in pieces)
            finding += f" {several} of them {'have' if several > 1 else 'has'} pieces apart, up to {max(pieces)}."
        finding += f" Their classes ({told(names)}) are not told apart; --task semantic does." * (len(names) > 1)
    if n_ignored:
        finding += f" What {counted(n_ignored, 'region')} called ignore or a crowd covers is taken as not annotated."
    return finding


def _note_odd_ones(where: Path, drawings: dict[str, Drawing], classes: Sequence[str], notes: Notes) -> None:
    """Sentences about regions that are left out, and about images without any; drawings by the images' names."""

    def note(found: dict[str, int], expected: str, thing: str, action: str) -> None:
        names = [name for name, n in found.items() if n]
        if names:
            n = sum(found.values())
            notes.problems.append(f"{where}: expected {expected}, found {n} {thing} ({told(names)}); {action}")

    note(
        {name: drawing.others for name, drawing in drawings.items()},
        "regions of objects",
        "lines, points, boxes, regions called ...* or the like among them",
        "draw objects as polygons (left out)",
    )
    note(
        {name: drawing.around for name, drawing in drawings.items()},
        "objects",
        "annotations around QuPath's cells or detections",
        "export annotations alone if they are the objects (left out)",
    )
    if len(classes) > 2:
        note(
            {name: sum(r.name not in classes for r in drawing.objects) for name, drawing in drawings.items()},
            "a class for each region",
            "without",
            "give them one (taken as not annotated)",
        )
    empty = [name for name, drawing in drawings.items() if not drawing.objects]
    if empty:
        notes.findings.append(
            f"{len(empty)} of {counted(len(drawings), 'drawing')} hold no region ({told(empty)}): right if nothing is "
            "there, otherwise draw it or leave the file out."
        )


def _names_of_others(matches: Sequence[Match]) -> set[str]:
    """The classes of regions in the folder's other parts; what is wrong there is told when they are opened."""
    found: set[str] = set()
    for match in matches:
        try:
            if match.mask is not None and is_named_as_regions(match.mask):
                found |= set(_names([_drawing_of(match.mask, match.images[0])]))
        except DataError:
            continue
    return found


def assemble_drawn(request: Request, matches: Sequence[Match], notes: Notes, others: Sequence[Match] = ()) -> Dataset:
    """A dataset of images with regions; those without are kept for prediction.

    others  what belongs to the folder's other parts: their regions have a say in which classes there are

    DataError when no image can be read, and for classes of other names than described.
    """
    axes = request.description.axes
    pairs = pairs_of([replace(match, mask=None) for match in matches], axes, notes)
    if not pairs:
        raise DataError(f"{request.path}: expected images that can be read, found none ({first_of(notes.problems)})")
    readable = {pair.images for pair in pairs}
    drawings: dict[str, Drawing] = {}
    drawn: dict[str, tuple[Path, Path, Size]] = {}
    for match in matches:
        if match.mask is None or match.images not in readable:
            continue
        try:
            drawing, size = _checked(match.mask, match.images[0], axes)
        except DataError as error:
            notes.problems.append(f"{error} (the image is kept without it)")
        else:
            drawings[match.name], drawn[match.name] = drawing, (match.mask, match.images[0], size)
    semantic = (request.task or request.description.task) == "semantic"
    classes: tuple[str, ...] = ()
    if semantic:
        names = {*_names(list(drawings.values())), *_names_of_others(others)}
        classes = _classes(request, sorted(names))
    if drawings:
        notes.findings.insert(0, _finding(list(drawings.values()), classes))
        _note_odd_ones(request.path, drawings, classes, notes)
    else:
        notes.findings.insert(0, f"No masks: {counted(len(pairs), 'image')} for prediction.")

    def with_mask(sample: Sample) -> Sample:
        if sample.name not in drawn:
            return sample
        mask = partial(_read_drawn, *drawn[sample.name], classes)
        return replace(sample, mask=mask, files=(*sample.files, drawn[sample.name][0]))

    return Dataset(
        request.name,
        tuple(with_mask(sample_of(pair, None)) for pair in pairs),
        "semantic" if semantic else "instances",
        classes or ("background", "object"),
        tuple(notes.findings),
        tuple(notes.problems),
    )
