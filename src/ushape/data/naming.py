"""What the names of files and folders say: images or masks, and which part they are.

Folders are called by one of `IMAGE_FOLDERS` or `MASK_FOLDERS`; capitals, hyphens and spaces make no difference, and a
part may stand before or behind (train_images). In the name of a file one of `MASK_WORDS` or `IMAGE_WORDS` stands at
the front or at the end, set off by one of -_. or a space.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ushape.data.headers import is_image_file

__all__ = [
    "IMAGE_WORDS",
    "MASK_WORDS",
    "folder_rank",
    "has_images",
    "image_key",
    "images_in",
    "part_of",
    "role_of",
    "subfolders",
    "without_word",
]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw", "inputs", "input", "pictures", "frames", "jpegimages")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "ground_truth", "groundtruth"),
    *("segmentations", "segmentation", "seg", "instances", "targets", "target", "segmentationclass"),
)
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# The longer of two words that end alike stands first.
MASK_WORDS = (
    *("cp_masks", "cp_mask", "masks", "mask", "labels", "label", "segmentations", "segmentation", "seg"),
    *("annotations", "annotation", "ground_truth", "groundtruth", "gt", "instances", "truth"),
)
# 0000 is nnU-Net's first channel.
IMAGE_WORDS = ("images", "image", "imgs", "img", "im", "raw", "0000")


def images_in(path: Path) -> list[Path]:
    """The image files that lie directly in a folder, by name."""
    return sorted(p for p in path.iterdir() if is_image_file(p))


def has_images(path: Path) -> bool:
    """Whether an image file lies directly in a folder; quicker than listing them."""
    return any(is_image_file(p) for p in path.iterdir())


def subfolders(path: Path) -> list[Path]:
    """The visible subfolders, by name; what macOS adds to archives is no folder of the user's."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != "__MACOSX")


def part_of(name: str) -> str | None:
    """'train', 'val' or 'test' where a name is one of the words for them; None otherwise."""
    return PARTS.get(name.lower())


def _word_and_part(name: str) -> tuple[str, str | None]:
    """The word for images or masks in a folder's name, '' without one, and its part."""
    plain = re.sub(r"[-. ]", "_", name.lower())
    front, _, rest = plain.partition("_")
    before, _, end = plain.rpartition("_")
    known = (*IMAGE_FOLDERS, *MASK_FOLDERS)
    if plain in known:
        return plain, None
    found = [(word, part_of(part)) for word, part in ((rest, front), (before, end)) if word in known and part_of(part)]
    return found[0] if found else ("", None)


def role_of(name: str) -> tuple[str, str | None]:
    """What a folder's name says of it: ('images', 'masks' or '', its part).

    'Ground-Truth' -> ('masks', None); 'train_images' -> ('images', 'train'); 'cells' -> ('', None).
    """
    word, part = _word_and_part(name)
    return "images" if word in IMAGE_FOLDERS else "masks" if word else "", part


def folder_rank(folder: Path) -> int:
    """The place of a folder's name, or else of its parent's, among the words for them: the lowest is preferred."""
    known = (*IMAGE_FOLDERS, *MASK_FOLDERS)
    words = [_word_and_part(name)[0] for name in (folder.name, folder.parent.name)]
    return min((known.index(word) for word in words if word), default=len(known))


def without_word(stem: str, words: Sequence[str]) -> str | None:
    """The stem without one of these words at its front or end, None when it has none; '' when it is the word."""
    either = "|".join(words)
    found = re.fullmatch(rf"(?:(.+?)[-_. ](?:{either})|(?:{either})[-_. ](.+)|(?:{either}))", stem, re.IGNORECASE)
    return None if found is None else found[1] or found[2] or ""


def image_key(stem: str) -> str:
    """What is left of an image's stem without such a word, in small letters."""
    base = without_word(stem, IMAGE_WORDS)
    return (stem if base is None else base).casefold()
