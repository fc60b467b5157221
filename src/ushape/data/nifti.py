"""NIfTI, the format of medical volumes: read and written through nibabel (the extra `medical`).

NIfTI counts its dimensions fastest first: x, y, z, then time, then components. Here everything is told the other way
round, as NumPy stores it: (components, time, z, y, x), dimensions of one entry beyond x and y left out. Volumes keep
the orientation they are stored in; nothing is turned towards the patient's axes.

References: NIfTI-1.1 and NIfTI-2 (nifti.nimh.nih.gov); RFC 1952 for the length at the end of a gzip file.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError

__all__ = ["Index", "nifti_axes", "nifti_bytes", "nifti_zooms", "read_nifti"]

AnyArray = NDArray[Any]
Index = tuple[int | slice, ...]
"""For each dimension of a layout the whole of it, or the one entry that is wanted."""

GZIP_MAGIC = b"\x1f\x8b"
# The first number of a NIfTI-2 file is the size of its header, in either byte order; NIfTI-1 has 348.
NIFTI2_SIZES = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))
# RGB24 and RGBA32 store red, green and blue as the fields of one value; alpha is no colour.
N_COLOURS = 3
# Farther than this from a whole number a scaled mask value is no rounding error, however coarse the scaling is.
MAX_ROUNDING = 0.25


def _nibabel(path: Path) -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise DataError(
            f"{path}: expected the package nibabel, which knows the format NIfTI, found none; "
            'install it with pip install "ushape[medical]"'
        ) from error
    # It would write a line about each odd header whenever one is read; what makes a file unusable is raised anyway.
    nibabel.imageglobals.logger.setLevel("ERROR")
    return nibabel


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The nibabel image of a file, compressed or not whatever its name says; pixels can be read while it is open."""
    nibabel = _nibabel(path)
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
    with gzip.open(path) if compressed else path.open("rb") as file:
        second = file.read(4) in NIFTI2_SIZES
        file.seek(0)
        yield (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(file)


def _kept(shape: tuple[int, ...]) -> list[int]:
    """The dimensions in the file's order that count: x, y, and the others that have more than one entry."""
    return [axis for axis, n in enumerate(shape) if axis < 2 or n > 1]


def _require_length(path: Path, n_bytes: int) -> None:
    """The file holds at least `n_bytes`, uncompressed; the length noted at a gzip file's end proves it cheaply."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
        size = file.seek(0, 2)
        if compressed:
            file.seek(max(0, size - 4))
            # The note counts modulo 2**32 and only the last of several members; other files have to be unpacked.
            if int.from_bytes(file.read(), "little") == n_bytes % 2**32:
                return
    if compressed:
        with gzip.open(path) as unpacked:
            size = sum(len(block) for block in iter(lambda: unpacked.read(1 << 20), b""))
    if size < n_bytes:
        raise ValueError("the file ends too early")


def nifti_axes(path: Path) -> tuple[tuple[int, ...], str, int]:
    """(shape, axes, bytes of a value as it is read as an image) of a NIfTI file.

    Slowest first: axes ZYX or YX, before them C for the last further dimension.

    Colours that are stored as one value (RGB24) are a last dimension C. Whatever nibabel raises is passed on, and
    ValueError for a file that was cut short.
    """
    with _opened(path) as image:
        shape, kind = image.shape, image.get_data_dtype()
        _require_length(path, int(image.dataobj.offset) + math.prod(shape) * int(kind.itemsize))
        scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    kept = _kept(shape)
    n_more = sum(axis > 2 for axis in kept)
    letters = "XYZ"[: len(kept) - n_more] + "T" * (n_more - 1) + "C" * (n_more > 0)
    sizes, axes = tuple(int(shape[axis]) for axis in reversed(kept)), letters[::-1]
    if kind.fields is None:
        return sizes, axes, np.dtype(np.float32).itemsize if scaled else int(kind.itemsize)
    return (*sizes, N_COLOURS), axes.replace("C", "T") + "C", 1


def _whole(values: AnyArray, slope: float) -> AnyArray:
    """Scaled values of a mask as the whole numbers they were, if all are within half a step of the scaling."""
    near = np.rint(values)
    tolerance = min(0.51 * abs(slope), MAX_ROUNDING)
    return near if (np.abs(values - near) <= tolerance).all() else values


def read_nifti(path: Path, index: Index | None = None, *, mask: bool = False) -> AnyArray:
    """The array of a NIfTI file in the order of `nifti_axes`, or the part of it at `index`; only that part is read.

    Stored values are scaled by the file's slope and intercept to float32 where it has some, and keep their type
    otherwise. A mask is scaled to whole numbers.
    """
    with _opened(path) as image:
        kept = _kept(image.shape)
        take: list[int | slice] = [0] * len(image.shape)
        for axis, part in zip(reversed(kept), index or [slice(None)] * len(kept), strict=False):
            take[axis] = part
        proxy = image.dataobj
        scaled = (proxy.slope, proxy.inter) != (1, 0)
        if scaled and not mask and index is None:
            values = np.asarray(proxy, np.float32).reshape([image.shape[axis] for axis in kept], order="F")
        else:
            values = np.asarray(proxy[tuple(take)])
        slope = float(proxy.slope)
        file = image.file_map["image"].fileobj
        if index is None and isinstance(file, gzip.GzipFile):
            file.read()  # the checksum stands at the end and is compared when that is reached
    values = values.transpose()
    if values.dtype.fields is not None:
        return np.asarray(np.stack([values[name] for name in list(values.dtype.fields)[:N_COLOURS]], axis=-1))
    if scaled and not mask:
        values = values.astype(np.float32, copy=False)
    return _whole(values, slope) if scaled and mask else values


def nifti_zooms(path: Path) -> tuple[tuple[float, ...], str] | None:
    """The distances of pixels along (z,) y, x and their unit ("mm", "micron", "meter"); None where nobody set them."""
    with _opened(path) as image:
        unit = image.header.get_xyzt_units()[0]
        kept = [axis for axis in _kept(image.shape) if axis < 3]
        zooms = tuple(float(image.header.get_zooms()[axis]) for axis in reversed(kept))
    if unit == "unknown":
        # Ones without a unit are what a program leaves that knows nothing; other numbers are millimetres by custom.
        return None if set(zooms) == {1.0} else (zooms, "mm")
    return zooms, unit


def nifti_bytes(
    path: Path, labels: NDArray[np.integer[Any]], like: Path | None, zooms: tuple[tuple[float, ...], str] | None
) -> bytes:
    """The file for labels (depth, height, width) or (height, width), uncompressed.

    path   to name in messages
    like   a NIfTI file of the same size, whose place in space (affine, codes, units) the labels take
    zooms  without `like`: the distances along (z,) y, x in "mm" or "micron"
    """
    nibabel = _nibabel(path)
    array = labels.transpose()
    if like is None:
        values, unit = zooms or ((1.0,) * labels.ndim, "unknown")
        image = nibabel.Nifti1Image(array, np.diag([*values[::-1], *[1.0] * (4 - len(values))]))
        image.header.set_xyzt_units(unit)
        return bytes(image.to_bytes())
    with _opened(like) as source:
        shape, affine, header = source.shape[:3], source.affine, source.header.copy()
    if tuple(n for n in shape[2:] if n > 1) != array.shape[2:] or shape[:2] != array.shape[:2]:
        raise DataError(
            f"{path}: expected labels of the size of {like}, {shape[::-1]}, found {labels.shape}; "
            "name the image they belong to"
        )
    header.set_data_dtype(array.dtype)
    return bytes(nibabel.Nifti1Image(array.reshape(shape), affine, header).to_bytes())
