"""Which regions are of which image: files for one image each (`region_readers`), or one of COCO's for many (`coco`).

They are looked for where masks may lie: in the folders called so, beside the images, in the folder above them, and in
other folders inside that hold no images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ushape.data.coco import coco_files, entry_of, read_coco
from ushape.data.headers import stem_of
from ushape.data.matching import Match, Partners, is_nameless, match_files, note_images_alone, unique_stems
from ushape.data.naming import has_images, subfolders
from ushape.data.notes import Notes, told
from ushape.data.region_readers import drawings_in
from ushape.errors import DataError

__all__ = ["match_regions", "places_of_regions"]


def places_of_regions(folder: Path, path: Path) -> list[Path]:
    """Where regions of images without masks may lie: in their `folder`, in `path`, or in another folder of it."""
    others = [inside for inside in subfolders(path) if inside != folder and not has_images(inside)]
    return [*dict.fromkeys((folder, path)), *others]


def _drawn_in(places: Sequence[Path], images: Sequence[Path]) -> list[Path]:
    """The files of regions in the first of these folders where some belong to one of the images."""
    partners: Partners | None = None
    for place in places:
        drawn = drawings_in(place)
        if drawn:
            partners = partners or Partners(map(stem_of, images))
            only = len(images) == len(drawn) == 1 and is_nameless(drawn[0])
            if only or any(partners.find(path) is not None for path in drawn):
                return drawn
    return []


def _coco_of(images: Sequence[Path], places: Sequence[Path], notes: Notes) -> dict[Path, Path]:
    """COCO's file of each image that is named in one, and in one only; what is wrong becomes a problem."""
    of: dict[Path, list[Path]] = {}
    for file in [file for place in places for file in coco_files(place)]:
        try:
            drawings = read_coco(file)
        except DataError as error:
            notes.problems.append(str(error))
            continue
        for image in images:
            if entry_of(drawings, image) is not None:
                of.setdefault(image, []).append(file)
    twice = [image for image, files in of.items() if len(files) > 1]
    if twice:
        names, both = told([image.name for image in twice]), told([file.name for file in of[twice[0]]])
        notes.problems.append(
            f"{twice[0].parent}: expected each image in one of COCO's files, found {len(twice)} in several ({names}; "
            f"{both}); leave one of these files"
        )
    return {image: files[0] for image, files in of.items() if len(files) == 1}


def match_regions(images: Sequence[Path], places: Sequence[Path], notes: Notes) -> list[Match] | None:
    """The images with their regions; None where there are none.

    Where there are both kinds of files, those are read that belong to more of the images.

    places  folders, the preferred one first; of files for one image each the first that has some counts
    """
    places = list(dict.fromkeys(places))
    drawn, own = _drawn_in(places, images), Notes()
    single = match_files(images, drawn, own) if drawn else []
    of = _coco_of(images, places, notes)
    files = sorted(set(of.values()))
    n_single = sum(match.mask is not None for match in single)
    if n_single >= max(1, len(of)):
        if files:
            notes.findings.append(
                f"{told([file.name for file in files])}: not read, because there are regions beside it."
            )
        notes.findings += own.findings
        notes.problems += own.problems
        return single
    if not of:
        return None
    if n_single:
        notes.findings.append(
            f"{told([path.name for path in drawn])}: not read, because {files[0].name} has more images."
        )
    matches = [Match(stem, (path,), of.get(path)) for stem, path in unique_stems(images, notes, "image").items()]
    note_images_alone([match.images[0] for match in matches if match.mask is None], True, notes)
    return matches
