"""Averages over turned copies of the input: by quarter turns and flips, or by seven angles as in the paper (P18).

Quarter turns and flips move pixels onto pixels: nothing is interpolated, and `prediction.tiled` does them. The angles
k * 360 / 7 do not: the network sees the mirrored plane on a turned grid of pixels, by cubic splines, and its answer
is brought back by linear interpolation. Both blur by a fraction of a pixel, so that a network that is indifferent to
turning gives nearly, but not exactly, the same as without. The angle 0 is exact, as it is not interpolated.

What lies beyond the image is mirrored before it is turned, so that each copy of the network sees the same plane. The
centre of rotation is the image's. The turned copy is as large as is needed to hold the image; of it only the tiles that
any pixel of the image needs are computed. Held in memory are, besides the image, its spline coefficients, one answer
of a whole turned copy (for a square at 45 degrees twice the image's area), the average, and one batch of tiles.

Conventions: as in `prediction.tiled`. Volumes are turned in the plane of their last two axes.

Reference: P18 of docs/paper.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.errors import RecipeError
from ushape.geometry import Geometry, Tile, mirrored, tiles
from ushape.prediction.tiled import (
    ORIENTATIONS,
    Progress,
    Runner,
    answers_to,
    batches,
    largest_tile,
    predict_tiled,
)

__all__ = ["PAPER_ROTATIONS", "ROTATIONS", "Turn", "check_rotations", "predict_averaged"]

Floats = NDArray[np.floating[Any]]

PAPER_ROTATIONS = 7
"""How many versions the paper averages over."""
ROTATIONS = tuple(sorted({*ORIENTATIONS, PAPER_ROTATIONS}))
"""The numbers of turned copies that are offered."""
CUBIC, LINEAR = 3, 1


@dataclass(frozen=True)
class Turn:
    """A turned grid of pixels that holds every pixel of an image.

    angle  in radians: the grid's rows run so much down from the image's
    size   (height, width) of the image
    """

    angle: float
    size: tuple[int, int]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 2), from steps (down, right) on the turned grid to steps on the image."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    @property
    def grid_size(self) -> tuple[int, int]:
        """(height, width) of a turned grid that holds every pixel of the image, and a little more."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        height, width = self.size[0] - 1, self.size[1] - 1
        return math.ceil(cos * height + sin * width) + 2, math.ceil(sin * height + cos * width) + 2

    @property
    def origin(self) -> NDArray[np.float64]:
        """(2,) where the turned grid's pixel (0, 0) lies on the image; their centres are the same."""
        centres = [(np.array(size) - 1) / 2 for size in (self.size, self.grid_size)]
        return np.asarray(centres[0] - self.matrix @ centres[1])

    def read(self, coefficients: Floats, tile: Tile) -> Floats:
        """The tile's read region of the turned plane, (C, *read), by cubic splines.

        coefficients  (C, *space) of the image, from `spline_coefficients`
        """
        *planes, rows, columns = tile.read
        places = [mirrored(start, stop, n) for (start, stop), n in zip(planes, coefficients.shape[1:-2], strict=True)]
        leading = coefficients[np.ix_(np.arange(coefficients.shape[0]), *places)] if places else coefficients
        offset = self.origin + self.matrix @ np.array([rows[0], columns[0]])
        result = np.empty((*leading.shape[:-2], rows[1] - rows[0], columns[1] - columns[0]), coefficients.dtype)
        for index in np.ndindex(leading.shape[:-2]):
            ndimage.affine_transform(
                leading[index],
                self.matrix,
                offset,
                output_shape=result.shape[-2:],
                output=result[index],
                order=CUBIC,
                mode="mirror",
                prefilter=False,
            )
        return result

    def add_back(self, answer: Floats, total: Floats, weight: float) -> None:
        """Add `weight` times the answer (K, *turned) to the total (K, *space), by linear interpolation."""
        back = self.matrix.T
        for index in np.ndindex(total.shape[:-2]):
            total[index] += weight * ndimage.affine_transform(
                answer[index], back, -back @ self.origin, output_shape=self.size, order=LINEAR, mode="nearest"
            )

    def needs(self, tile: Tile) -> bool:
        """Whether any pixel of the image is interpolated from what the tile writes.

        Both are rectangles; they are apart if and only if the sides of one of them separate them.
        """
        (top, bottom), (left, right) = tile.write[-2:]
        # A pixel of the image is interpolated from grid pixels less than one step away.
        box = np.array([(y, x) for y in (top - 1, bottom) for x in (left - 1, right)], np.float64)
        on_image = self.origin + box @ self.matrix.T
        image = np.array([(y, x) for y in (0, self.size[0] - 1) for x in (0, self.size[1] - 1)], np.float64)
        on_grid = (image - self.origin) @ self.matrix
        return _meet(on_image, image) and _meet(on_grid, box)


def _meet(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the bounding boxes of two sets of points (n, 2) meet, up to rounding."""
    slack = 1e-6
    apart = (one.min(axis=0) > other.max(axis=0) + slack) | (other.min(axis=0) > one.max(axis=0) + slack)
    return not apart.any()


def spline_coefficients(image: Floats) -> Floats:
    """Cubic splines through the pixels of each plane of an image (C, *space), mirrored beyond; of the same size."""
    coefficients = np.empty_like(image)
    for index in np.ndindex(image.shape[:-2]):
        ndimage.spline_filter(image[index], order=CUBIC, output=coefficients[index], mode="mirror")
    return coefficients


def check_rotations(rotations: int) -> None:
    """RecipeError for a number of turned copies that is not offered."""
    if rotations not in ROTATIONS:
        offered = ", ".join(map(str, ROTATIONS[:-1]))
        raise RecipeError(f"expected {offered} or {ROTATIONS[-1]} rotations, found {rotations}; choose one of these")


def _answer_of(
    run: Runner,
    coefficients: Floats,
    geometry: Geometry,
    turn: Turn,
    plan: list[list[Tile]],
    count: Callable[[int], None],
) -> Floats:
    """The network's answer (K, *turned) on one turned grid, 0 where no tile was computed; batches are counted."""
    answer: Floats | None = None
    for batch in plan:
        answers = answers_to(run, np.stack([turn.read(coefficients, tile) for tile in batch]), geometry)
        if answer is None:
            answer = np.zeros((answers.shape[1], *coefficients.shape[1:-2], *turn.grid_size), answers.dtype)
        for tile, part in zip(batch, answers, strict=True):
            answer[(slice(None), *tile.target)] = part[(slice(None), *tile.source)]
        count(len(batch))
    assert answer is not None  # An image has a pixel, and so a tile.
    return answer


def _predict_turned(
    run: Runner,
    image: Floats,
    geometry: Geometry,
    limit: int | Sequence[int],
    batch_size: int,
    rotations: int,
    progress: Progress | None,
) -> Floats:
    """The average over the angles k * 360 / rotations; the first, 0, without interpolation."""
    size = (image.shape[-2], image.shape[-1])
    turns = [Turn(2 * math.pi * k / rotations, size) for k in range(1, rotations)]
    plans = [_plan(geometry, turn, image.shape[1:-2], limit, batch_size) for turn in turns]
    done, total = 0, len(tiles(geometry, image.shape[1:], limit)) + sum(len(batch) for plan in plans for batch in plan)

    def count(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total)

    result = predict_tiled(run, image, geometry, limit, batch_size, progress=lambda ready, _: count(ready - done))
    result /= rotations
    coefficients = spline_coefficients(image)
    for turn, plan in zip(turns, plans, strict=True):
        turn.add_back(_answer_of(run, coefficients, geometry, turn, plan, count), result, 1 / rotations)
    return result


def _plan(
    geometry: Geometry, turn: Turn, planes: tuple[int, ...], limit: int | Sequence[int], batch_size: int
) -> list[list[Tile]]:
    """The tiles of a turned grid that the image needs, in batches; `planes` are the sizes of the axes before it."""
    todo = [tile for tile in tiles(geometry, (*planes, *turn.grid_size), limit) if turn.needs(tile)]
    return list(batches(todo, batch_size))


def predict_averaged(
    run: Runner,
    image: Floats,
    geometry: Geometry,
    tile_size: int | Sequence[int] | None = None,
    batch_size: int = 1,
    rotations: int = 1,
    progress: Progress | None = None,
) -> Floats:
    """The average of the network's answers for turned copies of an image (C, *space) -> (K, *space).

    rotations  1, 2, 4 or 8: flips and quarter turns, exact; 7: the angles k * 360 / 7, as in the paper, interpolated.
               The answers must be something that may be averaged, such as probabilities
    progress   called with (tiles done, tiles in all) after each call of `run`

    The others as in `predict_tiled`.
    """
    check_rotations(rotations)
    if rotations in ORIENTATIONS:
        return predict_tiled(run, image, geometry, tile_size, batch_size, rotations, progress)
    limit = largest_tile(image, geometry, tile_size, batch_size)
    return _predict_turned(run, image, geometry, limit, batch_size, rotations, progress)
