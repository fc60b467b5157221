"""Which mask belongs to which image, told by their names alone; no file is opened here.

    images/a.png       masks/a.png, masks/a_mask.png or masks/mask_a.png      two folders
    a.png              a_mask.png                                             side by side
    a_img.tif          a_masks.tif                                            Cellpose
    p1/images/a.png    p1/masks/a.png                                         a folder for each group
    images/p1/a.png    masks/p1/a.png                                         the same, the other way round
    train-volume.tif   train-labels.tif                                       stacks
    a.tif              a.zip, a.roi, a.geojson or a.json                      regions, where there are no masks
    a.tif, b.tif       annotations.json                                       regions as COCO has them

Names agree as in `matching`.

A part ('train', 'val', 'test') may stand in folders' names: images/train and masks/train, or train_images and
train_masks. Whatever has no partner becomes one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ushape.data.foreign import note_foreign_files
from ushape.data.headers import composed, holds_objects, stem_of
from ushape.data.matching import Match, Partners, is_named_as_regions, match_files, with_unique_names
from ushape.data.naming import (
    MASK_WORDS,
    folder_rank,
    has_images,
    image_key,
    images_in,
    part_of,
    role_of,
    subfolders,
    without_word,
)
from ushape.data.notes import Notes, told
from ushape.data.outlines import outlines_in
from ushape.data.region_files import match_regions, places_of_regions
from ushape.errors import DataError

__all__ = [
    "match_folders",
    "match_groups",
    "match_side_by_side",
    "match_stacks",
    "parts_of_folders",
    "parts_of_stacks",
]

# What Cellpose writes beside an image and what is neither image nor mask.
CELLPOSE_EXTRAS = re.compile(r"(.+)_(?:flows|flows_cp_masks|dP_cp_masks|outlines_cp_masks|cp_outlines|seg)", re.I)


def _in_group(match: Match, group: str) -> Match:
    """The match as a member of a group, whose name stands in front unless it does so already."""
    group = composed(group)
    name = match.name if match.name.startswith(group) else f"{group}_{match.name}"
    return replace(match, name=name, group=group)


def _any_pair(images: Path, masks: Path) -> bool:
    files = images_in(images)
    partners = Partners(map(stem_of, files))
    paired = any(partners.find(p) is not None for p in images_in(masks))
    return paired or match_regions(files, [masks], Notes()) is not None


def _sources(path: Path, part: str | None) -> tuple[Path | None, list[Path]]:
    """The folder of images, and those of masks, the preferred one first."""
    folders = subfolders(path)
    roles = {folder: role_of(folder.name) for folder in folders}
    images = [f for f in folders if roles[f] == ("images", part)]
    masks = [f for f in folders if roles[f] == ("masks", part)]
    if part is not None:  # images/train and masks/train
        for kind, found in (("images", images), ("masks", masks)):
            tops = [f for f in folders if roles[f] == (kind, None)]
            found += [inside for top in tops for inside in subfolders(top) if part_of(inside.name) == part]
    elif masks and not images:
        # Images beside the folder of masks, or in the only other folder that has images.
        others = [f for f in folders if f not in masks and part_of(f.name) is None and has_images(f)]
        images = [path] if has_images(path) else others if len(others) == 1 else []
        if images and not _any_pair(images[0], masks[0]):
            images = []
    return min(images, key=folder_rank, default=None), sorted(masks, key=folder_rank)


def _match_nested(images: Path, masks: Path, notes: Notes) -> list[Match]:
    """images/p1/a.png with masks/p1/a.png: each folder inside is a group; regions may lie in masks/ itself."""
    matches: list[Match] = []
    partners = {composed(p.name): p for p in subfolders(masks)}
    for folder in subfolders(images):
        partner = partners.get(composed(folder.name))
        files, drawn = images_in(folder), [] if partner is None else images_in(partner)
        places = [masks] if partner is None else [partner, masks]
        own = None if drawn else match_regions(files, places, notes)
        matches += [_in_group(match, folder.name) for match in own or match_files(files, drawn, notes)]
    return matches


def _no_files(path: Path, what: str) -> str:
    endings = sorted({"".join(p.suffixes) or p.name for p in path.iterdir() if not p.name.startswith(".")})
    found = f" (only {told(endings)})" if endings else ""
    return f"{path}: expected {what}, found no image file{found}; put them there as TIFF or PNG"


def match_folders(path: Path, part: str | None, notes: Notes) -> list[Match] | None:
    """images/ and masks/ (or other words for them); None when there is no folder of images.

    DataError when the folder of images holds none.
    """
    images_folder, mask_folders = _sources(path, part)
    if images_folder is None:
        return None
    images = images_in(images_folder)
    if not images:
        if mask_folders and any(has_images(f) for f in subfolders(images_folder)):
            notes.findings.append(f"Each folder in {images_folder.name}/ is read as one group.")
            return with_unique_names(_match_nested(images_folder, mask_folders[0], notes))
        if any(has_images(f) for f in subfolders(images_folder)):
            return None
        raise DataError(_no_files(images_folder, "images"))
    note_foreign_files(images_folder, notes)
    masks = images_in(mask_folders[0]) if mask_folders else []
    if not masks:
        places = places_of_regions(images_folder, path)
        matches = match_regions(images, [*mask_folders, *places], notes)
        if matches:
            return matches
        said = outlines_in(mask_folders[:1] or places, among_masks=bool(mask_folders))
        if mask_folders:
            notes.problems.append(said or _no_files(mask_folders[0], "masks"))
        elif said:
            notes.problems.append(said)
    if len(mask_folders) > 1:
        others = told([p.name for p in mask_folders[1:]])
        notes.findings.append(f"Masks are read from {mask_folders[0].name}/, not from {others}.")
    elif masks and role_of(images_folder.name)[0] != "images" and part is None:
        notes.findings.append(f"Images are read from {images_folder.name}/, masks from {mask_folders[0].name}/.")
    return match_files(images, masks, notes)


def parts_of_folders(path: Path) -> tuple[str, ...]:
    """The parts that folders' names tell of: train/, images/train/ or train_images/."""
    found = set()
    for folder in subfolders(path):
        kind, part = role_of(folder.name)
        found |= {part_of(folder.name), part}
        if kind == "images" and not has_images(folder):
            found |= {part_of(inside.name) for inside in subfolders(folder)}
    return tuple(part for part in ("train", "val", "test") if part in found)


def _cellpose_extras(files: Sequence[Path]) -> list[Path]:
    """Cellpose's outlines, flows and pickles beside an image of that name; they are neither image nor mask."""
    stems = {stem_of(p) for p in files}
    extras = []
    for path in files:
        found = CELLPOSE_EXTRAS.fullmatch(stem_of(path))
        if found is None or not {found[1], f"{found[1]}_img"} & stems:
            continue
        if not stem_of(path).lower().endswith("_seg") or (path.suffix.lower() == ".npy" and holds_objects(path)):
            extras.append(path)
    return extras


def match_side_by_side(path: Path, notes: Notes) -> list[Match] | None:
    """Images, some of them perhaps beside their masks (x.tif, x_masks.tif); None when there is no image."""
    files = images_in(path)
    extras = _cellpose_extras(files)
    if extras:
        notes.findings.append(
            f"{told([p.name for p in extras])}: Cellpose's own working files, which are not read (a _seg.npy is a "
            "Python pickle); its masks are read where they are saved as PNG or TIFF (File > Save masks as PNG/tif)."
        )
        left_out = set(extras)
        files = [p for p in files if p not in left_out]
    if not files:
        return None
    stems = {stem_of(p) for p in files}
    bases = {p: without_word(stem_of(p), MASK_WORDS) for p in files}
    keys = {image_key(stem_of(p)) for p in files if bases[p] is None}
    drawn = {p for p, base in bases.items() if base is not None and (base in stems or base.casefold() in keys)}
    if drawn:  # then the others named like a mask are masks whose image is missing, unless they have a mask
        wanted = {bases[p] for p in files}
        drawn = {p for p, base in bases.items() if base is not None and stem_of(p) not in wanted}
    note_foreign_files(path, notes)
    if not drawn:
        places = places_of_regions(path, path)
        matches = match_regions(files, places, notes)
        if matches:
            return matches
        said = outlines_in(places, among_masks=False)
        notes.problems += [said] if said else []
    return match_files([p for p in files if p not in drawn], sorted(drawn), notes)


def match_groups(path: Path, notes: Notes, *, may_be_classes: bool = False) -> list[Match] | None:
    """Several folders, each with images and their masks in it: each folder is a group; None when there are no such.

    may_be_classes  the folders' names may be classes, so that regions of a few of many images do not make them groups
    """
    matches: list[Match] = []
    own_notes = Notes(["Each folder holds images with their masks and is read as one group."])
    for folder in subfolders(path):
        try:
            own = match_folders(folder, None, own_notes) or match_side_by_side(folder, own_notes) or []
        except DataError as error:
            own_notes.problems.append(f"{error} (left out)")
            own = []
        matches += [_in_group(match, folder.name) for match in own]
    masked = [match.mask for match in matches if match.mask is not None]
    few = any(map(is_named_as_regions, masked)) and 2 * len(masked) < len(matches)
    if not masked or (may_be_classes and few):
        return None
    notes.findings += own_notes.findings
    notes.problems += own_notes.problems
    return with_unique_names(matches)


def _stacks(path: Path) -> dict[str, Path]:
    """Stacks called X-volume.tif, by X."""
    files = {stem_of(p): p for p in images_in(path)}
    return {stem[: -len("-volume")]: p for stem, p in files.items() if stem.lower().endswith("-volume")}


def parts_of_stacks(path: Path) -> tuple[str, ...]:
    """The X of all X-volume.tif, train first."""
    return tuple(sorted((name.lower() for name in _stacks(path)), key=lambda name: (name != "train", name)))


def match_stacks(path: Path, part: str | None) -> list[Match] | None:
    """X-volume.tif with X-labels.tif; only the part's where one is named; None when there is none."""
    labels = {stem_of(p).lower(): p for p in images_in(path)}
    return [
        Match(stem_of(volume), (volume,), labels.get(f"{name}-labels".lower()))
        for name, volume in _stacks(path).items()
        if part in (None, name.lower())
    ] or None
