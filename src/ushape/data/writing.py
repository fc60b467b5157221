"""Arrays become image files: labels and images as TIFF, PNG or NIfTI.

A file is written under a temporary name and renamed when it is complete, so that a name always means a whole file.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from ushape.data.dataset import Spacing
from ushape.data.headers import KINDS, NIFTI_GZ, suffix_of
from ushape.data.nifti import nifti_bytes
from ushape.data.spacing import add_physical_size, imagej_options, nifti_spacing, ome_options
from ushape.errors import DataError

__all__ = ["write_image", "write_labels"]

AnyArray = NDArray[Any]
OME_NAMES = (".ome.tif", ".ome.tiff")
LARGEST_CLASSIC = 2**32 - 2**25
"""Bytes of an array that a classic TIFF surely holds: it counts up to 4 GiB, and what zlib cannot make smaller it makes
a little larger. tifffile draws the line here too, but only for what is not compressed."""


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the name `path` only when writing succeeded."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: Path) -> Literal["tiff", "png", "nifti"]:
    suffix = suffix_of(path)
    if suffix == ".png":
        return "png"
    kind = KINDS.get(suffix)
    if kind == "tiff" or kind == "nifti":
        return kind
    raise DataError(f"{path}: expected a name that ends in .tif, .tiff or .png, found '{suffix}'; rename it")


def _write_png(path: Path, picture: AnyArray, spacing: Spacing | None) -> None:
    """(H, W) or (H, W, 3), uint8 or uint16."""
    path.write_bytes(add_physical_size(bytes(imagecodecs.png_encode(np.ascontiguousarray(picture))), spacing))


def _write_tiff(path: Path, array: AnyArray, options: dict[str, Any], *, imagej: bool = False) -> None:
    # A file of ImageJ's is no BigTIFF. Ours hold labels, which zlib makes many times smaller.
    bigtiff = not imagej and array.nbytes > LARGEST_CLASSIC
    tifffile.imwrite(path, array, bigtiff=bigtiff, compression="zlib", photometric="minisblack", **options)


def _label_axes(path: Path, labels: AnyArray, axes: str | None) -> str:
    """The axes in ImageJ's letters: T for whatever counts pages, before Z."""
    letters = "".join(a if a in "CZYX" else "T" for a in (axes or "ZYX"[-labels.ndim :]).upper())
    if letters not in ("YX", "ZYX", "TYX", "TZYX") or len(letters) != labels.ndim:
        raise DataError(
            f"{path}: expected the axes YX, ZYX, PYX or PZYX for labels of the sizes {labels.shape}, "
            f"found {axes or f'{labels.ndim} dimensions'}; name one for each size"
        )
    return letters


def write_labels(
    path: Path,
    labels: NDArray[np.integer[Any]],
    *,
    spacing: Spacing | None = None,
    axes: str | None = None,
    like: Path | None = None,
    interval: float | None = None,
    slices_apart: bool = False,
) -> None:
    """Write labels (*space) >= 0 as TIFF (zlib), PNG or NIfTI, in the smallest unsigned type that holds them.

    spacing  the physical size of a pixel, kept in the file so that ImageJ, Fiji and `read_spacing` find it
    axes     ZYX, a volume (as without a word), or PYX, pages; PZYX are several volumes
    interval  seconds from one page to the next, kept in a TIFF
    slices_apart  the slices are images of their own, with ids afresh in each: a TIFF other than OME-TIFF notes it, and
             `read_layout` takes them for pages
    like     for .nii and .nii.gz: the NIfTI file the labels belong to; they take its place in space, its affine

    A TIFF is written as ImageJ writes it, as OME-TIFF where the name ends in .ome.tif. The file appears under its name
    only when it is complete. DataError for negative labels, for a PNG of three dimensions or of ids above 65535, and
    for labels of another size than `like`.
    """
    path = Path(path)
    target, letters = _target(path), _label_axes(path, labels, axes)
    if labels.size and labels.min() < 0:
        raise DataError(f"{path}: expected labels from 0 up, found {labels.min()}; replace ignored pixels first")
    largest = int(labels.max()) if labels.size else 0
    labels = labels.astype(np.min_scalar_type(largest))
    if target == "png" and (labels.ndim != 2 or labels.dtype.itemsize > 2):
        raise DataError(
            f"{path}: expected 2-D labels up to 65535 for a PNG, found {labels.ndim}-D ones of type {labels.dtype}; "
            "write a .tif file"
        )
    with _replacing(path) as temporary:
        if target == "png":
            _write_png(temporary, labels, spacing)
        elif target == "nifti":
            data = nifti_bytes(path, labels, like, nifti_spacing(spacing))
            # Without a time in it, the same labels give the same file.
            temporary.write_bytes(gzip.compress(data, 6, mtime=0) if suffix_of(path) == NIFTI_GZ else data)
        elif path.name.lower().endswith(OME_NAMES):
            _write_tiff(temporary, labels, ome_options(letters, spacing, interval))
        else:
            about = imagej_options(
                letters, labels.shape, spacing, largest, interval=interval, slices_apart=slices_apart
            )
            _write_tiff(temporary, labels, about, imagej=True)


def write_image(path: Path, image: AnyArray, *, spacing: Spacing | None = None) -> None:
    """Write an image (C, *space) as TIFF (zlib, axes noted) of any real type, or as PNG.

    A PNG takes (1, H, W) or (3, H, W) in uint8 or uint16; DataError otherwise. With a spacing the TIFF is an OME-TIFF,
    and a BigTIFF where the image has about 4 GiB or more.
    """
    path = Path(path)
    target = _target(path)
    fits = image.ndim == 3 and image.shape[0] in (1, 3) and image.dtype in (np.uint8, np.uint16)
    if target == "png" and not fits:
        raise DataError(
            f"{path}: expected (1 or 3, height, width) in uint8 or uint16 for a PNG, found {image.shape} "
            f"of type {image.dtype}; write a .tif file"
        )
    if target == "nifti":
        raise DataError(f"{path}: expected a name that ends in .tif, .tiff or .png for an image, found a NIfTI name")
    axes = "C" + "ZYX"[1 - image.ndim :]
    as_ome = spacing is not None or path.name.lower().endswith(OME_NAMES)
    with _replacing(path) as temporary:
        if target == "png":
            _write_png(temporary, image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1), spacing)
        else:
            _write_tiff(temporary, image, ome_options(axes, spacing) if as_ome else {"metadata": {"axes": axes}})
