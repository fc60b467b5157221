"""The pages of one file, one after the other.

To open a file of a thousand pages takes up to a third of a second, and each page would pay for it: a file that fits
into memory is read at once. One that does not, or that has a damaged page, is read page by page.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ushape.data.headers import Layout, read_layout
from ushape.errors import DataError

__all__ = ["Pages", "bytes_at_once"]

MOST_VALUES = 2**28
"""Pixels, over all pages and channels, that are read at once: half a gigabyte of 16-bit images."""


class Read(Protocol):
    """`read_image` or `read_mask`."""

    def __call__(self, path: Path, *, page: int | None = None, axes: str | None = None) -> NDArray[Any]:
        """The array (..., height, width) of a page, or (..., depth, height, width) of a volume."""


def fits(layout: Layout) -> bool:
    """Whether all pages can be read as the slices of one volume that is not too large."""
    one_axis = sum(axis in "PZ" for axis in layout.axes) == 1
    return one_axis and layout.n_pages > 1 and not layout.alpha and math.prod(layout.shape) <= MOST_VALUES


def bytes_at_once(layout: Layout, page: int | None) -> int | None:
    """Bytes of the array that is read when a page, or for None all of the file, is asked for first.

    None where the header does not tell.
    """
    if layout.nbytes is None or page is None or fits(layout):
        return layout.nbytes
    return layout.nbytes // layout.n_pages


@dataclass
class Pages:
    """The pages of a file, each as `read(path, page=page, axes=axes)` gives it."""

    read: Read
    path: Path
    axes: str | None = None
    whole: NDArray[Any] | None = None
    opened: bool = False

    def open(self) -> None:
        """Read all pages where that is possible."""
        self.opened = True
        layout = read_layout(self.path, axes=self.axes)
        if fits(layout):
            # What is wrong is told when the page in question is asked for.
            with suppress(DataError, MemoryError):
                self.whole = self.read(self.path, axes=layout.axes.replace("P", "Z"))

    def __call__(self, page: int | None) -> NDArray[Any]:
        """One page, or for None all of the file."""
        if page is not None and not self.opened:
            self.open()
        if page is None or self.whole is None:
            return self.read(self.path, page=page, axes=self.axes)
        taken: NDArray[Any] = np.take(self.whole, page, axis=-3)
        return taken
