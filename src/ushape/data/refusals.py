"""What is said about a path that is no folder of data, and about a folder in no known layout."""

from __future__ import annotations

from pathlib import Path

from ushape.data.ctc import ctc_sequences
from ushape.data.foreign import advice_on, visible_files
from ushape.data.idx import idx_parts
from ushape.data.naming import has_images, part_of, role_of, subfolders
from ushape.data.nnunet import is_nnunet_folder
from ushape.data.notes import told
from ushape.data.table import tables_in
from ushape.errors import DataError

__all__ = ["LAYOUTS", "check_place", "nothing_found"]

LAYOUTS = (
    "images/ with masks/, images beside their masks (x.png, x_mask.png), images alone, train-volume.tif with "
    "train-labels.tif, an nnU-Net folder (imagesTr, labelsTr), a Cell Tracking Challenge folder (01, 01_GT), a Data "
    "Science Bowl folder (<id>/images, <id>/masks), a folder for each class, a CSV file with columns image,mask or "
    "image,label, IDX files, or train/, val/, test/ with one of these inside"
)


def _has_data(path: Path) -> bool:
    """Whether a folder looks like one that could be opened by itself."""
    named = any(role_of(p.name)[0] or part_of(p.name) for p in subfolders(path))
    return named or is_nnunet_folder(path) or bool(has_images(path) or ctc_sequences(path) or idx_parts(path))


def nothing_found(path: Path) -> DataError:
    """What to say about a folder in no known layout."""
    files, folders, tables = visible_files(path), subfolders(path), [p.name for p in tables_in(path)]
    if len(tables) > 1:
        return DataError(
            f"{path}: expected one CSV file with a column of images, found {told(tables)}; name the one to read"
        )
    advice = advice_on([*files, *(p for p in folders if p.suffix)])
    if advice:
        return DataError(f"{path}: expected images as TIFF, PNG, JPEG, BMP, .npy or NIfTI, found {advice}")
    alone = [p.name for p in folders if role_of(p.name)[0] == "masks"]
    if alone and len(alone) == len(folders):
        return DataError(
            f"{path}: expected images beside {told(alone)}/, found none; put them into images/, called like their masks"
        )
    inside = [p.name for p in folders if _has_data(p)]
    if inside:
        return DataError(f"{path}: expected one folder of images and masks, found several ({told(inside)}); name one")
    endings = sorted({p.suffix or "files without ending" for p in files})
    found = f"only {told(endings)}" if endings else "only folders without images" if folders else "an empty folder"
    return DataError(
        f"{path}: expected images, found {found}; save them as TIFF or PNG in one of these ways: {LAYOUTS}"
    )


def check_place(path: Path) -> None:
    """DataError for what is no folder, and for the images/ of a folder that is meant as a whole."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise DataError(f"{path}: expected a folder of images, found {found}; check the path")
    whole = path.resolve()
    kind, part = role_of(whole.name)
    if whole.name.lower() in ("imagestr", "imagests", "labelstr", "labelsts"):
        partners = [p for p in subfolders(whole.parent) if p.name.lower() == "labelstr" and p != whole]
    else:
        other = {"images": ("masks", part), "masks": ("images", part)}.get(kind)
        partners = [p for p in subfolders(whole.parent) if other is not None and role_of(p.name) == other]
    if partners and has_images(path):
        raise DataError(
            f"{path}: expected the folder that holds images and masks, found only one side of it (the other is "
            f"{partners[0].name}/); name {path.parent if path.parent.name else whole.parent}"
        )
