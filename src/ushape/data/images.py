"""Image files become arrays, and arrays become image files.

An image is read as (C, *space) in the type the file has (bool becomes uint8), a mask as (*space) int32. Which
dimension is what comes from the file where it says so, otherwise from the rules in `headers`. A page of a file that
says nothing has to be named, because pages may be slices, time points or channels.

Alpha is never a colour and is dropped. A file that cannot be read raises one DataError that names it. Files are
written under a temporary name and renamed when they are complete.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ushape.data.headers import (
    JPEG_SUFFIXES,
    SUFFIXES,
    TIFF_SUFFIXES,
    Layout,
    is_image_file,
    is_list_of_pages,
    n_pages,
    read_layout,
    reading,
)
from ushape.errors import DataError

__all__ = [
    "SUFFIXES",
    "Layout",
    "is_grey",
    "is_image_file",
    "n_pages",
    "read_image",
    "read_layout",
    "read_mask",
    "write_image",
    "write_labels",
]

AnyArray = NDArray[Any]


def is_grey(image: AnyArray) -> bool:
    """True when an image (C, *space) has one channel, or several that are all the same."""
    return image.shape[0] == 1 or bool((image[1:] == image[:1]).all())


def _tiff_array(path: Path, layout: Layout, page: int | None) -> tuple[AnyArray, str]:
    """The array and its axes; only the wanted page is read where the file keeps pages apart."""
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        if is_list_of_pages(tiff):
            if page is not None:
                return tiff.series[page].asarray(), layout.axes[1:]
            return np.stack([each.asarray() for each in tiff.series]), layout.axes
        separate = layout.axes[0] in "PZ" and layout.axes[1:] in ("YX", "YXC", "CYX")
        if page is not None and separate and len(series.pages) == layout.shape[0]:
            plane = series.pages[page]
            if plane is not None:
                return plane.asarray(), layout.axes[1:]
        return series.asarray(), layout.axes


def _png_bit_depth(data: bytes) -> int:
    """The bit depth in the PNG header: byte 24, after the signature and the size."""
    return data[24]


def _pillow_array(path: Path, *, indices: bool) -> AnyArray:
    """(H, W) or (H, W, 3); palette pictures as colours, or as their indices for masks."""
    data = path.read_bytes()
    # Pillow reads 16-bit colour PNGs with 8 bits, so deep ones go another way.
    if path.suffix.lower() == ".png" and _png_bit_depth(data) == 16:
        array = np.asarray(imagecodecs.png_decode(data))
        return (
            array[..., 0] if array.ndim == 3 and array.shape[2] == 2 else array[..., :3] if array.ndim == 3 else array
        )
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        picture = ImageOps.exif_transpose(opened)
    if picture.mode in ("LA", "La"):
        picture = picture.convert("L")
    grey = picture.mode in ("1", "L", "F") or picture.mode.startswith("I")
    if not grey and not (indices and picture.mode == "P"):
        # By way of RGBA, because a palette may hold transparent colours.
        picture = picture.convert("RGBA" if picture.mode in ("P", "PA") else "RGB")
    return np.array(picture)[..., :3] if picture.mode in ("RGB", "RGBA") else np.array(picture)


def _array(path: Path, layout: Layout, page: int | None, *, indices: bool) -> tuple[AnyArray, str]:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return _tiff_array(path, layout, page)
    if suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), layout.axes
    array = _pillow_array(path, indices=indices)
    return array, layout.axes if array.ndim == len(layout.axes) else "YX"


def _take_page(array: AnyArray, axes: str, page: int) -> tuple[AnyArray, str]:
    """One plane of (*pages, *rest); pages are counted with the last page axis running fastest."""
    planes = [i for i, axis in enumerate(axes) if axis in "PZ"]
    array = np.moveaxis(array, planes, range(len(planes)))
    rest = "".join(axis for axis in axes if axis not in "PZ")
    index = np.unravel_index(page, array.shape[: len(planes)]) if planes else ()
    return array[index], rest


def _check_page(path: Path, layout: Layout, page: int | None) -> int | None:
    """The page to read, None for the whole array; DataError when one must be named or does not exist."""
    n = layout.n_pages
    if page is None:
        if layout.length("P") > 1:
            raise DataError(
                f"{path}: expected one image, found {n} pages; name one with page=0 to {n - 1}, "
                "or say what they are with axes='ZYX' (a volume) or axes='CYX' (channels)"
            )
        return 0 if "P" in layout.axes and layout.length("Z") == 1 else None
    if not 0 <= page < n:
        raise DataError(f"{path}: expected a page from 0 to {n - 1}, found {page}; count pages from 0")
    return page


def _read(path: Path, page: int | None, axes: str | None, *, indices: bool) -> AnyArray:
    """(C, *space) in the file's type."""
    with reading(path):
        layout = read_layout(path, axes=axes)
        page = _check_page(path, layout, page)
        array, letters = _array(path, layout, page, indices=indices)
        if page is not None and set(letters) & set("PZ"):
            array, letters = _take_page(array, letters, page)
        elif "P" in letters:  # one page around a volume
            array, letters = array.squeeze(letters.index("P")), letters.replace("P", "")
        if "C" not in letters:
            array, letters = array[None], "C" + letters
        order = [letters.index(axis) for axis in "CZYX" if axis in letters]
        array = array.transpose(order)
        array = array[:-1] if layout.alpha else array
        kind = np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("=")
        return np.ascontiguousarray(array, dtype=kind)


def read_image(path: Path, *, page: int | None = None, axes: str | None = None) -> AnyArray:
    """An image file as (C, *space), in the file's own type and units; bool becomes uint8 (0 and 1).

    path  .tif, .tiff, .png, .jpg, .jpeg, .bmp, .gif or .npy
    page  which plane of a file with several, from 0; without it a file with a Z axis gives (C, D, H, W)
    axes  what the dimensions of a TIFF or .npy are, in the file's order, when the file does not say or is wrong:
          letters of CZYX, any other letter counts pages

    Palette pictures become colours, but a TIFF keeps its grey values, because there a palette only says how to
    show them. A camera's orientation note (EXIF) is obeyed, alpha is dropped.
    DataError when the file cannot be read, holds complex numbers, or has several pages and none is named.
    """
    path = Path(path)
    image = _read(path, page, axes, indices=False)
    if image.dtype.kind not in "uif":
        raise DataError(f"{path}: expected integer or real pixel values, found type {image.dtype}; convert the image")
    return image


def _whole_numbers(path: Path, mask: AnyArray) -> NDArray[np.int32]:
    if mask.dtype.kind not in "uif" or (mask.dtype.kind == "f" and not (mask == np.floor(mask)).all()):
        raise DataError(
            f"{path}: expected whole numbers in a mask, found values between them (type {mask.dtype}); "
            "save class numbers or object ids, not probabilities"
        )
    small = mask.dtype.kind == "u" and mask.dtype.itemsize <= 2
    if mask.size and not small and (mask.max() > np.iinfo(np.int32).max or mask.min() < -1):
        raise DataError(
            f"{path}: expected mask values from 0 (or -1 for ignore) to 2147483647, "
            f"found {mask.min()} to {mask.max()}; renumber the objects"
        )
    return mask.astype(np.int32)


def read_mask(path: Path, *, page: int | None = None) -> NDArray[np.int32]:
    """A mask file as (*space) int32, its values as they stand in the file; -1 is ignore.

    Palette pictures give their indices. Colour pictures are masks only where the three channels are the same.
    DataError for colours, for values that are no whole numbers, and for JPEG, which changes values.
    """
    path = Path(path)
    if path.suffix.lower() in JPEG_SUFFIXES:
        raise DataError(
            f"{path}: expected a mask in a format that keeps its values, found JPEG, which blurs them; "
            "export the mask again as PNG or TIFF"
        )
    mask = _read(path, page, None, indices=True)
    if not is_grey(mask):
        raise DataError(
            f"{path}: expected one number for each pixel of a mask, found {mask.shape[0]} channels that differ; "
            "replace each colour by a class number or an object id and save the mask as grey or palette PNG or TIFF"
        )
    return _whole_numbers(path, mask[0])


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the name `path` only when writing succeeded."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: Path) -> Literal["tiff", "png"]:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return "tiff"
    if suffix == ".png":
        return "png"
    raise DataError(f"{path}: expected a name that ends in .tif, .tiff or .png, found '{path.suffix}'; rename it")


def _write_png(path: Path, picture: AnyArray) -> None:
    """(H, W) or (H, W, 3), uint8 or uint16."""
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture)))


def write_labels(path: Path, labels: NDArray[np.integer[Any]]) -> None:
    """Write labels (*space) >= 0 as TIFF (zlib) or PNG, in the smallest unsigned type that holds them.

    The file appears under its name only when it is complete. DataError for negative labels, and for a PNG of
    three dimensions or of ids above 65535.
    """
    path = Path(path)
    target = _target(path)
    if labels.size and labels.min() < 0:
        raise DataError(f"{path}: expected labels from 0 up, found {labels.min()}; replace ignored pixels first")
    labels = labels.astype(np.min_scalar_type(int(labels.max()) if labels.size else 0))
    if target == "png" and (labels.ndim != 2 or labels.dtype.itemsize > 2):
        raise DataError(
            f"{path}: expected 2-D labels up to 65535 for a PNG, found {labels.ndim}-D ones of type {labels.dtype}; "
            "write a .tif file"
        )
    with _replacing(path) as temporary:
        if target == "png":
            _write_png(temporary, labels)
        else:
            axes = "ZYX"[-labels.ndim :]
            tifffile.imwrite(temporary, labels, compression="zlib", photometric="minisblack", metadata={"axes": axes})


def write_image(path: Path, image: AnyArray) -> None:
    """Write an image (C, *space) as TIFF (zlib, axes noted) of any real type, or as PNG.

    A PNG takes (1, H, W) or (3, H, W) in uint8 or uint16; DataError otherwise.
    """
    path = Path(path)
    target = _target(path)
    fits = image.ndim == 3 and image.shape[0] in (1, 3) and image.dtype in (np.uint8, np.uint16)
    if target == "png" and not fits:
        raise DataError(
            f"{path}: expected (1 or 3, height, width) in uint8 or uint16 for a PNG, found {image.shape} "
            f"of type {image.dtype}; write a .tif file"
        )
    with _replacing(path) as temporary:
        if target == "png":
            _write_png(temporary, image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1))
        else:
            axes = "C" + "ZYX"[1 - image.ndim :]
            tifffile.imwrite(temporary, image, compression="zlib", photometric="minisblack", metadata={"axes": axes})
