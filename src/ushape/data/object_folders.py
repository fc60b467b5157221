"""One mask file for each object, in a folder for each image: the layout of the Data Science Bowl 2018.

    <id>/images/<id>.png     one image
    <id>/masks/*.png         one object in each, drawn on an empty background

Reference: Caicedo et al., Nature Methods 16 (2019) 1247.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ushape.data.assembly import Request
from ushape.data.dataset import Dataset, Sample
from ushape.data.headers import composed, stem_of
from ushape.data.images import read_image, read_layout, read_mask
from ushape.data.naming import images_in, part_of, role_of, subfolders
from ushape.data.notes import Notes, first_of
from ushape.data.object_pages import merged_objects
from ushape.data.region_readers import drawings_in
from ushape.errors import DataError

__all__ = ["has_object_folders", "open_object_folders", "read_object_masks"]

Mask = NDArray[np.int32]


def read_object_masks(paths: tuple[Path, ...], size: tuple[int, int]) -> Mask:
    """Mask files with one object each, merged to instances 1..n (H, W) in the order of the file names.

    They overlap as in `merged_objects`. DataError when a mask has another size than the image.
    """
    objects = []
    for path in paths:
        mask = read_mask(path)
        if mask.shape != size:
            raise DataError(f"{path}: expected a mask of the image's size {size}, found {mask.shape}; export it again")
        objects.append(np.flatnonzero(mask > 0))
    return merged_objects(objects, size)


def _is_lone_object(folder: Path) -> bool:
    """True where one image has one mask of quite another name: the only object of that image."""
    images, masks = images_in(folder / "images"), images_in(folder / "masks")
    return len(images) == 1 and stem_of(images[0]).casefold() not in stem_of(masks[0]).casefold()


def _one_folder_each(path: Path) -> list[Path]:
    """The <id> folders; none where images lie several together or beside a mask of the whole image."""
    own = subfolders(path)
    if any(role_of(folder.name)[0] == "images" for folder in own):
        return []
    folders = [folder for folder in own if part_of(folder.name) is None and (folder / "images").is_dir()]
    n_images = [len(images_in(folder / "images")) for folder in folders]
    n_masks = [len(images_in(folder / "masks")) if (folder / "masks").is_dir() else 0 for folder in folders]
    drawn_apart = any(images == 1 and masks > 1 for images, masks in zip(n_images, n_masks, strict=True))
    single = [_is_lone_object(f) for f, n in zip(folders, n_masks, strict=True) if n == 1]
    if drawn_apart or (single and all(single)):
        return folders
    # Images alone, a folder for each; not where regions were drawn in them.
    alone = not any(n_masks) and all(n == 1 for n in n_images)
    return folders if alone and not any(drawings_in(inside) for f in folders for inside in (f, *subfolders(f))) else []


def has_object_folders(path: Path) -> bool:
    """True for a folder in this layout."""
    return bool(_one_folder_each(path))


def _sample(folder: Path, notes: Notes) -> Sample | None:
    """The sample of one <id> folder; None, and a problem, when it has no image that can be read."""
    images = images_in(folder / "images")
    if len(images) != 1:
        notes.problems.append(f"{folder / 'images'}: expected one image, found {len(images)}; the folder is left out")
        return None
    try:
        layout = read_layout(images[0])
    except DataError as error:
        notes.problems.append(str(error))
        return None
    masks = tuple(images_in(folder / "masks")) if (folder / "masks").is_dir() else ()
    if not masks:
        notes.problems.append(f"{images[0]}: expected masks in {folder / 'masks'}, found none; kept for prediction")
    size = layout.length("Y"), layout.length("X")
    return Sample(
        name=composed(folder.name),
        image=partial(read_image, images[0]),
        mask=partial(read_object_masks, masks, size) if masks else None,
        files=(images[0], *masks),
    )


def open_object_folders(request: Request) -> Dataset | None:
    """The folder as instances, each of them from a file of its own; None for another layout.

    DataError when no image can be read, and for the task semantic.
    """
    folders = _one_folder_each(request.path)
    if not folders:
        return None
    notes = Notes(["Each image has a folder with one mask file for each object: read as instances."])
    samples = [s for s in (_sample(folder, notes) for folder in folders) if s is not None]
    if not samples:
        raise DataError(f"{request.path}: expected images that can be read, found none ({first_of(notes.problems)})")
    if not any(s.mask for s in samples):
        notes = Notes([f"No masks: {len(samples)} images for prediction."])
    if (request.task or request.description.task) == "semantic":
        raise DataError(
            f"{request.path}: expected task instances for one mask file per object, found task semantic; leave it out"
        )
    findings, problems = tuple(notes.findings), tuple(notes.problems)
    return Dataset(request.name, tuple(samples), "instances", ("background", "object"), findings, problems)
