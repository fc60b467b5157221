"""IDX files, the format of MNIST and of the sets made in its likeness, become datasets for classification.

A file is four bytes (0, 0, the type's code, the number of axes), the length of each axis as a big-endian uint32, and
the values, big-endian as well; it may be compressed with gzip, which is recognised by content. A folder holds a file
of images (n, height, width) and a file of labels (n,) for each part, such as `train-images-idx3-ubyte.gz` and
`train-labels-idx1-ubyte.gz`; what is for testing is called `t10k` or `test`.

Opening reads the labels and the length of the images. The images are read once, when the first is asked for, and all
samples share them: 60,000 images of 28 x 28 take 47 MB.

Reference: LeCun, Cortes and Burges, the MNIST database of handwritten digits, http://yann.lecun.com/exdb/mnist
"""

from __future__ import annotations

import gzip
import math
import threading
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError

__all__ = ["idx_parts", "is_idx_folder", "open_idx", "read_idx"]

GZIP = b"\x1f\x8b"
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PARTS = {"train": ("train",), "test": ("t10k", "test")}
"""What the files of a part have in their names."""

MAX_AXES = 8  # a file with more is no IDX file that anybody writes
MAX_CLASSES = 100_000  # more labels than this are not labels


def _open(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise DataError(
            f"{path}: expected an IDX file, found {'a folder' if path.is_dir() else 'nothing'}; check the path"
        )
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    return cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb")


def _read_header(path: Path, file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """(type, shape) of the values that follow."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES or not 1 <= start[3] <= MAX_AXES:
        raise DataError(
            f"{path}: expected an IDX file, which starts with two zeros, a type and a number of axes, "
            f"found {start.hex(' ') or 'nothing'}; get the file again"
        )
    lengths = file.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise DataError(f"{path}: expected the lengths of {start[3]} axes, found the end of the file; get it again")
    return np.dtype(TYPES[start[2]]), tuple(int(n) for n in np.frombuffer(lengths, ">u4"))


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: expected an IDX file, found one that is damaged ({error}); get the file again")


def read_idx(path: Path) -> NDArray[Any]:
    """All values of an IDX file, plain or gzip, in this machine's byte order; the array cannot be written to.

    DataError when the file is missing, is no IDX file, or holds more or fewer values than its shape says.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            dtype, shape = _read_header(path, file)
            values = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    expected = math.prod(shape) * dtype.itemsize
    if len(values) != expected:
        raise DataError(
            f"{path}: expected {expected} bytes for shape {shape}, found {len(values)}; "
            f"the file is {'cut off' if len(values) < expected else 'too long'}, get it again"
        )
    array = np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


def _shape(path: Path) -> tuple[int, ...]:
    """The shape that an IDX file states; its values are not looked at."""
    try:
        with _open(path) as file:
            return _read_header(path, file)[1]
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error


class _Images:
    """The images of one file, read when the first is asked for; many threads may ask at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._array: NDArray[Any] | None = None

    def read(self, index: int) -> NDArray[Any]:
        """One image (1, H, W); a copy, so that nobody changes it for the others."""
        with self._lock:
            if self._array is None:
                self._array = read_idx(self.path)
            array = self._array
        image: NDArray[Any] = array[index][None].copy()
        return image


def _files(folder: Path, part: str) -> tuple[list[Path], list[Path]]:
    """(images, labels) of a part: names such as train-images-idx3-ubyte.gz, of which a plain copy comes first."""
    found: tuple[list[Path], list[Path]] = ([], [])
    for path in sorted(folder.iterdir(), key=lambda p: (p.suffix == ".gz", p.name)):
        name = path.name.lower().removesuffix(".gz")
        if name.startswith(".") or "idx" not in name or not any(word in name for word in PARTS[part]):
            continue
        kind = found[0] if "images" in name else found[1] if "labels" in name else None
        if kind is not None and path.is_file() and path.with_suffix("") not in kind:
            kind.append(path)
    return found


def idx_parts(folder: Path) -> tuple[str, ...]:
    """The parts, "train" or "test", of which a folder has IDX files with images; none for a folder without any."""
    folder = Path(folder)
    return tuple(part for part in PARTS if _files(folder, part)[0]) if folder.is_dir() else ()


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder holds images in IDX files."""
    return bool(idx_parts(folder))


def _only(folder: Path, part: str, what: str, paths: Sequence[Path]) -> Path:
    """The one file of a kind."""
    example = f"{PARTS[part][0]}-{what}-idx{3 if what == 'images' else 1}-ubyte.gz"
    if len(paths) != 1:
        found = " and ".join(p.name for p in paths) or "none"
        advice = "put each set into a folder of its own" if paths else "add it"
        raise DataError(f"{folder}: expected one file of {what} such as {example}, found {found}; {advice}")
    return paths[0]


def _read_labels(path: Path) -> NDArray[np.int64]:
    labels = read_idx(path)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise DataError(
            f"{path}: expected one whole number for each image, found {labels.dtype} of shape {labels.shape}; "
            "name a file of labels"
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < MAX_CLASSES:
        raise DataError(
            f"{path}: expected labels from 0 to {MAX_CLASSES - 1}, found {labels.min()} to {labels.max()}; "
            "number the classes from 0"
        )
    return labels.astype(np.int64)


def _n_classes(folder: Path) -> int:
    """How many classes the labels of all parts together need, so that each part has the same ones."""
    labels = [_read_labels(path) for part in PARTS for path in _files(folder, part)[1]]
    return 1 + max((int(values.max()) for values in labels if values.size), default=0)


def _checked_pair(folder: Path, part: str) -> tuple[Path, NDArray[np.int64], tuple[int, ...], tuple[Path, Path]]:
    """(the images' file, labels, the images' shape, both files) of a part."""
    images, labels = _files(folder, part)
    images_path, labels_path = _only(folder, part, "images", images), _only(folder, part, "labels", labels)
    shape, values = _shape(images_path), _read_labels(labels_path)
    if len(shape) != 3 or 0 in shape:
        raise DataError(
            f"{images_path}: expected grey images of shape (n, height, width), found {shape}; convert them to PNG"
        )
    if len(values) != shape[0]:
        raise DataError(
            f"{labels_path}: expected a label for each of the {shape[0]} images, found {len(values)}; "
            "get both files again"
        )
    return images_path, values, shape, (images_path, labels_path)


def open_idx(folder: Path, part: str, name: str | None = None, classes: Sequence[str] = ()) -> Dataset:
    """One part of a folder of IDX files as a dataset for classification, of samples called train_00017 and so on.

    part     "train" or "test"
    name     the dataset's name; the folder's name by default
    classes  names by label; the numbers themselves ("0", "1", ...) by default

    DataError when the part is not there, when images and labels do not belong together, and when there are more
    labels than `classes`. The images are checked against their shape when the first is read.
    """
    folder = Path(folder)
    if part not in idx_parts(folder):
        raise DataError(
            f"{folder}: expected a part called '{part}', found {', '.join(idx_parts(folder)) or 'no IDX files'}; "
            "name one of them"
        )
    path, labels, shape, files = _checked_pair(folder, part)
    n_classes = _n_classes(folder)
    if classes and n_classes > len(classes):
        raise DataError(f"{files[1]}: expected labels below {len(classes)}, found {n_classes - 1}; get the file again")
    images, digits = _Images(path), len(str(shape[0] - 1))
    samples = tuple(
        Sample(f"{part}_{i:0{digits}d}", partial(images.read, i), files=files, label=label)
        for i, label in enumerate(labels.tolist())
    )
    finding = f"{path.name}: {shape[0]} grey images of {shape[1]} x {shape[2]}, each with a label: classification."
    return Dataset(
        name or folder.resolve().name,
        samples,
        "classification",
        tuple(classes) or tuple(str(i) for i in range(n_classes)),
        (finding,),
    )
