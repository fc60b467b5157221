"""Objects that are drawn apart, one in each page of a mask file or in each mask file, become ids of one mask.

    27 pages of 0 and 255 beside an image of one page     one object on each

`OBJECTS` is the letter of such pages in axes: "OYX". What else may be stacked beside an image of one page, the slices
of a volume say, is refused: a page of an object holds one value beside 0, mostly in one piece, and hides little of the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from ushape.data.images import read_mask
from ushape.errors import DataError

__all__ = ["OBJECTS", "merged_objects", "read_object_pages"]

Mask = NDArray[np.int32]

OBJECTS = "O"
WHOLE_SHARE = 0.75  # of all objects are one piece; some are cut in two by what lies on them
VISIBLE_SHARE = 0.5  # of all pixels of the objects are not hidden by others; slices of a volume hide each other


def merged_objects(objects: Sequence[NDArray[np.intp]], size: tuple[int, ...]) -> Mask:
    """Objects as the flat indices of their pixels, merged to instances 1..n of this size in their order.

    Where objects overlap, the smaller one is on top, and of equal ones the later; an object wholly covered gets no id.
    """
    merged = np.zeros(int(np.prod(size)), np.int32)
    for index in sorted(range(len(objects)), key=lambda i: (-len(objects[i]), i)):
        merged[objects[index]] = index + 1
    visible = np.bincount(merged, minlength=len(objects) + 1) > 0
    visible[0] = False
    ids = np.where(visible, np.cumsum(visible), 0).astype(np.int32)
    return ids[merged].reshape(size)


def _is_whole(page: Mask) -> bool:
    """Whether the pixels above 0 are one piece, corners counted."""
    label_pieces: Any = label  # scikit-image has no types here
    return bool(label_pieces(page > 0, connectivity=page.ndim).max() <= 1)


def read_object_pages(path: Path, axes: str) -> Mask:
    """A mask file with one object on each page, merged to instances 1..n (H, W) in the order of the pages.

    axes  with `OBJECTS` for the pages

    DataError when the pages hold something else.
    """
    pages = read_mask(path, axes=axes.replace(OBJECTS, "Z"))
    drawn = [page for page in pages if page.any()]
    objects = [np.flatnonzero(page > 0) for page in drawn]
    merged = merged_objects(objects, pages.shape[1:])
    several = any(len(np.unique(page[page != 0])) > 1 for page in drawn)
    n_whole, n_pixels = sum(map(_is_whole, drawn)), sum(map(len, objects))
    if several or n_whole < WHOLE_SHARE * len(drawn) or np.count_nonzero(merged) < VISIBLE_SHARE * n_pixels:
        raise DataError(
            f"{path}: expected one page like the image's, or one object on each page, found {len(pages)} pages of "
            "something else; number the objects 1, 2, 3, ... in one page"
        )
    return merged
