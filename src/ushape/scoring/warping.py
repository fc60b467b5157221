"""The warping error: how many pixels of two labellings of membranes differ once shifts of the membranes are forgiven.

The reference is warped towards the estimate: pixels that differ are flipped, one after the other, as long as a flip
changes no topology, that is, neither cuts nor joins, neither makes nor fills anything. What still differs when no
such flip is left are the splits, the mergers and the holes. A split costs about a pixel, a merger as
many as the gap in the membrane is long, and a membrane that is only too thick, too thin, or shifted by no more than
its width costs nothing.

Conventions
- Cells are True and membranes False. Cells are 4-connected and membranes 8-connected, so that a diagonal line of
  membrane separates two cells. Beyond the image's frame everything is membrane, so that a membrane may wander along
  the frame and a cell may recede from it.
- A pixel is simple, and may be flipped, when among its eight neighbours exactly one 4-connected piece of cell touches
  it by a side, and exactly one 8-connected piece of membrane touches it. Whether the pixel itself is cell or membrane
  makes no difference (Bertrand 1994).
- Order. The result depends on it, so it is fixed, and a function of the two labellings alone. First membranes grow:
  cell pixels that ought to be membrane are flipped until none of them is simple. Then they shrink: membrane pixels
  that ought to be cell, likewise. And again, until neither flips any. (Shrinking first would tear a shifted membrane
  away from where it has to go.) In either half the pixels are four sets by (row % 2, column % 2), which take turns,
  (0, 0), (0, 1), (1, 0), (1, 1), and again; in its turn all simple pixels of a set are flipped. No two pixels of a set
  are neighbours, so that flipping them at once is the same as one after the other.
- Only pixels that differ are flipped, as in Jain's algorithm. What is found is a warping that no single flip improves,
  and its disagreement is an upper bound of the smallest. A membrane that is shifted by more than its width has no way
  to go but through pixels that agree, and stays an error.

It is Jain's definition, and not that of the script of ISBI 2012 (in Fiji), which leaves out holes and whole objects
and counts the pixels of splits and mergers only. The second number of `warping_errors` leaves them out too: it is of
the same kind as the script's, but not the same number.

References
- Jain et al. 2010, Boundary Learning by Optimization with Topological Constraints (warping, warping error).
- Minimum splits and mergers warping error, https://imagej.github.io/Minimum_Splits_and_Mergers_Warping_error (what
  the script counts).
- Bertrand 1994, Simple points, topological numbers and geodesic neighborhoods in cubic grids (simple points).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.errors import DataError
from ushape.scoring.checks import check_sizes

__all__ = ["warp", "warping_error", "warping_errors"]

Labels = NDArray[np.bool_] | NDArray[np.integer[Any]]
Cells = NDArray[np.bool_]

# The eight neighbours (row, column) in the order of their bits, around the pixel clockwise; even ones share a side.
RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
SIDES = (0, 2, 4, 6)
MEMBRANE, CELL = 0, 1
CORNERS = (1, 3, 5, 7)


def _n_pieces(members: list[int], touching: tuple[int, ...], reach: int) -> int:
    """Connected pieces among places of the ring that contain one of `touching`; places are neighbours where the
    squared distance is at most `reach` (1: by a side, 2: or a corner)."""
    left, n = set(members), 0
    while left:
        piece = [left.pop()]
        for here in piece:
            near = {p for p in left if sum((a - b) ** 2 for a, b in zip(RING[p], RING[here], strict=True)) <= reach}
            left -= near
            piece += near
        n += any(place in touching for place in piece)
    return n


@cache
def _simple_table() -> NDArray[np.bool_]:
    """(256,) whether a pixel is simple, by its neighbours: bit k is set where neighbour k of the ring is cell."""
    table = np.zeros(256, bool)
    for code in range(256):
        cells = [k for k in range(8) if code >> k & 1]
        membranes = [k for k in range(8) if not code >> k & 1]
        table[code] = _n_pieces(cells, SIDES, 1) == 1 and _n_pieces(membranes, SIDES + CORNERS, 2) == 1
    return table


def _as_cells(given: Labels, side: str) -> Cells:
    """Labels (height, width) of 0 and 1, as booleans; DataError for anything else."""
    labels: NDArray[Any] = np.asarray(given)
    if labels.ndim != 2 or not (labels.dtype == bool or np.issubdtype(labels.dtype, np.integer)):
        raise DataError(
            f"expected the {side} as (height, width) of membrane (0) and cell (1), found {labels.dtype} of shape "
            f"{labels.shape}; decide probabilities by a threshold, and score slice by slice"
        )
    least = -1 if side == "reference" else 0
    if labels.dtype != bool and labels.size and (labels.min() < least or labels.max() > 1):
        wrong = int(labels.max() if labels.max() > 1 else labels.min())
        raise DataError(f"expected membrane (0) and cell (1) in the {side}, found {wrong}; score classes, not objects")
    return labels > 0


def _to_compare(reference: Labels, estimate: Labels) -> tuple[Cells, Cells, Cells]:
    """(reference, estimate, counted): cells on both sides; an ignored pixel of the reference is as in the estimate."""
    cells, wanted = _as_cells(reference, "reference"), _as_cells(estimate, "estimate")
    check_sizes(cells, wanted)
    counted = np.asarray(reference) != -1
    return np.where(counted, cells, wanted), wanted, counted


def _settle(now: NDArray[np.uint8], wanted: NDArray[np.uint8], width: int, label: int) -> bool:
    """Flip, in place, simple pixels that ought to have this label, by turns of the four sets; whether any was.

    now, wanted  flat images of `width` columns, with a frame of membrane one pixel wide that is the same in both

    A pixel that was not simple can have become so only by a flip beside it. So each set keeps the pixels that are to
    be looked at in its next turn: at first all, and then the neighbours of what was flipped.
    """
    simple = _simple_table()
    around = [row * width + column for row, column in RING]
    waiting = [[pixels] for pixels in _by_set(np.flatnonzero((now != wanted) & (wanted == label)), width)]
    turn, idle, any_flipped = 0, 0, False
    while idle < 4:
        if not any(map(len, waiting[turn])):
            turn, idle = (turn + 1) % 4, idle + 1
            continue
        pixels, waiting[turn] = np.unique(np.concatenate(waiting[turn])), []
        code = np.zeros(len(pixels), np.uint8)
        for bit, step in enumerate(around):
            code |= now[pixels + step] << np.uint8(bit)
        flipped = pixels[simple[code]]
        now[flipped] = label
        beside = np.concatenate([flipped + step for step in around])
        beside = beside[(now[beside] != label) & (wanted[beside] == label)]
        for kept, pixels in zip(waiting, _by_set(beside, width), strict=True):
            kept.append(pixels)
        idle = 0 if len(flipped) else idle + 1
        any_flipped |= len(flipped) > 0
        turn = (turn + 1) % 4
    return any_flipped


def _by_set(pixels: NDArray[np.intp], width: int) -> list[NDArray[np.intp]]:
    """The pixels of each of the four sets, in the order of their turns; the frame is not counted as row or column."""
    which = (pixels // width - 1) % 2 * 2 + (pixels % width - 1) % 2
    return [pixels[which == k] for k in range(4)]


def warp(reference: Labels, estimate: Labels) -> Cells:
    """The reference, warped towards the estimate without a change of its topology.

    Args:
        reference: (height, width) 0 = membrane, 1 = cell, -1 = ignore: there it takes the estimate's label at once.
        estimate: (height, width) 0 = membrane, 1 = cell.

    Returns:
        (height, width) True = cell. Any pixel that differs from the estimate, and is not ignored, is not simple.

    Raises:
        DataError: the sizes differ, or there are other labels.
    """
    cells, wanted, _ = _to_compare(reference, estimate)
    now, towards = (np.pad(side, 1).astype(np.uint8) for side in (cells, wanted))

    def settle(label: int) -> bool:
        return _settle(now.ravel(), towards.ravel(), now.shape[1], label)

    while settle(MEMBRANE) | settle(CELL):
        pass
    return now[1:-1, 1:-1].astype(bool)


def warping_errors(reference: Labels, estimate: Labels) -> tuple[float, float]:
    """(warping error, its part that is splits and mergers), shares of the pixels in [0, 1]; nan without a pixel.

    Where the warped reference and the estimate differ, a connected piece of membrane is a split if it keeps two cells
    of the estimate apart, and a piece of cell is a merger if it joins two cells of the warped reference. What is left
    out of the second number are spots of membrane inside a cell, cells inside membrane, and ends that lead nowhere.

    Args and raises as `warp`; ignored pixels are not counted.
    """
    cells, wanted, counted = _to_compare(reference, estimate)
    n = int(counted.sum())
    if not n:
        return math.nan, math.nan
    warped = warp(cells, wanted)
    split = _pieces_between(warped & ~wanted, wanted, np.ones((3, 3), bool))
    merged = _pieces_between(~warped & wanted, warped, None)
    return int((warped != wanted).sum()) / n, int((split | merged).sum()) / n


def warping_error(reference: Labels, estimate: Labels) -> float:
    """The share of pixels in which the warped reference and the estimate differ, in [0, 1]; nan without a pixel.

    Args and raises as `warp`; ignored pixels are not counted.
    """
    return warping_errors(reference, estimate)[0]


def _pieces_between(pixels: Cells, cells: Cells, structure: Cells | None) -> Cells:
    """Those connected pieces of `pixels` that touch two or more of the 4-connected cells by a side."""
    pieces, n_pieces = ndimage.label(pixels, structure)
    numbers = np.pad(ndimage.label(cells)[0], 1)
    pieces = np.pad(pieces, 1)
    beside = [np.stack([pieces, np.roll(numbers, shift, axis)], -1) for shift in (-1, 1) for axis in (0, 1)]
    met = np.concatenate([pairs[(pairs > 0).all(axis=-1)] for pairs in beside])
    n_met = np.bincount(np.unique(met, axis=0)[:, 0], minlength=n_pieces + 1)
    between: Cells = (n_met > 1)[pieces[1:-1, 1:-1]]
    return between
