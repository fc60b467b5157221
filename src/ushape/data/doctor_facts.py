"""What the data doctor keeps of one sample.

An image and its mask are looked at once and forgotten; the facts of a sample are some hundred numbers, so those of
thousands of samples fit into memory, and every judgement is made on them. Nothing on disk is changed.

Conventions: image (C, *space), mask (*space) int32 with 0 = background and -1 = ignore. An object is what has one id;
its pieces are connected where they touch at a side or at a corner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from ushape.data.dataset import Sample
from ushape.data.headers import composed
from ushape.data.images import is_grey
from ushape.errors import UshapeError

__all__ = ["SPECK", "Annotation", "Facts", "inspect_arrays", "inspect_sample"]

Image = NDArray[Any]
Mask = NDArray[np.int32]
Counts = NDArray[np.int64]

SPECK = 3  # px below which an object or a piece is a slip of the brush
COUNTED_LEVELS = 1 << 16  # a range of integers up to this has its values counted; a larger one has its ends looked at
COUNTED_AT_ONCE = 1 << 22  # px; numpy counts in 64 bit, and large images shall not be copied as a whole


@dataclass(frozen=True)
class Annotation:
    """What is kept of a mask: parallel tuples with one entry for each value from 0 up, in rising order.

    areas      pixels
    n_pieces   connected pieces; 0 for the background
    spares     pixels of the largest piece but one; 0 where there is one piece
    n_specks   connected pieces above background of fewer than SPECK px
    n_touching values above 0 that touch another of them
    n_ignored  pixels of -1
    surround   the value above 0 that covers most pixels and lies on all sides of the mask; None where none does
    """

    size: tuple[int, ...]
    values: tuple[int, ...]
    areas: tuple[int, ...]
    n_pieces: tuple[int, ...]
    spares: tuple[int, ...]
    n_specks: int
    n_touching: int
    n_ignored: int
    surround: int | None
    digest: str

    @property
    def n_pixels(self) -> int:
        """Pixels of the mask, ignored ones too."""
        return int(np.prod(self.size))

    @property
    def ids(self) -> tuple[int, ...]:
        """The indices of the values above 0 in the parallel tuples."""
        return tuple(index for index, value in enumerate(self.values) if value > 0)

    @property
    def empty(self) -> bool:
        """Nothing but background and ignored pixels."""
        return not self.ids


@dataclass(frozen=True)
class Facts:
    """What is kept of one sample.

    problem    why it cannot be read; the facts below are then unknown
    grey       one channel, or several that are the same
    ranges     (lowest, highest) value of each channel; NaN and infinite ones do not count
    n_levels   different values in the image; None where they were not counted (real numbers, wide ranges)
    saturated  share of values that are the image's highest one
    n_invalid  NaN and infinite values
    copy       the image shows nothing but its mask: one grey value for each value of the mask
    """

    name: str
    where: str
    group: str = ""
    label: int | None = None
    problem: str = ""
    size: tuple[int, ...] = ()
    channels: int = 0
    dtype: str = ""
    grey: bool = True
    ranges: tuple[tuple[float, float], ...] = ()
    n_levels: int | None = None
    saturated: float = 0.0
    n_invalid: int = 0
    digest: str = ""
    annotation: Annotation | None = None
    copy: bool = False

    @property
    def annotated(self) -> bool:
        """Whether there is a mask or a label."""
        return self.annotation is not None or self.label is not None

    @property
    def same_size(self) -> bool:
        """Whether the mask, if there is one, has the size of the image."""
        return self.annotation is None or self.annotation.size == self.size

    @property
    def usable(self) -> bool:
        """Whether training takes it: read, finite, and of the size of its mask."""
        return not self.problem and not self.n_invalid and self.same_size

    @property
    def low(self) -> float:
        """The lowest value of all channels."""
        return min(low for low, _ in self.ranges)

    @property
    def high(self) -> float:
        """The highest value of all channels."""
        return max(high for _, high in self.ranges)


def _count(values: NDArray[np.integer[Any]], low: int, n: int) -> Counts:
    """How often each of low .. low+n-1 occurs, (n,) int64."""
    flat, counts = values.reshape(-1), np.zeros(n, np.int64)
    for start in range(0, flat.size, COUNTED_AT_ONCE):
        part = flat[start : start + COUNTED_AT_ONCE]
        counts += np.bincount(part if low == 0 else part.astype(np.int64) - low, minlength=n)
    return counts


def _digest(array: NDArray[Any]) -> str:
    """A hash of type, shape and values: the same for the same array."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:32]


def _renumbered(mask: Mask) -> tuple[Mask, list[int], Counts]:
    """(places, values, areas): the mask as indices into its values from 0 up, -1 for ignored pixels.

    Ids may be huge (a packed colour), and whatever is counted or boxed by id costs as much as the largest one.
    """
    high = int(mask.max())
    if high >= COUNTED_LEVELS:
        found, inverse, counts = np.unique(mask, return_inverse=True, return_counts=True)
        n_ignored = int((found < 0).sum())
        places = inverse.reshape(mask.shape).astype(np.int32) - n_ignored
        return np.maximum(places, -1), found[n_ignored:].tolist(), counts[n_ignored:]
    counts = _count(mask, -1, high + 2)[1:]
    values = np.flatnonzero(counts)
    lookup = np.full(high + 2, -1, np.int32)  # its last place is read for -1
    lookup[values] = np.arange(len(values), dtype=np.int32)
    places = mask if len(values) == high + 1 else lookup[mask]
    return places, values.tolist(), counts[values]


def _n_touching(places: Mask) -> int:
    """Values above 0 with a pixel beside a pixel of another one; `places` numbers the objects from 1."""
    touching = np.zeros(int(places.max(initial=0)) + 1, bool)
    for axis in range(places.ndim):
        along = np.moveaxis(places, axis, 0)
        one, other = along[1:], along[:-1]
        meet = (one != other) & (one > 0) & (other > 0)
        touching[one[meet]] = touching[other[meet]] = True
    return int(touching.sum())


def _pieces(places: Mask, n: int) -> tuple[Counts, Counts, int]:
    """(n_pieces, spares, n_specks) of the objects 1..n-1 of `places`; entry 0 is 0."""
    find_pieces: Any = label  # scikit-image has no types here
    pieces = np.asarray(find_pieces(places, background=0, connectivity=places.ndim))
    areas = _count(pieces, 0, int(pieces.max(initial=0)) + 1)
    owner = np.zeros(len(areas), np.int64)
    owner[pieces.reshape(-1)] = places.reshape(-1)
    areas, owner = areas[1:], owner[1:]
    n_pieces, spares = np.bincount(owner, minlength=n), np.zeros(n, np.int64)
    order = np.lexsort((-areas, owner))  # by object, its largest piece first
    second = np.cumsum(n_pieces) - n_pieces + 1
    several = n_pieces > 1
    spares[several] = areas[order][second[several]]
    return n_pieces, spares, int((areas < SPECK).sum())


def _surround(places: Mask, values: Sequence[int], areas: Counts) -> int | None:
    """The value above 0 that covers more than half of the pixels and lies on all sides, as a background does."""
    most = int(areas.argmax()) if len(areas) else 0
    if not values or values[most] <= 0 or 2 * areas[most] <= places.size:
        return None
    sides = [places.take(end, axis) for axis in range(places.ndim) for end in (0, -1)]
    return values[most] if all((side == most).any() for side in sides) else None


def _annotation(mask: Mask) -> tuple[Annotation, Mask]:
    """(what is kept of a mask, the mask as indices into its values)."""
    places, values, areas = _renumbered(np.maximum(mask, -1))
    # Objects have to be numbered from 1 even where a mask has no background.
    shift = 0 if values and values[0] == 0 else 1
    numbered = places + shift if shift else np.maximum(places, 0)
    n = len(values) + shift
    n_pieces, spares, n_specks = _pieces(numbered, n)
    annotation = Annotation(
        size=mask.shape,
        values=tuple(values),
        areas=tuple(areas.tolist()),
        n_pieces=tuple(n_pieces[shift:].tolist()),
        spares=tuple(spares[shift:].tolist()),
        n_specks=n_specks,
        n_touching=_n_touching(numbered),
        n_ignored=mask.size - int(areas.sum()),
        surround=_surround(places, values, areas),
        digest=_digest(mask),
    )
    return annotation, places


def _levels(image: Image, ranges: Sequence[tuple[float, float]]) -> tuple[int | None, float]:
    """(number of different values or None, share of the values that are the highest one)."""
    high = max(high for _, high in ranges)
    if image.dtype.kind in "ui":
        low = int(min(low for low, _ in ranges))
        if int(high) - low < COUNTED_LEVELS:
            # Counting from 0 where it costs little spares a copy in another type.
            low = low if low < 0 or high >= COUNTED_LEVELS else 0
            counts = _count(image, low, int(high) - low + 1)
            return int((counts > 0).sum()), float(counts[-1] / image.size)
    return None, float((image == high).sum() / image.size)


def _ranges(image: Image) -> tuple[tuple[tuple[float, float], ...], int]:
    """((lowest, highest) of each channel, number of NaN and infinite values)."""
    flat = image.reshape(len(image), -1)
    if image.dtype.kind == "f":
        finite = np.isfinite(flat)
        n_invalid = flat.size - int(finite.sum())
        if n_invalid:
            kept = [channel[good] for channel, good in zip(flat, finite, strict=True)]
            return tuple((float(c.min(initial=0)), float(c.max(initial=0))) for c in kept), n_invalid
    return tuple(zip(flat.min(axis=1).tolist(), flat.max(axis=1).tolist(), strict=True)), 0


def _shows_only(image: Image, places: Mask, n_values: int) -> bool:
    """Whether all pixels of one value of the mask have one value in the image (*space); ignored pixels are not seen."""
    seen = places.reshape(-1) >= 0
    flat, owner = image.reshape(-1)[seen], places.reshape(-1)[seen]
    lookup = np.zeros(n_values, image.dtype)
    lookup[owner] = flat
    return bool((lookup[owner] == flat).all())


def _where(sample: Sample) -> str:
    """The file, with the sample's name where one file holds several."""
    if not sample.files or composed(sample.files[0].name).startswith(sample.name):
        return sample.where
    return f"{sample.where} ({sample.name})"


def _facts(sample: Sample) -> Facts:
    """What is known of a sample before it is read."""
    return Facts(sample.name, _where(sample), sample.group, sample.label)


def inspect_arrays(sample: Sample, image: Image, mask: Mask | None) -> Facts:
    """The facts of a sample that has been read already: image (C, *space), mask (*space) int32 or None."""
    facts = _facts(sample)
    if not image.size or (mask is not None and not mask.size):
        return replace(facts, problem=f"{sample.where}: expected at least one pixel, found an empty image or mask")
    ranges, n_invalid = _ranges(image)
    n_levels, saturated = _levels(image, ranges)
    annotation, copy = None, False
    if mask is not None:
        annotation, places = _annotation(mask)
        comparable = annotation.size == image.shape[1:] and n_levels is not None
        if comparable and 2 <= (n_levels or 0) <= len(annotation.values) and is_grey(image):
            copy = _shows_only(image[0], places, len(annotation.values))
    return replace(
        facts,
        size=image.shape[1:],
        channels=len(image),
        dtype=image.dtype.name,
        grey=is_grey(image),
        ranges=ranges,
        n_levels=n_levels,
        saturated=saturated,
        n_invalid=n_invalid,
        digest=_digest(image),
        annotation=annotation,
        copy=copy,
    )


def inspect_sample(sample: Sample) -> Facts:
    """Read one sample and keep its facts; what cannot be read becomes the facts' problem, one sentence."""
    try:
        # Not read_image, which refuses NaN: they are to be counted with everything else.
        return inspect_arrays(sample, sample.image(), sample.mask() if sample.mask is not None else None)
    except (UshapeError, OSError, MemoryError) as error:
        problem = str(error) or f"{sample.where}: expected to read it, found {type(error).__name__}"
        return replace(_facts(sample), problem=problem)
