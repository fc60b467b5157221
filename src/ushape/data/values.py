"""Mask files as numbers, before anybody knows what the numbers mean, and the facts of a mask that help to find out.

A value is what stands in the file: a class number or an id, or for masks in colours a packed colour (see `colours`).
Masks of two values that were blurred by JPEG, smoothing or resizing are taken to their two values (see `ghosts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from ushape.data.colours import is_packed, name_of_colour, pack_colour, pack_colours, read_palette, unpack_colour
from ushape.data.dataset import Colour
from ushape.data.ghosts import MAX_COUNTED, count_values, snap_to_two
from ushape.data.headers import file_kind
from ushape.data.images import is_grey, read_image, read_layout, read_mask
from ushape.data.object_pages import OBJECTS, read_object_pages
from ushape.data.seams import solid_and_seams
from ushape.errors import DataError

__all__ = [
    "MaskFacts",
    "find_pieces",
    "listed",
    "mask_facts",
    "read_facts",
    "read_values",
    "replace_values",
    "told",
    "values_to_colours",
]

Mask = NDArray[np.int32]

# The largest piece of a connected object holds nearly all of its pixels; hand-drawn ones have a stray pixel or two.
MAIN_PIECE_SHARE = 0.95
MAX_VALUES_TOLD = 8
JPEG_WHITE = 255 - 16  # a JPEG of one value is white if it is brighter than this


@dataclass(frozen=True)
class MaskFacts:
    """What recognition needs of one mask.

    values     the different values, in order, without -1
    counts     the number of pixels of each value
    connected  the values above 0 whose pixels are one connected piece, up to stray pixels
    palette    the colour of each value, for palette pictures; else empty
    smoothed   whether JPEG or smoothing had left values between its two, which are not among `values`
    solid      the values with a pixel whose neighbours are all like it
    seams      the values that stand only between others, as resizing leaves them, see `seams`
    path       the file, for messages; None where there is none
    """

    values: tuple[int, ...]
    counts: tuple[int, ...]
    connected: tuple[int, ...]
    palette: tuple[Colour, ...] = ()
    smoothed: bool = False
    solid: tuple[int, ...] = ()
    seams: tuple[int, ...] = ()
    path: Path | None = field(default=None, compare=False)

    @property
    def ids(self) -> tuple[int, ...]:
        """The values above 0."""
        return tuple(v for v in self.values if v > 0)

    @property
    def n_connected(self) -> int:
        """How many ids are one connected piece."""
        return len(self.connected)

    @property
    def in_colours(self) -> bool:
        """Whether the values are packed colours."""
        return any(is_packed(v) for v in self.values)

    def without(self, values: tuple[int, ...]) -> MaskFacts:
        """The facts as if no pixel had one of these values."""
        kept = [i for i, v in enumerate(self.values) if v not in values]
        return replace(
            self,
            values=tuple(self.values[i] for i in kept),
            counts=tuple(self.counts[i] for i in kept),
            connected=tuple(v for v in self.connected if v not in values),
            palette=tuple(self.palette[i] for i in kept if self.palette),
            solid=tuple(v for v in self.solid if v not in values),
            seams=tuple(v for v in self.seams if v not in values),
        )

    def to_colours(self) -> MaskFacts:
        """The same facts with packed colours as values."""
        if self.in_colours or not self.values:
            return self
        colours = self.palette or tuple(_grey_colour(v) for v in self.values)
        new = {v: pack_colour(c) for v, c in zip(self.values, colours, strict=True)}
        counts = dict.fromkeys(sorted(new.values()), 0)
        for value, n in zip(self.values, self.counts, strict=True):
            counts[new[value]] += n
        return replace(
            self,
            values=tuple(counts),
            counts=tuple(counts.values()),
            connected=tuple(new[v] for v in self.connected),
            palette=(),
            solid=tuple(new[v] for v in self.solid),
            seams=tuple(new[v] for v in self.seams),
        )


def told(value: int) -> str:
    """A value in words: a number, or a colour by its name."""
    return name_of_colour(unpack_colour(value)) if is_packed(value) else str(value)


def listed(values: Sequence[int]) -> str:
    """A few values in words: '0, 1 and 255'."""
    words = [told(v) for v in values]
    if len(words) > MAX_VALUES_TOLD:
        words = [*words[: MAX_VALUES_TOLD - 2], "...", words[-1]]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def find_pieces(mask: Mask, *, corners: bool = False) -> Mask:
    """Connected pieces of equal value > 0, numbered from 1.

    corners  whether pieces that touch at a corner only are connected; as objects they are two
    """
    label_pieces: Any = label  # scikit-image has no types here
    connectivity = mask.ndim if corners else 1
    return np.asarray(label_pieces(np.maximum(mask, 0), background=0, connectivity=connectivity), np.int32)


def mask_facts(values: Mask) -> MaskFacts:
    """The facts of the values (*space) of one mask."""
    # An object drawn by hand may hang together by a corner.
    pieces = find_pieces(values, corners=True).ravel()
    sizes = np.bincount(pieces)
    value_of_piece = np.zeros(len(sizes), np.int64)
    value_of_piece[pieces] = values.ravel()
    ids, owners = np.unique(value_of_piece[1:], return_inverse=True)
    largest = np.zeros(len(ids), np.int64)
    np.maximum.at(largest, owners, sizes[1:])
    whole = np.bincount(owners, sizes[1:], minlength=len(ids))
    found, counts = count_values(values)
    present = found >= 0
    solid, seams = solid_and_seams(values)
    return MaskFacts(
        tuple(int(v) for v in found[present]),
        tuple(int(n) for n in counts[present]),
        tuple(int(v) for v in ids[largest >= MAIN_PIECE_SHARE * whole]),
        solid=solid,
        seams=seams,
    )


def _grey_colour(value: int) -> Colour:
    grey = min(value, 255)
    return grey, grey, grey


def replace_values(values: Mask, old: NDArray[Any], new: Sequence[int]) -> Mask:
    """The mask with old[i] replaced by new[i]; `old` holds all of its values, in order."""
    if len(old) and old[0] >= -1 and old[-1] <= MAX_COUNTED:
        table = np.zeros(int(old[-1]) + 2, np.int32)
        table[old + 1] = new
        return table[values + 1]
    return np.asarray(new, np.int32)[np.searchsorted(old, values)]


def values_to_colours(values: Mask, palette: tuple[Colour, ...]) -> Mask:
    """Indices of a palette, or greys where it is empty, as packed colours; packed colours and -1 stay."""
    found = count_values(values)[0]
    packed = [
        v if v < 0 or is_packed(v) else pack_colour(palette[v] if v < len(palette) else _grey_colour(v))
        for v in found.tolist()
    ]
    return replace_values(values, found, packed)


def _snapped(planes: NDArray[Any], *, jpeg: bool = False) -> Mask | None:
    """Two values behind JPEG or smoothing, as grey values or packed colours; None where there are none."""
    if planes.shape[0] == 3 and is_grey(planes):
        planes = planes[:1]
    snapped = snap_to_two(planes, jpeg=jpeg)
    if snapped is None:
        return None
    return snapped[0] if len(snapped) == 1 else pack_colours(snapped)


def _read_jpeg(path: Path, page: int | None, axes: str | None) -> Mask:
    planes = read_image(path, page=page, axes=axes)
    if planes.max(initial=0) == 0:
        return np.zeros(planes.shape[1:], np.int32)
    if planes.min() > JPEG_WHITE:
        return np.full(planes.shape[1:], 255, np.int32)
    snapped = _snapped(planes, jpeg=True)
    if snapped is None:
        raise DataError(
            f"{path}: expected a mask in a format that keeps its values, found JPEG, which blurs them, and more than "
            "two values; export the mask again as PNG or TIFF"
        )
    return snapped


def _read_colours(path: Path, page: int | None, axes: str | None) -> NDArray[Any] | None:
    """The planes (3, *space) of a colour picture; None for every other file and where the channels are all the same."""
    if read_layout(path, axes=axes).length("C") not in (3, 4) or read_palette(path):
        return None
    planes = read_image(path, page=page, axes=axes)
    return None if is_grey(planes) or planes.shape[0] != 3 else planes


def _read_numbers(path: Path, page: int | None, axes: str | None) -> tuple[Mask | None, NDArray[Any] | None]:
    """The numbers of a mask that has one for each pixel, and the planes to look for two blurred values in.

    Numbers between the whole ones are no mask, but may be a blurred one: then there are planes only. The indices of a
    palette picture say nothing about nearness, so its planes are what one sees.
    """
    try:
        values = read_mask(path, page=page, axes=axes)
    except DataError:
        planes = read_image(path, page=page, axes=axes)
        if planes.dtype.kind != "f":
            raise
        return None, planes
    return values, read_image(path, page=page) if read_palette(path) else values[None]


def _read_raw(path: Path, page: int | None, axes: str | None, *, snap: bool) -> tuple[Mask, bool]:
    """The values, and whether they had to be taken to the nearer of two."""
    if file_kind(path) == "jpeg" and snap:
        return _read_jpeg(path, page, axes), True
    values: Mask | None = None
    if axes is not None and OBJECTS in axes:
        return read_object_pages(path, axes), False
    planes = _read_colours(path, page, axes)
    if planes is not None:
        values = pack_colours(planes)
    else:
        values, planes = _read_numbers(path, page, axes)
    snapped = _snapped(planes) if snap and planes is not None else None
    if snapped is not None:
        return snapped, True
    return (read_mask(path, page=page, axes=axes) if values is None else values), False


def read_values(path: Path, page: int | None = None, axes: str | None = None, *, snap: bool = True) -> Mask:
    """The values of a mask file, (*space) int32: numbers as they stand in it, palette indices, or packed colours.

    page, axes  as in `read_image`; pages that the axes call by `OBJECTS` are merged
    snap        whether a blurred mask of two values (also JPEG) is taken to its two; else it is read as it is

    DataError for what `read_mask` refuses, for example probabilities, or JPEG with more than two values.
    """
    return _read_raw(Path(path), page, axes, snap=snap)[0]


def read_facts(path: Path, page: int | None = None, axes: str | None = None) -> MaskFacts:
    """The facts of a mask file, with its palette and whether it is blurred; the rest as in `read_values`."""
    values, smoothed = _read_raw(Path(path), page, axes, snap=True)
    facts = mask_facts(values)
    palette = () if smoothed else read_palette(Path(path))
    colours = tuple(palette[v] for v in facts.values if v < len(palette))
    # A palette that shows two values alike, or all in grey, tells nothing that the values do not.
    telling = len(set(colours)) == len(facts.values) and any(len(set(colour)) > 1 for colour in palette)
    return replace(facts, palette=colours if telling else (), smoothed=smoothed, path=Path(path))
