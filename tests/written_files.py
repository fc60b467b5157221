"""Small image files as people's programs write them, for the tests of layouts."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SIZE = (24, 32)
IMAGE = np.random.default_rng(7).integers(0, 255, SIZE, dtype=np.uint8)
BINARY = np.where(np.add.outer(np.arange(24), np.arange(32)) % 9 < 4, 255, 0).astype(np.uint8)


def save(path: Path, array: np.ndarray = IMAGE, **options) -> Path:
    """A TIFF (tifffile), .npy (numpy), NIfTI (nibabel, the array as (Z, Y, X)) or picture (Pillow)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    elif path.suffix == ".npy":
        np.save(path, array)
    elif ".nii" in path.suffixes:
        import nibabel

        # A NIfTI file has X first; the channels, if any, come last.
        nibabel.Nifti1Image(np.ascontiguousarray(array.T), np.eye(4)).to_filename(path)
    else:
        Image.fromarray(array).save(path, **options)
    return path


def blobs(*values: int, size: tuple[int, ...] = SIZE) -> np.ndarray:
    """A mask uint8 with a block of each value, side by side on 0, that do not touch."""
    mask = np.zeros(size, np.uint8)
    for i, value in enumerate(values):
        mask[..., 3:9, 2 + 6 * i : 6 + 6 * i] = value
    return mask


def touch(path: Path) -> Path:
    """A file with something in it that is no image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path
