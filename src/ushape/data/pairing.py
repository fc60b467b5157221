"""Which mask belongs to which image, told by their names alone; no file is opened here.

    images/a.png       masks/a.png, masks/a_mask.png or masks/mask_a.png      two folders
    a.png              a_mask.png                                             side by side
    a_img.tif          a_masks.tif                                            Cellpose
    p1/images/a.png    p1/masks/a.png                                         a folder for each group
    images/p1/a.png    masks/p1/a.png                                         the same, the other way round
    train-volume.tif   train-labels.tif                                       stacks
    a.tif              a.zip, a.roi, a.geojson or a.json                      regions, where there are no masks
    a.tif, b.tif       annotations.json                                       regions as COCO has them

A mask may have exactly its image's stem, also where that ends like a mask's (scan_seg.tif and scan_seg.png).
Otherwise one word is taken off either (`MASK_WORDS`, `IMAGE_WORDS`, at the front or at the end, behind one of -_. or
a space), and what is left must agree, without regard to capital letters.

A part ('train', 'val', 'test') may stand in folders' names: images/train and masks/train, or train_images and
train_masks. Whatever has no partner becomes one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ushape.data.coco import coco_files, read_coco
from ushape.data.foreign import note_foreign_files
from ushape.data.headers import SUFFIXES, composed, holds_objects, stem_of, suffix_of
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
from ushape.data.notes import Notes, counted, told
from ushape.data.outlines import outlines_in
from ushape.data.regions import DRAWING_SUFFIXES, drawings_in
from ushape.errors import DataError

__all__ = [
    "Match",
    "match_files",
    "match_folders",
    "match_groups",
    "match_side_by_side",
    "match_stacks",
    "parts_of_folders",
    "parts_of_stacks",
    "unique_stems",
    "with_unique_names",
]

# What Cellpose writes beside an image and what is neither image nor mask.
CELLPOSE_EXTRAS = re.compile(r"(.+)_(?:flows|flows_cp_masks|dP_cp_masks|outlines_cp_masks|cp_outlines|seg)", re.I)
# What stands in names of regions, beside the words for masks: Fiji calls a set of them RoiSet.
REGION_WORDS = ("roiset", "rois", "roi", "regions", "outlines", *MASK_WORDS)
MAX_SINGLE_PROBLEMS = 5  # more images without mask than this are told in one sentence


@dataclass(frozen=True)
class Match:
    """Files that belong together.

    name    unique in its folder; the sample's name
    images  the image file, or one file for each of its channels
    mask    the mask file, None without annotation
    label   the class of the whole image, None without
    group   what is not independent of each other
    """

    name: str
    images: tuple[Path, ...]
    mask: Path | None = None
    label: int | None = None
    group: str = ""


def unique_stems(files: Iterable[Path], notes: Notes, what: str) -> dict[str, Path]:
    """Files by stem; the second file of a stem becomes a problem."""
    by_stem: dict[str, Path] = {}
    for path in files:
        stem = stem_of(path)
        if stem in by_stem:
            notes.problems.append(_two_of_one(path, what, stem, by_stem[stem]))
        else:
            by_stem[stem] = path
    return by_stem


def _two_of_one(path: Path, what: str, stem: str, other: Path) -> str:
    return (
        f"{path}: expected one {what} called {stem}, found {other.name} as well, which is used; "
        "rename or remove one of the two"
    )


def is_named_as_regions(mask: Path) -> bool:
    """Whether a file holds regions, by its name."""
    return mask.suffix.lower() in DRAWING_SUFFIXES


def words_of(mask: Path) -> tuple[str, ...]:
    """The words that may stand in the name of a file of masks, or of regions."""
    return REGION_WORDS if is_named_as_regions(mask) else MASK_WORDS


def without_image_suffix(stem: str) -> str:
    """'a' of 'a.tif', which is what is left of 'a.tif.geojson'."""
    return stem_of(Path(stem)) if suffix_of(Path(stem)) in SUFFIXES else stem


def _is_nameless(mask: Path) -> bool:
    """Whether regions are called by such a word only: RoiSet.zip."""
    return is_named_as_regions(mask) and without_word(stem_of(mask), REGION_WORDS) == ""


class _Partners:
    """Finds the image's stem for a mask's stem."""

    def __init__(self, stems: Iterable[str]) -> None:
        self.stems = set(stems)
        by_key: dict[str, list[str]] = {}
        for stem in self.stems:
            by_key.setdefault(image_key(stem), []).append(stem)
            if stem.casefold() != image_key(stem):
                by_key.setdefault(stem.casefold(), []).append(stem)
        self.by_key = {key: found[0] for key, found in by_key.items() if len(found) == 1}

    def find(self, mask: Path) -> str | None:
        stem = stem_of(mask)
        return self._find(stem, mask) or self._find(without_image_suffix(stem), mask)

    def _find(self, stem: str, mask: Path) -> str | None:
        if stem in self.stems:
            return stem
        base = without_word(stem, words_of(mask))
        if base in self.stems:
            return base
        return self.by_key.get(stem.casefold()) or (None if base is None else self.by_key.get(base.casefold()))


def _note_images_alone(alone: Sequence[Path], drawn: bool, notes: Notes) -> None:
    what = "regions" if drawn else "a mask"
    if len(alone) <= MAX_SINGLE_PROBLEMS:
        for path in alone:
            stem = stem_of(path)
            called = stem if drawn else f"{stem} or {stem}_mask"
            notes.problems.append(f"{path}: expected {what} called {called}, found none; kept for prediction")
    else:
        notes.problems.append(
            f"{alone[0].parent}: expected {what} for each image, found none for {len(alone)} of them "
            f"({told([p.name for p in alone])}); kept for prediction"
        )


def match_files(images: Sequence[Path], masks: Sequence[Path], notes: Notes) -> list[Match]:
    """Each image with the mask that its name calls for, and a problem for whatever is left over.

    DataError when there are masks and none of them belongs to an image: such names would train nothing.
    """
    by_image, by_mask = unique_stems(images, notes, "image"), unique_stems(masks, notes, "mask")
    partners = _Partners(by_image)
    chosen: dict[str, Path] = {}
    orphans = []
    # Masks with exactly the stem of an image come first, so that no other takes their place.
    for mask in sorted(by_mask.values(), key=lambda mask: stem_of(mask) not in by_image):
        image = partners.find(mask)
        if image is None:
            orphans.append(mask)
        elif image in chosen:
            notes.problems.append(_two_of_one(mask, "mask", image, chosen[image]))
        else:
            chosen[image] = mask
    drawn = bool(masks) and is_named_as_regions(masks[0])
    if len(by_image) == len(by_mask) == 1 and _is_nameless(masks[0]):
        chosen, orphans = dict(zip(by_image, masks, strict=True)), []
    if by_mask and by_image and not chosen:
        what, thing = ("regions", "file") if drawn else ("masks", "mask")
        like = "a.tif with a.zip, a.geojson or a.json" if drawn else "a.png with a.png or a_mask.png"
        raise DataError(
            f"{masks[0].parent}: expected {what} named like their images ({like}), found "
            f"{counted(len(by_mask), thing)} ({told(sorted(by_mask))}) for {counted(len(by_image), 'image')} "
            f"({told(sorted(by_image))}); rename them, or list the pairs in a CSV file with the columns image,mask"
        )
    for mask in sorted(orphans):
        stem = without_image_suffix(stem_of(mask))
        base = without_word(stem, words_of(mask)) or stem
        action = "add it, or remove the regions" if drawn else "add it or remove the mask"
        notes.problems.append(f"{mask}: expected an image called {base}, found none; {action}")
    if by_mask:
        _note_images_alone([path for stem, path in by_image.items() if stem not in chosen], drawn, notes)
    return [Match(stem, (image,), chosen.get(stem)) for stem, image in by_image.items()]


def with_unique_names(matches: Sequence[Match]) -> list[Match]:
    """The same matches; a name that was there before gets the next free number behind it."""
    seen: set[str] = set()
    unique = []
    for match in matches:
        name, number = match.name, 2
        while name in seen:
            name, number = f"{match.name}_{number}", number + 1
        seen.add(name)
        unique.append(replace(match, name=name))
    return unique


def _in_group(match: Match, group: str) -> Match:
    """The match as a member of a group, whose name stands in front unless it does so already."""
    group = composed(group)
    name = match.name if match.name.startswith(group) else f"{group}_{match.name}"
    return replace(match, name=name, group=group)


def _any_pair(images: Path, masks: Path) -> bool:
    files = images_in(images)
    partners = _Partners(map(stem_of, files))
    paired = any(partners.find(p) is not None for p in images_in(masks) or drawings_in(masks))
    return paired or _match_coco(files, [masks], Notes()) is not None


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
    """images/p1/a.png with masks/p1/a.png: each folder inside is a group."""
    matches: list[Match] = []
    partners = {composed(p.name): p for p in subfolders(masks)}
    for folder in subfolders(images):
        partner = partners.get(composed(folder.name))
        drawn = [] if partner is None else images_in(partner) or drawings_in(partner)
        matches += [_in_group(match, folder.name) for match in match_files(images_in(folder), drawn, notes)]
    return matches


def _no_files(path: Path, what: str) -> str:
    endings = sorted({"".join(p.suffixes) or p.name for p in path.iterdir() if not p.name.startswith(".")})
    found = f" (only {told(endings)})" if endings else ""
    return f"{path}: expected {what}, found no image file{found}; put them there as TIFF or PNG"


def _places_of_regions(folder: Path, path: Path) -> list[Path]:
    """Where regions of images without masks may lie: in their `folder`, in `path`, or in another folder of it."""
    others = [inside for inside in subfolders(path) if inside != folder and not has_images(inside)]
    return [*dict.fromkeys((folder, path)), *others]


def _drawn_in(places: Sequence[Path], images: Sequence[Path]) -> list[Path]:
    """The regions in the first of these folders where some belong to one of the images."""
    partners: _Partners | None = None
    for place in places:
        drawn = drawings_in(place)
        if drawn:
            partners = partners or _Partners(map(stem_of, images))
            only = len(images) == len(drawn) == 1 and _is_nameless(drawn[0])
            if only or any(partners.find(p) is not None for p in drawn):
                return drawn
    return []


def _match_coco(images: Sequence[Path], places: Sequence[Path], notes: Notes) -> list[Match] | None:
    """The images with the file of COCO's in the first of these folders that has some; None where none is of them."""
    files = next((found for place in places if (found := coco_files(place))), [])
    if len(files) > 1:
        notes.problems.append(
            f"{files[0].parent}: expected one file of COCO's for the images, found {len(files)} "
            f"({told([p.name for p in files])}); put each beside its own images"
        )
    if len(files) != 1:
        return None
    try:
        drawn = set(read_coco(files[0]))
    except DataError as error:
        notes.problems.append(str(error))
        return None
    by_image = unique_stems(images, notes, "image")
    matches = [Match(stem, (p,), files[0] if composed(p.name) in drawn else None) for stem, p in by_image.items()]
    missing = sorted(drawn - {composed(p.name) for p in images})
    if missing:
        notes.problems.append(
            f"{files[0]}: expected the images that it names, found {len(missing)} of {len(drawn)} missing "
            f"({told(missing)}); add them"
        )
    alone = [match.images[0] for match in matches if match.mask is None]
    if len(alone) == len(matches):
        return None
    _note_images_alone(alone, True, notes)
    return matches


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
        places = _places_of_regions(images_folder, path)
        masks = _drawn_in([*mask_folders, *places], images)
        if not masks and (matches := _match_coco(images, [*mask_folders, *places], notes)):
            return matches
        said = "" if masks else outlines_in(mask_folders[:1] or places, among_masks=bool(mask_folders))
        if mask_folders and not masks:
            notes.problems.append(said or _no_files(mask_folders[0], "masks"))
        elif said:
            notes.problems.append(said)
    source = masks[0].parent if masks else mask_folders[0] if mask_folders else path
    if len(mask_folders) > 1:
        others = told([p.name for p in mask_folders if p != source])
        notes.findings.append(f"Masks are read from {source.name}/, not from {others}.")
    elif source in mask_folders and masks and role_of(images_folder.name)[0] != "images" and part is None:
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
        files = [p for p in files if p not in extras]
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
    masks = sorted(drawn)
    if not masks:
        places = _places_of_regions(path, path)
        masks = _drawn_in(places, files)
        if not masks and (matches := _match_coco(files, places, notes)):
            return matches
        said = "" if masks else outlines_in(places, among_masks=False)
        notes.problems += [said] if said else []
    return match_files([p for p in files if p not in drawn], masks, notes)


def match_groups(path: Path, notes: Notes) -> list[Match] | None:
    """Several folders, each with images and their masks in it: each folder is a group; None when there are no such."""
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
    # Regions beside a few of many images do not make groups of what may be classes.
    if not masked or (any(map(is_named_as_regions, masked)) and 2 * len(masked) < len(matches)):
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
