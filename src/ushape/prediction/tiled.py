"""Overlap-tile: a network of fixed size predicts an image of any size, without a seam.

Prediction is a function on the infinite plane that mirroring makes of the image (P11). Each tile reads a region of
that plane and writes the part of the output whose whole context it has read (P10); the written parts abut. Nothing is
blended, because there is nothing to hide: neighbouring tiles agree on what lies between them, and weights that fade a
tile out could only mix equal numbers, at the cost of computing them twice. So the result does not depend on the tile
size, and one pass over the whole image gives the same, within rounding: 1e-5 in float32, 1e-10 in float64. That
holds without normalisation and with batch normalisation in evaluation mode; instance and group normalisation take
their mean from the tile, and break it.

Conventions: image (C, *space) floating point, already normalised as a whole; the network is any function from a batch
of tiles (B, C, *read) to (B, K, *out), `out` being the geometry's output size. NumPy in, NumPy out. Only the result
and one batch of tiles are held in memory, besides the image.

References: P10, P11 (overlap-tile), P18 (the average over rotated inputs) of docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError, RecipeError, SizeError
from ushape.geometry import Geometry, Tile, mirrored, tiles, whole_tile

__all__ = ["Progress", "Runner", "predict_tiled", "predict_whole", "read_tile"]

Floats = NDArray[np.floating[Any]]
Runner = Callable[[Floats], Floats]
Progress = Callable[[int, int], None]

TILE_SIZE = {2: 572, 3: 132}
"""Pixels along each axis of a tile by default, by number of axes: the paper's (P4); for volumes the 3-D U-Net's
(Cicek et al. 2016, arXiv 1606.06650)."""

ORIENTATIONS = {1: (0,), 2: (0, 2), 4: (0, 1, 2, 3), 8: (0, 1, 2, 3, 4, 5, 6, 7)}
"""Which orientations are averaged, by their number; each choice is a group, so that the average turns along with the
image exactly."""


def read_tile(image: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """The tile's read region of the mirrored plane, (C, *read), from an image (C, *space) of any type; a copy."""
    places = [mirrored(start, stop, n) for (start, stop), n in zip(tile.read, image.shape[1:], strict=True)]
    return image[np.ix_(np.arange(image.shape[0]), *places)]


def _turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of (..., height, width): from orientation 4 on the width flipped, then that many quarter turns."""
    flipped = array[..., ::-1] if orientation >= 4 else array
    return np.rot90(flipped, orientation % 4, axes=(-2, -1))


def batches(todo: list[Tile], batch_size: int) -> Iterator[list[Tile]]:
    """The tiles in order, `batch_size` at a time."""
    return (todo[i : i + batch_size] for i in range(0, len(todo), batch_size))


def answers_to(run: Runner, regions: Floats, geometry: Geometry) -> Floats:
    """The network's outputs (B, K, *out) for regions (B, C, *read); SizeError where they have another size."""
    answers = run(regions)
    out = tuple(geometry.output_size(n) for n in regions.shape[2:])
    if answers.shape != (len(regions), *answers.shape[1:2], *out):
        raise SizeError(
            f"expected the network's output to be (batch, classes, *size) = ({len(regions)}, K, "
            f"{', '.join(map(str, out))}), found {answers.shape}; give the network's own geometry"
        )
    return answers


def _check_image(image: Floats) -> None:
    """DataError unless the image is (C, height, width) or (C, depth, height, width), floating point."""
    if image.ndim not in (3, 4) or not np.issubdtype(image.dtype, np.floating):
        raise DataError(
            "expected a floating point image (C, height, width) or (C, depth, height, width), found "
            f"{image.dtype} of shape {image.shape}; normalise it, and add the channel axis where it is missing"
        )


def largest_tile(
    image: Floats, geometry: Geometry, tile_size: int | Sequence[int] | None, batch_size: int
) -> int | Sequence[int]:
    """The tile size that is asked for, or the default one; an error for what cannot be predicted."""
    if batch_size < 1:
        raise RecipeError(f"expected a batch of at least 1 tile, found {batch_size}; choose 1 or more")
    _check_image(image)
    return max(TILE_SIZE[image.ndim - 1], geometry.smallest_tile) if tile_size is None else tile_size


def _predict(
    run: Runner,
    image: Floats,
    geometry: Geometry,
    cut: Callable[[tuple[int, ...]], list[Tile]],
    batch_size: int = 1,
    symmetries: int = 1,
    progress: Progress | None = None,
) -> Floats:
    """Read, run and write the tiles that `cut` makes of each turned copy of the image."""
    turned = [(orientation, _turned(image, orientation)) for orientation in ORIENTATIONS[symmetries]]
    plan = [(orientation, copy, cut(copy.shape[1:])) for orientation, copy in turned]
    total, done = sum(len(todo) for _, _, todo in plan), 0
    result: Floats | None = None
    for orientation, copy, todo in plan:
        for batch in batches(todo, batch_size):
            answers = answers_to(run, np.stack([read_tile(copy, tile) for tile in batch]), geometry)
            if result is None:
                result = np.zeros((answers.shape[1], *image.shape[1:]), answers.dtype)
            # Writing into a turned view of the result turns the answers back without a copy.
            view = _turned(result, orientation)
            for tile, answer in zip(batch, answers, strict=True):
                view[(slice(None), *tile.target)] += answer[(slice(None), *tile.source)] / symmetries
            done += len(batch)
            if progress is not None:
                progress(done, total)
    assert result is not None  # An image has a pixel, and so a tile.
    return result


def predict_whole(run: Runner, image: Floats, geometry: Geometry) -> Floats:
    """What `predict_tiled` gives, in one pass over a window that holds the whole image and its context.

    Takes the memory of the network at that size.
    """
    _check_image(image)
    return _predict(run, image, geometry, lambda size: [whole_tile(geometry, size)])


def predict_tiled(
    run: Runner,
    image: Floats,
    geometry: Geometry,
    tile_size: int | Sequence[int] | None = None,
    batch_size: int = 1,
    symmetries: int = 1,
    progress: Progress | None = None,
) -> Floats:
    """The network's answer for every pixel of an image (C, *space) -> (K, *space).

    run         from tiles (B, C, *read), in the image's type, to (B, K, *out); all calls have the same size, and the
                last one of an image may have fewer tiles. The result has the type of its answers
    geometry    the network's
    tile_size   largest size to read along every axis, or one for each; None: 572 for images and 132 for volumes, or
                the smallest possible where that is more. SizeError when it is too small
    batch_size  tiles in one call
    symmetries  1, 2, 4 or 8: the answers for so many turned (and for 8 also flipped) copies of the image are turned
                back and averaged, so that they must be something that may be averaged, such as probabilities. Two are
                turned by 180 degrees, four by 90. Volumes are turned in the plane of their last two axes
    progress    called with (tiles done, tiles in all) after each call of `run`
    """
    if symmetries not in ORIENTATIONS:
        raise RecipeError(f"expected 1, 2, 4 or 8 symmetries to average, found {symmetries}; choose one of these")
    limit = largest_tile(image, geometry, tile_size, batch_size)
    return _predict(run, image, geometry, lambda size: tiles(geometry, size, limit), batch_size, symmetries, progress)
