"""Files that belong together by their names: which mask, or which file of regions, is of which image.

A mask may have exactly its image's stem, also where that ends like a mask's (scan_seg.tif and scan_seg.png).
Otherwise one word is taken off either (`MASK_WORDS`, `IMAGE_WORDS`, at the front or at the end, behind one of -_. or
a space), and what is left must agree, without regard to capital letters. Whatever has no partner becomes one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ushape.data.headers import SUFFIXES, stem_of, suffix_of
from ushape.data.naming import MASK_WORDS, image_key, without_word
from ushape.data.notes import Notes, counted, told
from ushape.data.region_readers import DRAWING_SUFFIXES
from ushape.errors import DataError

__all__ = [
    "Match",
    "Partners",
    "is_named_as_regions",
    "is_nameless",
    "match_files",
    "note_images_alone",
    "unique_stems",
    "with_unique_names",
]

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


def is_nameless(mask: Path) -> bool:
    """Whether regions are called by such a word only: RoiSet.zip."""
    return is_named_as_regions(mask) and without_word(stem_of(mask), REGION_WORDS) == ""


class Partners:
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
        """The image's stem; None where there is none."""
        stem = stem_of(mask)
        return self._find(stem, mask) or self._find(without_image_suffix(stem), mask)

    def _find(self, stem: str, mask: Path) -> str | None:
        if stem in self.stems:
            return stem
        base = without_word(stem, words_of(mask))
        if base in self.stems:
            return base
        return self.by_key.get(stem.casefold()) or (None if base is None else self.by_key.get(base.casefold()))


def note_images_alone(alone: Sequence[Path], drawn: bool, notes: Notes) -> None:
    """A problem for each image without mask, or without regions where others were `drawn`; one for all of many."""
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
    partners = Partners(by_image)
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
    if len(by_image) == len(by_mask) == 1 and is_nameless(masks[0]):
        chosen, orphans = dict(zip(by_image, masks, strict=True)), []
    if by_mask and by_image and not chosen:
        raise DataError(
            f"{masks[0].parent}: expected masks named like their images (a.png with a.png or a_mask.png), found "
            f"{counted(len(by_mask), 'mask')} ({told(sorted(by_mask))}) for {counted(len(by_image), 'image')} "
            f"({told(sorted(by_image))}); rename them, or list the pairs in a CSV file with the columns image,mask"
        )
    for mask in sorted(orphans):
        stem = without_image_suffix(stem_of(mask))
        base = without_word(stem, words_of(mask)) or stem
        action = "add it, or remove the regions" if drawn else "add it or remove the mask"
        notes.problems.append(f"{mask}: expected an image called {base}, found none; {action}")
    if by_mask:
        note_images_alone([path for stem, path in by_image.items() if stem not in chosen], drawn, notes)
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
