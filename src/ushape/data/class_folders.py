"""A folder for each class: cat/*.png, dog/*.png become images with a label each.

The classes are sorted by name, numbers by their size (0, 1, ..., 10). They are counted over all parts of a folder, so
that train/ and test/ agree even where test/ lacks a class. Images may differ in size and number of channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ushape.data.headers import composed, stem_of
from ushape.data.matching import Match, with_unique_names
from ushape.data.naming import has_images, images_in, part_of, role_of, subfolders
from ushape.data.notes import Notes, counted, told

__all__ = ["class_folders", "match_classes", "sorted_classes"]


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order of the alphabet; by size where all are whole numbers."""
    unique = sorted(set(names))
    return tuple(sorted(unique, key=int) if all(name.isdecimal() for name in unique) else unique)


def class_folders(path: Path) -> dict[str, Path]:
    """The folders of images by name; none unless there are two and none of them is named like masks' or a part's.

    Images beside them in the folder itself mean that the folders are something else.
    """
    if has_images(path):
        return {}
    folders = {composed(p.name): p for p in subfolders(path) if has_images(p)}
    named = [name for name in folders if role_of(name)[0] == "images" or role_of(name)[1] or part_of(name)]
    return folders if len(folders) >= 2 and not named else {}


def match_classes(folders: dict[str, Path], classes: Sequence[str], notes: Notes) -> list[Match]:
    """The images of all folders, labelled with their folder's place among the classes."""
    matches = []
    numbers = []
    for name, folder in folders.items():
        images = images_in(folder)
        numbers.append(f"{name} ({len(images)})")
        matches += [Match(f"{name}_{stem_of(p)}", (p,), label=classes.index(name)) for p in images]
    notes.findings.append(
        f"{counted(len(folders), 'folder')} of images without masks ({told(numbers)}): read as classes of whole images."
    )
    return with_unique_names(matches)
