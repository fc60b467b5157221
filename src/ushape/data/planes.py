"""What the planes of image files are: one image each, the slices of a volume, or channels.

    a Z axis that the file itself names (OME, ImageJ, NIfTI), at least 8 deep     one volume (C, D, H, W)
    a Z axis that is shallower, or pages without a word                           one image for each page
    up to 4 pages without channels in them and a mask of one page                 channels of one image
    one page and a mask of several                                                an object on each page of the mask
    `axes` in dataset.toml                                                        what they say, whatever the file says

Depth is judged over the whole folder (its median), because a network takes either images or volumes; 8 slices are
what a network of three levels needs to see anything along Z. A mask follows its image: its pages without a word are
slices where the image is a volume.

The headers of all files are read, which shows damage and wrong sizes before training begins. Only of many thousand
pictures without masks a share is looked at, because their headers say nothing that is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ushape.data.headers import suffix_of
from ushape.data.images import Layout, read_layout
from ushape.data.matching import Match
from ushape.data.notes import Notes, counted, told
from ushape.data.object_pages import OBJECTS
from ushape.errors import DataError

__all__ = ["MAX_CHANNEL_PAGES", "Pair", "pairs_of", "spread"]

MIN_DEPTH = 8  # slices of a file that says it is a volume
MAX_CHANNEL_PAGES = 4  # a file of up to 4 pages with a mask of one page holds channels, if it names none itself
MAX_PICTURES_CHECKED = 2000  # of pictures without masks; about a second's work
ONE_PLANE = (".png", ".jpg", ".jpeg", ".bmp")
UNKNOWN = Layout((), "")  # of a picture whose header was not read: one plane


def spread(n: int, most: int) -> list[int]:
    """Up to `most` of n indices, spread evenly."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(most, n)).round())] if n and most else []


@dataclass(frozen=True)
class Pair:
    """One sample to be: an image or one page of it, and the mask or label that belongs to it.

    axes, mask_axes  how the files are read where they do not say it, as in `read_image`
    n_voxels         of the image, all planes together; 0 where the header was not read
    """

    name: str
    images: tuple[Path, ...]
    mask: Path | None = None
    label: int | None = None
    page: int | None = None
    mask_page: int | None = None
    axes: str | None = None
    mask_axes: str | None = None
    group: str = ""
    n_voxels: int = 0


@dataclass(frozen=True)
class _Opened:
    """A match whose headers fit; `mask_axes` where the mask's own are not used."""

    match: Match
    image: Layout
    mask: Layout | None = None
    mask_axes: str | None = None


def _plane(layout: Layout) -> tuple[int, int]:
    return layout.length("Y"), layout.length("X")


def _mask_layout(path: Path, axes: str | None) -> tuple[Layout, str | None]:
    """The mask's layout and the axes it was read with; `axes` are the images', so C may be missing."""
    if axes is None or "C" not in axes.upper():
        return read_layout(path, axes=axes), axes
    try:
        return read_layout(path, axes=axes), axes
    except DataError:
        without = "".join(axis for axis in axes.upper() if axis != "C")
        return read_layout(path, axes=without), without


def _has_object_pages(image: Layout, mask: Layout) -> bool:
    """Whether each page of a mask may be one object of an image of one page."""
    paged = "".join(axis for axis, n in zip(mask.axes, mask.shape, strict=True) if n > 1)
    return image.n_pages == 1 and paged in ("PYX", "ZYX")


def _with_objects(mask: Layout) -> str:
    """The mask's axes where its pages are objects; axes of one entry mean nothing."""
    pages = (OBJECTS if n > 1 else "P" for n in mask.shape)
    return "".join(page if axis in "PZ" else axis for axis, page in zip(mask.axes, pages, strict=True))


def _may_be_channels(image: Layout) -> bool:
    """Whether the pages of an image may be its channels: they are few, and nothing else is beside height and width."""
    return image.n_pages <= MAX_CHANNEL_PAGES and len(image.axes) == 3


def _misfit(image: Layout, mask: Layout) -> str | None:
    """What is wrong between an image and its mask, as expected, found and what to do; None when they fit."""
    channels = mask.n_pages == 1 and _may_be_channels(image)
    if mask.n_pages != image.n_pages and not channels and not _has_object_pages(image, mask):
        action = "export the mask again"
        if mask.n_pages == 1:
            action = "project the image's pages to one, as the mask was drawn on, or draw a mask for each page"
        return f"expected {counted(image.n_pages, 'page')} like the image's, found {mask.n_pages}; {action}"
    if _plane(mask) != _plane(image):
        return (
            f"expected a mask of the image's size {_plane(image)}, found {_plane(mask)}; export it again at full size"
        )
    return None


def _opened(match: Match, axes: str | None, notes: Notes) -> _Opened | None:
    """The match with its headers; without mask, or None for the whole, where a problem stands in the notes."""
    try:
        images = [read_layout(path, axes=axes) for path in match.images]
    except DataError as error:
        notes.problems.append(str(error))
        return None
    for path, layout in zip(match.images[1:], images[1:], strict=True):
        if (layout.n_pages, _plane(layout)) != (images[0].n_pages, _plane(images[0])):
            notes.problems.append(
                f"{path}: expected a channel of size {(images[0].n_pages, *_plane(images[0]))} like "
                f"{match.images[0].name}, found {(layout.n_pages, *_plane(layout))}; export both again (left out)"
            )
            return None
    if match.mask is None:
        return _Opened(match, images[0])
    try:
        mask, mask_axes = _mask_layout(match.mask, axes)
    except DataError as error:
        notes.problems.append(str(error))
        return _Opened(match, images[0])
    misfit = _misfit(images[0], mask)
    if misfit is not None:
        notes.problems.append(f"{match.mask}: {misfit} (the image is kept without it)")
        return _Opened(match, images[0])
    if mask.n_pages > 1 and _has_object_pages(images[0], mask):
        mask_axes = _with_objects(mask)
    return _Opened(match, images[0], mask, mask_axes)


def _says_volume(layout: Layout) -> bool:
    return layout.length("Z") > 1 and layout.length("P") == 1


def _are_volumes(opened: Sequence[_Opened], axes: str | None, notes: Notes) -> bool:
    """Whether the files that name a Z axis are volumes here; said in the notes."""
    depths = [o.image.length("Z") for o in opened if _says_volume(o.image)]
    if not depths:
        return False
    low, high = min(depths), max(depths)
    deep = f"{low}" if low == high else f"{low} to {high}"
    if axes is not None and "Z" in axes.upper():
        notes.findings.append(f"dataset.toml says axes {axes}: {counted(len(depths), 'volume')}, {deep} slices deep.")
        return True
    if np.median(depths) >= MIN_DEPTH:
        notes.findings.append(f"{counted(len(depths), 'file')} with a Z axis, {deep} slices deep: read as volumes.")
        return True
    notes.findings.append(
        f'A Z axis of {deep} slices is too shallow for a volume: each slice is read as one image (axes = "ZYX" in '
        "dataset.toml reads volumes)."
    )
    return False


def _as_slices(axes: str) -> str:
    """A mask's axes where its image is a volume: pages are slices."""
    return axes if "Z" in axes else axes.replace("P", "Z", 1)


def _has_one_mask(opened: _Opened) -> bool:
    return opened.mask is not None and opened.mask.n_pages == 1


def _pairs_of_one(opened: _Opened, volumes: bool, axes: str | None) -> list[Pair]:
    """The samples of one match: one, or one for each page."""
    match, image, mask = opened.match, opened.image, opened.mask
    mask_path = match.mask if mask is not None else None
    n_voxels = image.n_pages * image.length("Y") * image.length("X")
    one = Pair(
        match.name, match.images, mask_path, match.label, axes=axes, mask_axes=opened.mask_axes, group=match.group
    )
    if image.n_pages == 1:
        return [replace(one, n_voxels=n_voxels)]
    if volumes and _says_volume(image) and (mask is None or mask.n_pages > 1):
        mask_axes = _as_slices(mask.axes) if mask is not None and mask.length("Z") == 1 else opened.mask_axes
        return [replace(one, mask_axes=mask_axes, n_voxels=n_voxels)]
    if _has_one_mask(opened):
        return [replace(one, axes="CYX", n_voxels=n_voxels)]
    digits = len(str(image.n_pages - 1))
    return [
        replace(
            one,
            name=f"{match.name}_{page:0{digits}d}",
            page=page,
            mask_page=page if mask is not None else None,
            group=match.group or match.name,
            n_voxels=n_voxels // image.n_pages,
        )
        for page in range(image.n_pages)
    ]


def _note_pages(opened: Sequence[_Opened], volumes: bool, notes: Notes) -> None:
    """Sentences about the files with pages that say nothing, or that count more than slices."""
    paged = [o for o in opened if o.image.n_pages > 1 and not (volumes and _says_volume(o.image))]
    channels = [o for o in paged if _has_one_mask(o)]
    images = [o for o in paged if not _has_one_mask(o)]
    for files, what in ((channels, "one mask: read as channels."), (images, "")):
        names = [o.match.images[0].name for o in files]
        if len(files) == 1:
            pages = f"{names[0]} has {files[0].image.n_pages} pages"
        else:
            pages = f"{len(files)} files have several pages ({told(names)})"
        if files:
            notes.findings.append(f"{pages} and {what}" if what else f"{pages}: each is read as one image.")
    apart = [o.match.mask.name for o in opened if o.match.mask is not None and OBJECTS in (o.mask_axes or "")]
    if apart:
        has = f"{apart[0]} has" if len(apart) == 1 else f"{len(apart)} masks ({told(apart)}) have"
        notes.findings.append(f"{has} several pages for an image of one: each page is read as one object.")


def _note_white(opened: Sequence[_Opened], notes: Notes) -> None:
    """A sentence about the images whose numbers are not those of their file."""
    turned = [o.match.images[0].name for o in opened if o.image.black is not None]
    if turned:
        say = f"{turned[0]} says" if len(turned) == 1 else f"{len(turned)} images say ({told(turned)})"
        notes.findings.append(f"{say} that 0 means white: read with 0 as black, like all others.")


def _unchecked(matches: Sequence[Match]) -> set[int]:
    """The places of the pictures whose headers are not read, because there are very many."""
    pictures = [
        i
        for i, match in enumerate(matches)
        if match.mask is None and len(match.images) == 1 and suffix_of(match.images[0]) in ONE_PLANE
    ]
    return set(pictures) - {pictures[i] for i in spread(len(pictures), MAX_PICTURES_CHECKED)}


def pairs_of(matches: Sequence[Match], axes: str | None, notes: Notes) -> list[Pair]:
    """The samples to be of these files, in their order; one for each page where pages are images.

    axes  what dataset.toml says about the images' dimensions

    Files that cannot be read or do not fit become problems; what the planes are becomes a finding.
    """
    unchecked = _unchecked(matches)
    if unchecked:
        n = len(matches) - len(unchecked)
        notes.findings.append(f"{n} of {len(matches)} images were looked at, spread evenly.")
    opened = [
        _Opened(match, UNKNOWN) if i in unchecked else _opened(match, axes, notes) for i, match in enumerate(matches)
    ]
    present = [each for each in opened if each is not None]
    volumes = _are_volumes(present, axes, notes)
    _note_pages(present, volumes, notes)
    _note_white(present, notes)
    return [pair for each in present for pair in _pairs_of_one(each, volumes, axes)]
