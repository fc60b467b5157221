"""Image files become arrays.

An image is read as (C, *space) in the type the file has (bool becomes uint8), a mask as (*space) int32. Which
dimension is what comes from the file where it says so, otherwise from the rules in `headers`. A page of a file that
says nothing has to be named, because pages may be slices, time points or channels.

Alpha is never a colour and is dropped. Values are given as they stand in the file, but a grey TIFF that calls 0 white
is turned over, so that it is the same image as any other file of that picture. Its numbers stay where they are a
mask, and where the display alone is inverted: ImageJ saves its images that way, and tifffile masks of one bit. A NIfTI
file's own scaling is applied.

A file that cannot be read raises one DataError that names it. Only the wanted page of a TIFF or NIfTI file is read,
and a .npy file is mapped into memory, read-only, as a .nii file may be. The way back, arrays to files, is in `writing`.
"""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ImageOps

from ushape.data.headers import (
    SUFFIXES,
    Kind,
    Layout,
    file_kind,
    is_image_file,
    is_list_of_pages,
    n_pages,
    open_picture,
    open_tiff,
    read_layout,
    reading,
    stem_of,
    suffix_of,
)
from ushape.data.nifti import Index, read_nifti
from ushape.data.spacing import read_frame_interval, read_spacing
from ushape.data.writing import write_image, write_labels
from ushape.errors import DataError

__all__ = [
    "SUFFIXES",
    "Layout",
    "is_grey",
    "is_image_file",
    "n_pages",
    "pixel_digest",
    "read_frame_interval",
    "read_image",
    "read_layout",
    "read_mask",
    "read_spacing",
    "stem_of",
    "suffix_of",
    "write_image",
    "write_labels",
]

AnyArray = NDArray[Any]

# What is read of a TIFF at a time, in bytes, so that reading takes little more memory than the array.
BAND = 16 * 2**20


def pixel_digest(image: NDArray[Any]) -> str:
    """What tells an image (C, *space) from others by its pixels alone, whatever file they came from; 16 characters.

    Values count as float32, so that a copy of another type or in another format has the same.
    """
    found = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    for channel in image:
        found.update(np.ascontiguousarray(channel, dtype=np.float32).data)
    return found.hexdigest()


def is_grey(image: AnyArray) -> bool:
    """True when an image (C, *space) has one channel, or several that are all the same."""
    return image.shape[0] == 1 or bool((image[1:] == image[:1]).all())


def _by_pages(series: tifffile.TiffPageSeries, index: Index) -> AnyArray:
    """The part of a series at `index`; only the pages it lies on are read, where the file keeps pages apart."""
    shape, page_shape = series.shape, series.keyframe.shape
    n_front = len(shape) - len(page_shape)
    apart = n_front > 0 and shape[n_front:] == page_shape and math.prod(shape[:n_front]) == len(series.pages)
    numbers = np.arange(len(series.pages)).reshape(shape[:n_front])[index[:n_front]] if apart else np.zeros(0, int)
    pages = [series.pages[int(number)] for number in np.ravel(numbers)]
    planes = [page.asarray(buffersize=BAND) for page in pages if page is not None]
    if not pages or len(planes) < len(pages):
        return np.asarray(series.asarray(buffersize=BAND)[index])
    together = planes[0] if len(planes) == 1 else np.stack(planes)
    inside = (slice(None),) * np.ndim(numbers) + index[n_front:]
    return np.asarray(together.reshape(*np.shape(numbers), *page_shape)[inside])


def _mapped(path: Path, series: tifffile.TiffPageSeries) -> AnyArray:
    """A plain series as a map of the file: what is not looked at is not read."""
    kind = series.dtype.newbyteorder(series.keyframe.parent.byteorder)
    mapped: AnyArray = np.memmap(path, kind, mode="r", offset=series.dataoffset or 0, shape=series.shape)
    return mapped


def _bands_channels_first(path: Path, series: tifffile.TiffPageSeries) -> AnyArray:
    """A plain (H, W, C) file as (C, H, W), some rows at a time: mapping all of it would need its size twice."""
    height, width, n_channels = series.shape
    array = np.empty((n_channels, height, width), series.dtype)
    n_rows = max(1, BAND // max(1, width * n_channels * series.dtype.itemsize))
    for start in range(0, height, n_rows):
        rows = slice(start, start + n_rows)
        array[:, rows] = np.moveaxis(_mapped(path, series)[rows], -1, 0)
    return array


def _series_array(path: Path, series: tifffile.TiffPageSeries, axes: str, index: Index | None) -> tuple[AnyArray, str]:
    plain = series.dataoffset is not None  # one block of numbers that is not compressed
    if index is not None:
        # A copy, because the file behind a map may change.
        return np.array(_mapped(path, series)[index]) if plain else _by_pages(series, index), axes
    if plain and axes == "YXC" and series.nbytes > BAND:
        return _bands_channels_first(path, series), "CYX"
    return series.asarray(buffersize=BAND), axes


def _tiff_array(path: Path, layout: Layout, index: Index | None) -> tuple[AnyArray, str]:
    """The array, or its part at `index`, and the axes of the whole."""
    with open_tiff(path) as tiff:
        series, axes = tiff.series[0], layout.axes
        if not is_list_of_pages(tiff):
            array, axes = _series_array(path, series, axes, index)
        elif index is not None and isinstance(index[0], int):
            array = tiff.series[index[0]].asarray(buffersize=BAND)[index[1:]]
        else:
            array = np.stack([each.asarray(buffersize=BAND) for each in tiff.series])[index or ...]
        return array, axes


def _png_bit_depth(data: bytes) -> int:
    """The bit depth in the PNG header: byte 24, after the signature and the size."""
    return data[24]


def _pillow_array(path: Path, kind: Kind, *, indices: bool) -> AnyArray:
    """(H, W) or (H, W, 3); palette pictures as colours, or as their indices for masks."""
    data = path.read_bytes()
    # Pillow reads 16-bit colour PNGs with 8 bits, so deep ones go another way.
    if kind == "png" and _png_bit_depth(data) == 16:
        array = np.asarray(imagecodecs.png_decode(data))
        return (
            array[..., 0] if array.ndim == 3 and array.shape[2] == 2 else array[..., :3] if array.ndim == 3 else array
        )
    with open_picture(io.BytesIO(data)) as opened:
        opened.load()
        picture = ImageOps.exif_transpose(opened)
    if picture.mode in ("LA", "La"):
        picture = picture.convert("L")
    grey = picture.mode in ("1", "L", "F") or picture.mode.startswith("I")
    if not grey and not (indices and picture.mode == "P"):
        # By way of RGBA, because a palette may hold transparent colours.
        picture = picture.convert("RGBA" if picture.mode in ("P", "PA") else "RGB")
    return np.array(picture)[..., :3] if picture.mode in ("RGB", "RGBA") else np.array(picture)


def _array(path: Path, layout: Layout, index: Index | None, *, mask: bool) -> tuple[AnyArray, str]:
    """The array, or its part at `index`, and the axes of the whole."""
    kind = file_kind(path)
    if kind == "tiff":
        return _tiff_array(path, layout, index)
    if kind == "nifti":
        return read_nifti(path, index, mask=mask), layout.axes
    array = np.load(path, mmap_mode="r", allow_pickle=False) if kind == "npy" else None
    if array is None:
        array = _pillow_array(path, kind, indices=mask)
    if array.ndim < len(layout.axes):  # the indices of a palette, where the header promised colours
        return array, "YX"
    return array if index is None else array[index], layout.axes


def _plane_at(layout: Layout, page: int) -> Index:
    """Where one plane is in the array; pages are counted with the last page axis running fastest."""
    n_planes = [n for n, axis in zip(layout.shape, layout.axes, strict=True) if axis in "PZ"]
    places = iter(np.unravel_index(page, n_planes) if n_planes else ())
    return tuple(int(next(places)) if axis in "PZ" else slice(None) for axis in layout.axes)


def _check_page(path: Path, layout: Layout, page: int | None) -> int | None:
    """The page to read, None for the whole array; DataError when one must be named or does not exist."""
    n = layout.n_pages
    if page is None:
        if layout.length("P") > 1:
            meant = [] if "Z" in layout.axes else [f"axes='{layout.axes.replace('P', 'Z')}' (a volume)"]
            meant += [] if "C" in layout.axes else [f"axes='{layout.axes.replace('P', 'C')}' (channels)"]
            advice = f", or say what they are with {' or '.join(meant)}" if meant else ""
            raise DataError(f"{path}: expected one image, found {n} pages; name one with page=0 to {n - 1}{advice}")
        return 0 if "P" in layout.axes and layout.length("Z") == 1 else None
    if not 0 <= page < n:
        raise DataError(f"{path}: expected a page from 0 to {n - 1}, found {page}; count pages from 0")
    return page


def _read(path: Path, page: int | None, axes: str | None, *, mask: bool) -> AnyArray:
    """(C, *space) in the file's type."""
    with reading(path):
        layout = read_layout(path, axes=axes)
        page = _check_page(path, layout, page)
        index = None if page is None or not set(layout.axes) & set("PZ") else _plane_at(layout, page)
        array, letters = _array(path, layout, index, mask=mask)
        if index is not None:
            letters = "".join(axis for axis in letters if axis not in "PZ")
        elif "P" in letters:  # one page around a volume
            array, letters = array.squeeze(letters.index("P")), letters.replace("P", "")
        if "C" not in letters:
            array, letters = array[None], "C" + letters
        order = [letters.index(axis) for axis in "CZYX" if axis in letters]
        array = array.transpose(order)
        array = array[:-1] if layout.alpha else array
        if layout.black is not None and not mask:
            array = np.subtract(layout.black, array, dtype=array.dtype)
        kind = np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("=")
        return np.ascontiguousarray(array, dtype=kind)


def read_image(path: Path, *, page: int | None = None, axes: str | None = None) -> AnyArray:
    """An image file as (C, *space), in the file's own type and units; bool becomes uint8 (0 and 1).

    path  .tif, .tiff, .png, .jpg, .jpeg, .bmp, .gif, .npy, .nii or .nii.gz, in small or capital letters
    page  which plane of a file with several, from 0; without it a file with a Z axis gives (C, D, H, W)
    axes  what the dimensions of a TIFF, .npy or NIfTI file are, in the order of `read_layout`, when the file does not
          say or is wrong: letters of CZYX, any other letter counts pages

    Palette pictures become colours, but a TIFF keeps its grey values, because there a palette only says how to
    show them. A camera's orientation note (EXIF) is obeyed, alpha is dropped.
    DataError when the file cannot be read, holds complex numbers, or has several pages and none is named.
    """
    path = Path(path)
    image = _read(path, page, axes, mask=False)
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


def read_mask(path: Path, *, page: int | None = None, axes: str | None = None) -> NDArray[np.int32]:
    """A mask file as (*space) int32, its values as they stand in the file; -1 is ignore.

    page, axes  as for `read_image`

    Palette pictures give their indices. Colour pictures are masks only where the three channels are the same.
    DataError for colours, for values that are no whole numbers, and for JPEG, which changes values.
    """
    path = Path(path)
    with reading(path):
        kind = file_kind(path)
    if kind == "jpeg":
        raise DataError(
            f"{path}: expected a mask in a format that keeps its values, found JPEG, which blurs them; "
            "export the mask again as PNG or TIFF"
        )
    mask = _read(path, page, axes, mask=True)
    if not is_grey(mask):
        raise DataError(
            f"{path}: expected one number for each pixel of a mask, found {mask.shape[0]} channels that differ; "
            "replace each colour by a class number or an object id and save the mask as grey or palette PNG or TIFF"
        )
    return _whole_numbers(path, mask[0])
