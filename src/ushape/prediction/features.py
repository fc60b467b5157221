"""What a network computes on its way, for an image of any size: the feature maps of every level.

    maps = feature_maps(network, image)                 # all levels, in the order in which they are computed
    values = features(network, image, level=0)          # (C, h, w): what the head reads

A segmenter sees the image as in prediction: by mirrored tiles, of which only what has read its whole context is kept.
So the features do not depend on the tile, and those of level 0 on the way up are the very numbers that the head turns
into logits. A classifier sees the image at once, with zeros behind its far end where the poolings want a larger size;
what lies behind the image is cut off.

Conventions
- Level 0 is the first, at full resolution; each one below has half of it, and level depth - 1 is the bottom. The way
  down ends at each level with the maps that its skip carries, the way up with those that the next level reads.
- Maps of level l have a `pitch` of scale * 2^l pixels: ceil(n / pitch) values stand for an axis of n pixels, and value
  i for the pixels from i * pitch on. Without padding and from level 2 on its cell begins 2 * scale pixels before that,
  because the first two convolutions have eaten 2 pixels when pooling begins.
- image (C, *space) floating point, prepared; maps (C, *cells) float32, never negative: they come out of a ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ushape.errors import RecipeError
from ushape.geometry import BLOCK, Geometry, Interval, tiles
from ushape.network.classifier import Classifier
from ushape.network.hardware import autocast, in_best_format
from ushape.network.unet import UNet
from ushape.prediction.tiled import TILE_SIZE, read_tile

__all__ = ["Cells", "FeatureMap", "Side", "feature_maps", "features", "levels_of"]

Side = Literal["down", "bottom", "up"]
Image = NDArray[np.floating[Any]]
Maps = NDArray[np.float32]
Network = UNet | Classifier


@dataclass(frozen=True)
class Cells:
    """Where the values of a level's maps lie in the image; integers only, one axis at a time.

    geometry  of the network
    side      of the U
    level     from 0 at the top
    """

    geometry: Geometry
    side: Side
    level: int

    @property
    def pitch(self) -> int:
        """Image pixels from one value to the next."""
        return self.geometry.scale << self.level

    @property
    def shift(self) -> int:
        """Image pixels by which each cell begins before the multiple of the pitch that it stands for."""
        # Above level 2 a shift of 2 pixels is one by whole cells.
        return -self.geometry.grid * self.geometry.scale if self.level >= 2 else 0

    @property
    def lost(self) -> int:
        """Image pixels between the beginning of what is read and that of the map's first cell."""
        if self.geometry.padding == "same":
            return 0
        last = self.geometry.depth if self.side == "up" else self.level + 1
        down = ((1 << last) - 1) * BLOCK
        up = ((1 << (self.geometry.depth - 1)) - (1 << self.level)) * BLOCK if self.side == "up" else 0
        return (down + up) * self.geometry.scale

    def count(self, n: int) -> int:
        """How many values stand for an axis of n pixels."""
        return -(-n // self.pitch)

    def within(self, start: int, stop: int, n: int) -> Interval:
        """The values, of those that stand for n pixels, whose cells touch the pixels start .. stop-1."""
        return (start + self.shift) // self.pitch, min((stop - 1 + self.shift) // self.pitch + 1, self.count(n))

    def first(self, read: int) -> int:
        """Where value 0 lies in a map for which pixels from `read` on were read, the beginning of a tile."""
        return (-self.shift - read - self.lost) // self.pitch

    def context(self, index: int) -> Interval:
        """The image pixels that value `index` depends on, exactly, as the smallest interval; maybe outside of it."""
        scale = self.geometry.scale
        grid = -self.geometry.grid
        # Counted in cells of the pooling grid, which in a valid network begins 2 (working) pixels before the image.
        start = ((index * self.pitch - self.shift) // scale + grid) >> self.level
        stop = start + 1
        climbed = self.geometry.depth - 1 - self.level if self.side == "up" else 0
        for _ in range(climbed):
            start, stop = (start - BLOCK) // 2, (stop + BLOCK + 1) // 2
        start, stop = start - BLOCK, stop + BLOCK
        for _ in range(self.level + climbed):
            start, stop = 2 * start - BLOCK, 2 * stop + BLOCK
        return (start - grid) * scale, (stop - grid) * scale


@dataclass(frozen=True)
class FeatureMap:
    """The maps at the end of one level's block, on one side of the U.

    cells   where they lie in the image
    values  (C, *cells) float32 >= 0
    """

    cells: Cells
    values: Maps

    @property
    def name(self) -> str:
        """Such as "down 0", "bottom" or "up 3"."""
        return "bottom" if self.cells.side == "bottom" else f"{self.cells.side} {self.cells.level}"

    def plane(self, place: int) -> FeatureMap:
        """Of a volume's maps those of the slice in which image slice `place` lies; of an image's the same."""
        if self.values.ndim == 3:
            return self
        index = min((place + self.cells.shift) // self.cells.pitch, self.values.shape[1] - 1)
        return FeatureMap(self.cells, self.values[:, index])


def levels_of(network: Network, images: Tensor) -> Iterator[tuple[Side, int, Tensor]]:
    """(side, level, maps (B, C, *size)) of images of a legal size, one after the other as they are computed."""
    body = network.unet if isinstance(network, Classifier) else network
    skips, maps = body.contract(images)
    yield from (("down", level, skip) for level, skip in enumerate(skips))
    yield "bottom", len(skips), maps
    # A classifier that reads the bottom has no way up.
    for up, (level, skip) in zip(body.up, reversed(list(enumerate(skips))), strict=False):
        maps = up(maps, skip)
        yield "up", level, maps


def feature_maps(
    network: Network,
    image: Image,
    *,
    tile_size: int | Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[FeatureMap, ...]:
    """The feature maps of every level: down 0, down 1, ..., bottom, ..., up 1, up 0.

    Args:
        network: a segmenter or a classifier; is left in the mode in which it was.
        image: (C, *space), prepared as the network wants it.
        tile_size: as in `predict_tiled`; of no meaning for a classifier.
        device, dtype: where and in which precision to compute; the result is float32 in any case.
    """
    return _collect(network, image, None, tile_size, torch.device(device), dtype)


def features(
    network: Network,
    image: Image,
    level: int = 0,
    side: Literal["down", "up"] = "up",
    *,
    tile_size: int | Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Maps:
    """The feature maps of one level, (C, *cells) float32; arguments as in `feature_maps`.

    Args:
        level: 0 for the full resolution to depth - 1 for the bottom.
        side: on the way up, whose level 0 the head reads, or on the way down; the bottom lies on both.

    Raises:
        RecipeError: the network has no such level.
    """
    depth = network.geometry.depth
    wanted = ("bottom" if level == depth - 1 else side, level)
    if level not in range(depth):
        raise RecipeError(
            f"expected a level from 0 (full resolution) to {depth - 1} (the bottom), found {level}; choose one of these"
        )
    if side not in ("down", "up"):
        raise RecipeError(f"expected side 'up' or 'down', found {side!r}; choose one of the two")
    if wanted[0] == "up" and isinstance(network, Classifier) and network.head == "bottom":
        raise RecipeError(
            f"expected level {depth - 1}, because this classifier reads the bottom and has no way up, found level "
            f"{level}; take that level, or side='down'"
        )
    (found,) = _collect(network, image, wanted, tile_size, torch.device(device), dtype)
    return found.values


def _collect(
    network: Network,
    image: Image,
    wanted: tuple[str, int] | None,
    tile_size: int | Sequence[int] | None,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[FeatureMap, ...]:
    """The maps of all levels or of the wanted one, written together from the tiles."""
    geometry, size = network.geometry, image.shape[1:]
    found: dict[Cells, Maps] = {}
    for read, write, batch in _read(network, image, tile_size):
        for side, level, maps in _run(network, batch, wanted, device, dtype):
            cells = Cells(geometry, side, level)
            if cells not in found:
                found[cells] = np.empty((maps.shape[0], *map(cells.count, size)), np.float32)
            within = [cells.within(start, stop, n) for (start, stop), n in zip(write, size, strict=True)]
            first = [cells.first(start) for start in read]
            target = tuple(slice(start, stop) for start, stop in within)
            source = tuple(slice(at + start, at + stop) for at, (start, stop) in zip(first, within, strict=True))
            found[cells][(slice(None), *target)] = maps[(slice(None), *source)]
    return tuple(FeatureMap(cells, values) for cells, values in found.items())


def _read(
    network: Network, image: Image, tile_size: int | Sequence[int] | None
) -> Iterator[tuple[tuple[int, ...], tuple[Interval, ...], Image]]:
    """(first pixel read, pixels to answer for, what the network is shown) of each tile."""
    geometry, size = network.geometry, image.shape[1:]
    if isinstance(network, Classifier):
        missing = [(0, geometry.legal_at_least(n) - n) for n in size]
        yield (0,) * len(size), tuple((0, n) for n in size), np.pad(image, [(0, 0), *missing])
        return
    limit = max(TILE_SIZE[len(size)], geometry.smallest_tile) if tile_size is None else tile_size
    for tile in tiles(geometry, size, limit):
        yield tuple(start for start, _ in tile.read), tile.write, read_tile(image, tile)


def _run(
    network: Network, image: Image, wanted: tuple[str, int] | None, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Side, int, Maps]]:
    """(side, level, maps (C, *size)) of one tile; nothing is computed behind the wanted ones."""
    training = network.training
    in_best_format(network.eval(), device)
    try:
        with torch.inference_mode(), autocast(device, dtype):
            batch = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None].to(device)
            if network.dims == 2:
                batch = batch.contiguous(memory_format=torch.channels_last)
            for side, level, maps in levels_of(network, batch):
                if wanted is None or wanted == (side, level):
                    yield side, level, maps[0].float().cpu().numpy()
                if wanted == (side, level):
                    return
    finally:
        network.train(training)
