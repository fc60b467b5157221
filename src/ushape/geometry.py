"""Sizes and places: which input a network can take, what comes out, and which pixels it came from.

A U-Net is a function on the infinite plane. The image is continued over that plane by mirroring (P11), and the
network may be laid on it anywhere, but all tiles of an image whole strides apart: pooling makes a U-Net equivariant to
shifts by whole strides only (P5). So each pixel is computed from the same numbers whichever tile it falls in, and tiles
can abut without a seam (P10).

Where no zeros reach, a network with padding computes what the same weights compute without, if both pool the same
pixels together. `Geometry.without_padding` lays it on the plane so: then hardly anything is computed in vain on the way
up.

Conventions: integers only, one axis at a time, 2-D and 3-D alike. Intervals are half open, (start, stop), in pixels
of the image, whose first pixel is 0; a read region may begin before 0 and end after the image. A size is
(height, width) or (depth, height, width). The same geometry holds for every axis.

References: P4, P5 (sizes), P10, P11 (overlap-tile) of docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ushape.errors import RecipeError, SizeError

__all__ = ["Geometry", "Interval", "Padding", "Tile", "mirrored", "tiles", "whole_tile"]

Interval = tuple[int, int]
Padding = Literal["valid", "same"]

# Two 3x3 convolutions make a block, and each needs one pixel more on every side.
BLOCK = 2


def mirrored(start: int, stop: int, n: int) -> NDArray[np.int64]:
    """Indices into an axis of n pixels for the positions start .. stop-1 of the mirrored line.

    Mirrored about the edge pixel without repeating it, as often as needed: period 2(n-1); one pixel repeats for ever.
    The result is (stop - start,), each in 0 .. n-1.
    """
    if n < 1:
        raise SizeError(f"expected an image of at least 1 pixel along each axis, found {n}; leave out empty images")
    period = 2 * (n - 1)
    place = np.arange(start, stop, dtype=np.int64) % max(1, period)
    return np.minimum(place, period - place)


@dataclass(frozen=True)
class Geometry:
    """What a U-Net does to lengths, along any axis.

    depth    number of levels, 1 to 8; one less than that many 2x2 poolings
    padding  'valid': convolutions see real pixels only and the output is smaller (the paper); 'same': zeros are added
             around every convolution's input, and the output has the input's size
    scale    working scale: blocks of `scale` pixels along each axis become channels before the network and pixels
             again after it, so that every length below is `scale` times as large
    shift    0, or BLOCK for a network that was trained with padding and is laid on the plane without: then read regions
             begin so many pixels of the working grid after a multiple of the stride, where the pooling cells of the
             network are those that it has with padding
    """

    depth: int = 5
    padding: Padding = "valid"
    scale: int = 1
    shift: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 8:
            raise RecipeError(f"expected a depth of 1 to 8 levels, found {self.depth}; choose one in that range")
        if self.padding not in ("valid", "same"):
            raise RecipeError(f"expected padding 'valid' or 'same', found {self.padding!r}; choose one of the two")
        if self.scale < 1:
            raise RecipeError(f"expected a working scale of at least 1, found {self.scale}; 1 is full resolution")
        if self.shift not in ((0, BLOCK) if self.padding == "valid" else (0,)):
            raise RecipeError(f"expected a shift of 0, or {BLOCK} without padding, found {self.shift}; leave it at 0")

    @property
    def without_padding(self) -> Geometry:
        """Of the same network laid on the plane without padding, its pooling cells where padding has them."""
        return self if self.padding == "valid" else Geometry(self.depth, "valid", self.scale, BLOCK)

    @property
    def origin(self) -> int:
        """Where read regions begin, counted from a multiple of the stride."""
        return self.shift * self.scale

    @property
    def stride(self) -> int:
        """The shift that moves the output along with the input: 16 at depth 5."""
        return self.scale << (self.depth - 1)

    @property
    def lost(self) -> int:
        """Pixels by which the output is smaller than the input, on each side: 92 at depth 5, 0 with padding.

        A block at level l loses BLOCK pixels of that level, which are BLOCK * 2**l pixels of the image: one block at
        each level on the way down, and one at each level but the bottom on the way up.
        """
        if self.padding == "same":
            return 0
        down = ((1 << self.depth) - 1) * BLOCK
        up = ((1 << (self.depth - 1)) - 1) * BLOCK
        return (down + up) * self.scale

    @cached_property
    def margin(self) -> int:
        """Pixels at each side of a read region whose output depends on what lies outside it.

        Without padding they are exactly those that have no output. With padding they have one, but zeros went into it:
        it is never written. The region must begin where read regions do and have a legal size.
        """
        begin = self.origin
        return next(n for n in range(self.reach + 1) if self.context(begin + n, begin + n + 1)[0] >= begin)

    @cached_property
    def reach(self) -> int:
        """The farthest that any output pixel looks, to either side, over all its places in the pooling grid.

        107 at depth 5, where the nearest look is 92 (P5).
        """
        looks = [(place, self.context(place, place + 1)) for place in range(self.stride)]
        return max(max(place - start, stop - 1 - place) for place, (start, stop) in looks)

    def context(self, start: int, stop: int) -> Interval:
        """The input pixels that the outputs start .. stop-1 depend on, exactly, as the smallest interval.

        Holds for any read region that begins `origin` after a multiple of the stride. Derived backwards through the U:
        an output needs two 3x3 convolutions' neighbours at each level, an up-convolution takes each pixel from the one
        below it, and a pooling takes each pixel from the two above it. The skips need less than the way over
        the bottom.
        """
        shift = self.grid
        start = start // self.scale - shift
        stop = -(-stop // self.scale) - shift
        for _ in range(self.depth - 1):
            start = (start - BLOCK) // 2
            stop = (stop + BLOCK + 1) // 2
        start, stop = start - BLOCK, stop + BLOCK
        for _ in range(self.depth - 1):
            start = 2 * start - BLOCK
            stop = 2 * stop + BLOCK
        return (start + shift) * self.scale, (stop + shift) * self.scale

    @property
    def grid(self) -> int:
        """Where pooling cells begin, in pixels of the working grid, counted from a multiple of the stride.

        Padding keeps them on the multiples. Without it the first cell of level l begins BLOCK * (2**l - 1) pixels
        inside the read region, and that is BLOCK before a multiple of 2**l at every level; the shift makes up for it.
        """
        return 0 if self.padding == "same" else self.shift - BLOCK

    @property
    def smallest_tile(self) -> int:
        """The smallest legal size whose output covers a stride, so that tiles of it can cover any image."""
        return self.legal_at_least(2 * self.margin + self.stride)

    @property
    def smallest_legal(self) -> int:
        """The smallest size the network takes without padding it further: 188 at depth 5, 16 with padding."""
        return self._legal_from(2 * self.lost + 1)

    def is_legal(self, n: int) -> bool:
        """Whether every pooling sees an even size and at least one pixel comes out: 16 k + 12 from 188 at depth 5.

        With padding a multiple of the stride; a padded network takes other sizes too, by adding to the far end.
        """
        return n >= self.smallest_legal and self._legal_from(n) == n

    def legal_at_least(self, n: int) -> int:
        """The smallest legal size that is not below n."""
        return self._legal_from(max(n, self.smallest_legal))

    def legal_at_most(self, n: int) -> int:
        """The largest legal size that is not above n; SizeError when there is none."""
        if n < self.smallest_legal:
            raise SizeError(
                f"expected a size of {self._progression} pixels for {self}, found {n}; take {self.smallest_legal}"
            )
        return self._legal_from(n - self.stride + 1)

    def output_size(self, n: int) -> int:
        """Length of the output for an input of n pixels along one axis.

        Without padding n must be legal: SizeError names the nearest sizes that are. With padding it is n.
        """
        if self.padding == "same" and n >= 1:
            return n
        if not self.is_legal(n):
            above = self.legal_at_least(n)
            nearest = f"take {above}" if above == self.smallest_legal else f"take {above - self.stride} or {above}"
            raise SizeError(f"expected a size of {self._progression} pixels for {self}, found {n}; {nearest}")
        return n - 2 * self.lost

    def __str__(self) -> str:
        """As in a sentence: 'a U-Net of depth 5 without padding'."""
        padding = "without padding" if self.padding == "valid" else "with padding"
        padding = "trained with padding" if self.shift else padding
        return f"a U-Net of depth {self.depth} {padding}" + (f" at scale {self.scale}" if self.scale > 1 else "")

    def _legal_from(self, n: int) -> int:
        """The smallest number from n on that leaves the remainder of all legal sizes."""
        remainder = 0 if self.padding == "same" else -2 * BLOCK * self.scale
        return n + (remainder - n) % self.stride

    @property
    def _progression(self) -> str:
        """The legal sizes as a row: '188, 204, 220, ...'."""
        return "".join(f"{self.smallest_legal + k * self.stride}, " for k in range(3)) + "..."


@dataclass(frozen=True)
class Tile:
    """One pass of the network: what it reads of the mirrored plane, and what of its output is kept.

    read    the region to read, an interval for each axis; outside the image it is mirrored
    write   the region of the image that this tile alone writes; always inside the image
    offset  where the written region begins in the network's output, for each axis
    """

    read: tuple[Interval, ...]
    write: tuple[Interval, ...]
    offset: tuple[int, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Size of the read region: what the network is given."""
        return tuple(stop - start for start, stop in self.read)

    @property
    def source(self) -> tuple[slice, ...]:
        """The written region as an index into the spatial axes of the network's output."""
        pairs = zip(self.offset, self.write, strict=True)
        return tuple(slice(offset, offset + stop - start) for offset, (start, stop) in pairs)

    @property
    def target(self) -> tuple[slice, ...]:
        """The written region as an index into the spatial axes of the image."""
        return tuple(slice(start, stop) for start, stop in self.write)


def whole_tile(geometry: Geometry, size: Sequence[int]) -> Tile:
    """The one tile that writes a whole image of this size: the smallest that can."""
    return _combined(geometry, [_cut(geometry, n, None) for n in size])[0]


def tiles(geometry: Geometry, size: Sequence[int], tile_size: int | Sequence[int]) -> list[Tile]:
    """Tiles whose written regions partition an image of this size, in reading order.

    All read regions begin whole strides apart and have one size, which `tile_size` (for every axis, or one for
    each) limits: it is rounded down to a legal size, then to the smallest that needs no more tiles, so that nothing is
    computed in vain. An image that fits into one tile gets the smallest that holds it. SizeError when the limit is
    below `smallest_tile` and the image does not fit.
    """
    limits = list(tile_size) if isinstance(tile_size, Sequence) else [tile_size] * len(size)
    if len(limits) != len(size):
        raise SizeError(
            f"expected one tile size, or one for each of the image's {len(size)} axes, found {len(limits)}; give either"
        )
    return _combined(geometry, [_cut(geometry, n, limit) for n, limit in zip(size, limits, strict=True)])


def _combined(geometry: Geometry, axes: list[list[tuple[Interval, Interval]]]) -> list[Tile]:
    """Every combination of the axes' (read, write) pairs, the last axis fastest."""
    combined = []
    for pairs in product(*axes):
        reads, writes = tuple(read for read, _ in pairs), tuple(write for _, write in pairs)
        # The output's first pixel lies `lost` pixels inside the read region.
        offset = tuple(write[0] - read[0] - geometry.lost for read, write in pairs)
        combined.append(Tile(reads, writes, offset))
    return combined


def _cut(geometry: Geometry, n: int, limit: int | None) -> list[tuple[Interval, Interval]]:
    """(read, write) of each tile along an axis of n pixels; a single tile where there is no limit."""
    if n < 1:
        raise SizeError(f"expected an image of at least 1 pixel along each axis, found {n}; leave out empty images")
    margin, stride = geometry.margin, geometry.stride
    # The last place for a read region from which the image's first pixel can be written.
    first = (-margin - geometry.origin) // stride * stride + geometry.origin
    length = geometry.legal_at_least(n + margin - first)
    step, count = stride, 1
    if limit is not None and limit < length:
        length = _within(geometry, limit)
        count = _n_tiles(geometry, n - first, length)
        while length > geometry.smallest_tile and _n_tiles(geometry, n - first, length - stride) == count:
            length -= stride
        step = _step(geometry, length)
    starts = [first + k * step for k in range(count)]
    bounds = [0, *(start + margin for start in starts[1:]), n]
    return [((start, start + length), write) for start, write in zip(starts, pairwise(bounds), strict=True)]


def _within(geometry: Geometry, limit: int) -> int:
    """The largest legal size within the limit; SizeError when tiles of it could not cover a large image."""
    if limit < geometry.smallest_tile:
        raise SizeError(
            f"expected tiles of at least {geometry.smallest_tile} pixels for {geometry}, which only reads "
            f"{geometry.margin} of them on each side, found {limit}; take {geometry.smallest_tile} or more"
        )
    return geometry.legal_at_most(limit)


def _n_tiles(geometry: Geometry, span: int, length: int) -> int:
    """How many tiles of this length it takes to write up to `span` pixels from the first one's start."""
    return 1 + max(0, -(-(span + geometry.margin - length) // _step(geometry, length)))


def _step(geometry: Geometry, length: int) -> int:
    """From one tile's start to the next one's: the whole strides in what a tile of this length can write."""
    return (length - 2 * geometry.margin) // geometry.stride * geometry.stride
