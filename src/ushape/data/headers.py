"""What an image file says about itself before its pixels are read: its kind, how many pages of which size, its axes.

The kind of a file is told by its first bytes, because names lie: a JPEG may be called .png.

Axis letters: X, Y, Z space; C channels (S, samples, is read as C); every other letter of a file is read as P, pages.
Where the file says nothing: two dimensions are Y, X; a last dimension of 3 or 4 smaller than the others is colour, and
one of 1 or 2 much smaller than the others counts channels; any other third dimension in front counts pages. The
dimensions of a NIfTI file are told slowest first, as (z, y, x), a fourth one in front of them; where it has more
entries than an image has channels, it counts pages.

Reading a header also proves cheaply that the file was not cut short: a PNG and a JPEG carry an end marker, a TIFF's
chain of pages and its strips must lie inside the file, and a NIfTI file must hold as many bytes as its header says.
Whatever goes wrong is one DataError that names the file.

References: TIFF 6.0; BigTIFF; OME-TIFF axes as told by tifffile; PNG (ISO/IEC 15948); EXIF 2.3; NIfTI-1.1.
"""

from __future__ import annotations

import math
import os
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from ushape.data.nifti import nifti_axes
from ushape.data.notes import reason_of
from ushape.data.tiff_sets import own_part
from ushape.errors import DataError

__all__ = [
    "SLICES_APART",
    "SUFFIXES",
    "Kind",
    "Layout",
    "composed",
    "file_kind",
    "has_channels_last",
    "holds_objects",
    "is_image_file",
    "is_list_of_pages",
    "n_pages",
    "open_picture",
    "open_tiff",
    "read_layout",
    "reading",
    "stem_of",
    "suffix_of",
    "written_stem",
]

Kind = Literal["tiff", "png", "jpeg", "picture", "npy", "nifti"]
"""How a file is read; "picture" is everything else that Pillow knows."""

NIFTI_GZ = ".nii.gz"
KINDS: dict[str, Kind] = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".bmp": "picture",
    ".gif": "picture",
    ".npy": "npy",
    ".nii": "nifti",
    NIFTI_GZ: "nifti",
}
SUFFIXES = tuple(KINDS)
MAGIC: dict[bytes, Kind] = {
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "picture",
    b"BM": "picture",
    b"\x93NUMPY": "npy",
}

# ImageJ shows at most 7 channels, and stacks are often saved as "channels": more than 7 of them are pages.
MAX_CHANNELS = 7
# Nobody has pages of 2 px width; where both other sizes are so many times the last one, it counts channels.
WIDE = 8
# TIFF tag 338 (ExtraSamples): 1 is associated, 2 unassociated alpha.
ALPHA_SAMPLES = (1, 2)
BIGTIFF_VERSION = 43
PNG_GREY_ALPHA = 4
END_MARKERS: dict[Kind, bytes] = {"png": b"IEND", "jpeg": b"\xff\xd9"}
PNG_DEEP = 16
# Bytes of a value in Pillow's pictures that are neither of 8 bits nor of one.
MODE_BYTES = {"I": 4, "F": 4}
# A key in ImageJ's description that ImageJ passes over: labels whose slices were found one by one, with ids afresh in
# each, lie over their image slice by slice, and are pages all the same.
SLICES_APART = "ushape_slices"
# EXIF orientations that swap height and width.
TURNED_ORIENTATIONS = (5, 6, 7, 8)
EXIF_ORIENTATION = 0x0112

# Pillow's guard is one number for all threads. Two that took it away at once would put back what the other had left:
# none. Only headers are read meanwhile.
GUARD = threading.Lock()

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What a file says about its array before pixels are read: a letter of P (pages), Z, Y, X, C per dimension."""

    shape: Shape
    axes: str
    alpha: bool = False  # the last channel is alpha
    black: int | None = None  # the number that means black, in a picture where 0 means white
    itemsize: int | None = field(default=None, compare=False)  # bytes of one value as it is read; None: not known
    counts_time: bool = field(default=False, compare=False)  # the file says that P is time

    def length(self, letters: str) -> int:
        """How many entries the dimensions called by these letters have together."""
        return math.prod(n for n, axis in zip(self.shape, self.axes, strict=True) if axis in letters)

    @property
    def n_pages(self) -> int:
        """How many planes (height, width) there are, channels not counted: slices, time points or pages."""
        return self.length("PZ")

    @property
    def nbytes(self) -> int | None:
        """Bytes of the whole array as it is read, alpha included; None where the header does not tell."""
        return None if self.itemsize is None else math.prod(self.shape) * self.itemsize

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the planes."""
        return self.length("Y"), self.length("X")


def suffix_of(path: Path) -> str:
    """The end of a name that tells its format, in small letters; ".nii.gz" counts as one."""
    name = Path(path).name.lower()
    return NIFTI_GZ if name.endswith(NIFTI_GZ) and name != NIFTI_GZ else Path(name).suffix


def composed(name: str) -> str:
    """A name with each letter and its accents as one character (NFC): archives of macOS hold two for an ä (NFD)."""
    return unicodedata.normalize("NFC", name)


def written_stem(path: Path) -> str:
    """The name without `suffix_of`, and without the ".ome" of an OME-TIFF, in the file's own characters."""
    name, suffix = Path(path).name, suffix_of(path)
    stem = name[: len(name) - len(suffix)]
    return stem[:-4] if KINDS.get(suffix) == "tiff" and stem.lower().endswith(".ome") and len(stem) > 4 else stem


def stem_of(path: Path) -> str:
    """The same with composed letters: what images and masks are paired by, and what samples are called."""
    return composed(written_stem(path))


def is_image_file(path: Path) -> bool:
    """True for a visible file with a suffix that can be read."""
    return suffix_of(path) in SUFFIXES and not path.name.startswith(".") and path.is_file()


def file_kind(path: Path) -> Kind:
    """How an existing image file is to be read: by its first bytes, or by its name where they say nothing."""
    with path.open("rb") as file:
        head = file.read(8)
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), KINDS[suffix_of(path)])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one DataError that names the file."""
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path}: expected an image file ({', '.join(SUFFIXES)}), found '{suffix}'; convert it to TIFF or PNG"
        )
    if not path.is_file():
        raise DataError(f"{path}: expected an image file, found none; check the path")
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # Decoders of damaged files raise anything, from KeyError to zlib.error.
        reason = reason_of(error)
        if path.stat().st_size == 0:
            reason = "it is empty"
        elif isinstance(error, UnidentifiedImageError):
            reason = "what is in it is no picture"
        raise DataError(
            f"{path}: expected a readable {suffix} file, found one that is damaged or cut short "
            f"({reason}); save it again or leave it out"
        ) from error


def _require_end(path: Path, marker: bytes) -> None:
    """A cheap sign that a PNG or JPEG was not cut short: its end marker stands in the last 64 KiB."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 65536), os.SEEK_END)
        if marker not in file.read():
            raise ValueError("the file ends too early")


def _require_pages(path: Path) -> None:
    """Follow a TIFF's chain of pages to its end; tifffile would take a broken chain for a shorter file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        order: Literal["little", "big"] = "little" if file.read(2) == b"II" else "big"
        big = int.from_bytes(file.read(2), order) == BIGTIFF_VERSION
        n_count, n_tag, n_offset = (8, 20, 8) if big else (2, 12, 4)
        file.seek(8 if big else 4)
        offset, seen = int.from_bytes(file.read(n_offset), order), set()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            end = offset + n_count + n_tag * int.from_bytes(file.read(n_count), order)
            file.seek(end)
            if end + n_offset > size:
                raise ValueError("the file ends too early")
            offset = int.from_bytes(file.read(n_offset), order)


def _require_strips(path: Path, series: Any) -> None:
    """The same for its pixels: the series' block, or all strips of its first and last page, lie inside the file."""
    if series.dataoffset is not None:
        ends = [series.dataoffset + series.nbytes]
    else:
        pages = [series.pages[0], series.pages[-1]]
        ends = [a + n for page in pages for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if max(ends, default=0) > path.stat().st_size:
        raise ValueError("the file ends too early")


def has_channels_last(shape: Shape) -> bool:
    """Whether three sizes that come without any word are those of (height, width, channels)."""
    colours = shape[2] in (3, 4) and min(shape[:2]) > shape[2]
    return colours or (shape[2] in (1, 2) and min(shape[:2]) >= WIDE * shape[2])


def _guess_axes(shape: Shape, path: Path) -> str:
    """The axes of an array that comes without any word about them."""
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3:
        return "YXC" if has_channels_last(shape) else "PYX"
    if len(shape) < 2:
        raise DataError(
            f"{path}: expected an image of 2 or 3 dimensions, found {len(shape)}; save it as (height, width) or leave "
            "it out"
        )
    example = "PTCZYX"[-len(shape) :]
    raise DataError(
        f"{path}: expected an image of 2 or 3 dimensions, found {len(shape)} of sizes {shape} and no word about their "
        f'meaning; pass axes, or write them in dataset.toml, for example axes = "{example}"'
    )


def _check_axes(shape: Shape, axes: str, path: Path) -> str:
    """Axes as a caller gives them, in our letters."""
    letters = "".join(a if a in "ZYXC" else "P" for a in axes.upper().replace("S", "C"))
    if len(letters) != len(shape) or letters.count("Y") != 1 or letters.count("X") != 1 or letters.count("C") > 1:
        raise DataError(
            f"{path}: expected axes with one letter for each of the sizes {shape}, among them Y and X, found '{axes}'; "
            "name them in the file's order, for example 'CYX'"
        )
    return letters


def _makes_sense(tiff: tifffile.TiffFile) -> bool:
    """False for a TIFF whose OME-XML does not fit what is in it."""
    try:
        return not tiff.is_ome or bool(tiff.series)
    except Exception:
        if not tiff.is_ome:
            raise
        return False


@contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """A TIFF, without what other files of its set hold (`tiff_sets`).

    One whose OME-XML makes no sense is read as if it had none, because its pixels are sound.
    """
    with tifffile.TiffFile(path) as tiff:
        told = own_part(tiff, path)
        if not told and _makes_sense(tiff):
            yield tiff
            return
    if told:
        with tifffile.TiffFile(path, **told) as tiff:
            if _makes_sense(tiff):
                yield tiff
                return
    with tifffile.TiffFile(path, is_mmstack=told.get("is_mmstack"), is_ome=False) as tiff:
        yield tiff


def is_list_of_pages(tiff: tifffile.TiffFile) -> bool:
    """True when the pages were written one by one and tifffile calls each of them a series."""
    return len(tiff.series) > 1 and all(
        series.axes in ("YX", "YXS") and series.shape == tiff.series[0].shape for series in tiff.series
    )


def _tiff_layout(tiff: tifffile.TiffFile, path: Path, axes: str | None) -> Layout:
    series = tiff.series[0]
    shape, letters = tuple(series.shape), series.axes
    alpha = letters.endswith("S") and any(int(sample) in ALPHA_SAMPLES for sample in series.keyframe.extrasamples)
    pages = is_list_of_pages(tiff)
    _require_strips(path, tiff.series[-1] if pages else series)
    if pages:
        shape, letters = (len(tiff.series), *shape), "P" + letters
    if axes is not None:
        return Layout(shape, _check_axes(shape, axes, path))
    if set(letters) - set("YX") <= set("QI"):
        return Layout(shape, _guess_axes(shape, path))
    if tiff.is_imagej and "C" in letters and shape[letters.index("C")] > MAX_CHANNELS:
        letters = letters.replace("C", "P")
    if tiff.is_imagej and SLICES_APART in (tiff.imagej_metadata or {}):
        letters = letters.replace("Z", "P")
    if "C" in letters and "S" in letters:  # several colour images: the samples are the channels
        letters = letters.replace("C", "P")
    checked = _check_axes(shape, letters, path)
    return Layout(shape, checked, alpha, counts_time="T" in letters and checked.count("P") == 1)


def _black_of(tiff: tifffile.TiffFile) -> int | None:
    """The number that means black where 0 means white; None for every other file.

    ImageJ keeps its numbers and marks an inverted display so, and tifffile a mask of one bit.
    """
    page = tiff.series[0].keyframe
    grey = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and page.dtype is not None and page.dtype.kind == "u"
    return 2**page.bitspersample - 1 if grey and page.bitspersample > 1 and not tiff.is_imagej else None


@contextmanager
def open_picture(source: Path | BinaryIO) -> Iterator[Image.Image]:
    """A picture that Pillow reads, of any size: its guard against huge ones would refuse a slide scanner's."""
    with GUARD:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with picture:
        yield picture


def _png_kind(path: Path) -> tuple[int, int]:
    """(bits of a value, colour type) in a PNG's header: bytes 24 and 25, behind the signature and the size."""
    with path.open("rb") as file:
        depth, colour = file.read(26)[24:]
    return depth, colour


def _pillow_layout(path: Path, kind: Kind, axes: str | None) -> Layout:
    if kind in END_MARKERS:
        _require_end(path, END_MARKERS[kind])
    with open_picture(path) as picture:
        width, height = picture.size
        grey = picture.mode in ("1", "L", "LA", "La", "F") or picture.mode.startswith("I")
        itemsize = 2 if picture.mode.startswith("I;16") else MODE_BYTES.get(picture.mode, 1)
        if kind == "png":
            depth, colour = _png_kind(path)
            # With 16 bits Pillow makes colours of it.
            grey, itemsize = grey or colour == PNG_GREY_ALPHA, 2 if depth == PNG_DEEP else itemsize
        # Asking a PNG for EXIF that its header does not show would decode the whole picture.
        if "exif" in picture.info and picture.getexif().get(EXIF_ORIENTATION, 1) in TURNED_ORIENTATIONS:
            width, height = height, width
    shape: Shape = (height, width) if grey else (height, width, 3)
    return Layout(shape, _check_axes(shape, axes or ("YX" if grey else "YXC"), path), itemsize=itemsize)


def holds_objects(path: Path) -> bool:
    """Whether the header of a .npy file, which is text, tells of Python objects."""
    with path.open("rb") as file:
        return b"'descr': '|O'" in file.read(256)


def _npy_layout(path: Path, axes: str | None) -> Layout:
    if holds_objects(path):
        action = "save the image alone with numpy.save, or as TIFF"
        if written_stem(path).endswith("_seg"):
            action = "save the masks from Cellpose as PNG or TIFF (File > Save masks as PNG/tif)"
        raise DataError(
            f"{path}: expected an array of numbers, found Python objects (a pickle), which are never opened; {action}"
        )
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    shape, itemsize = array.shape, array.dtype.itemsize
    if axes is not None:
        return Layout(shape, _check_axes(shape, axes, path), itemsize=itemsize)
    letters = _guess_axes(shape, path)
    # Pictures are of 8 bits where they have alpha; four channels of another type are four markers.
    alpha = letters == "YXC" and shape[2] == 4 and array.dtype == np.uint8
    return Layout(shape, letters, alpha=alpha, itemsize=itemsize)


def _nifti_layout(path: Path, axes: str | None) -> Layout:
    shape, letters, itemsize = nifti_axes(path)
    if letters.startswith("C") and shape[0] > MAX_CHANNELS:
        letters = letters.replace("C", "P")
    return Layout(shape, _check_axes(shape, axes or letters, path), itemsize=itemsize)


def _layout(path: Path, axes: str | None) -> Layout:
    kind = file_kind(path)
    if kind == "tiff":
        _require_pages(path)
        with open_tiff(path) as tiff:
            kept = tiff.series[0].dtype
            layout = replace(_tiff_layout(tiff, path, axes), black=_black_of(tiff))
            return replace(layout, itemsize=None if kept is None else kept.itemsize)
    if kind == "npy":
        return _npy_layout(path, axes)
    return _nifti_layout(path, axes) if kind == "nifti" else _pillow_layout(path, kind, axes)


def read_layout(path: Path, *, axes: str | None = None) -> Layout:
    """How many pages of which size the file holds, from its header; DataError for an unreadable or shortened file."""
    path = Path(path)
    with reading(path):
        layout = _layout(path, axes)
        if 0 in layout.shape:
            raise DataError(f"{path}: expected at least one pixel, found sizes {layout.shape}; save it again")
        return layout


def n_pages(path: Path, *, axes: str | None = None) -> int:
    """How many planes (height, width) the file holds: what `page` of `read_image` counts."""
    return read_layout(path, axes=axes).n_pages
