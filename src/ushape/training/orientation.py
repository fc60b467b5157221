"""Do the images of a data set lie alike, so that left, right, up and down tell something?

Cells under a microscope come at any angle, and mirroring and turning them makes more of them. Organs do not: what lies
at one end is one thing, and a network that is shown both ways round cannot use it. So masks of different images are
laid over each other, as they are, mirrored along each axis, and turned by a quarter. Where they agree, and less so
mirrored or turned, images lie alike. Masks and not images are asked, because the light of one microscope lies alike
too; and only those of different groups, because neighbours in a stack or a sequence agree anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Orientation", "ask_orientation", "averaged", "unit"]

Mask = NDArray[np.int32]
Float = NDArray[np.float64]

ASKED = 40
"""Masks that are laid over each other, at most."""
FEWEST = 8
"""Groups that are needed: of fewer, chance may make masks agree."""
IGNORED = 0.1
"""Share of unlabelled pixels up to which a mask is asked: where people annotate says nothing of what lies there."""
SIDE = 16
"""Pixels along each axis to which masks are averaged."""
LARGEST = 8
"""Classes that are told apart, those with the most pixels; of objects all that is foreground counts as one."""


class Orientation(NamedTuple):
    """How well masks of different images agree: mean correlations, from -1 to 1.

    plain     as they are
    mirrored  one of them mirrored, along the axis where they agree least
    turned    one of them turned by a quarter in the plane of the last two axes, to the side where they agree better
    """

    plain: float
    mirrored: float
    turned: float


def averaged(plane: NDArray[Any], sides: Sequence[int]) -> Float:
    """(*sides): means over blocks of a plane (*space) that is at least as large."""
    means: Any = plane
    for axis, side in enumerate(sides):
        edges = np.linspace(0, plane.shape[axis], side + 1).astype(int)
        sums = np.add.reduceat(means, edges[:-1], axis, dtype=np.float64)
        means = sums / np.diff(edges).reshape([-1 if a == axis else 1 for a in range(plane.ndim)])
    return np.asarray(means, np.float64)


def unit(planes: Float) -> Float:
    """All planes as one vector of mean 0 and length 1."""
    vector: Float = planes.ravel() - planes.mean()
    vector /= max(float(np.linalg.norm(vector)), 1e-12)
    return vector


def ask_orientation(masks: Sequence[Mask], groups: Sequence[str], *, classes: int) -> Orientation | None:
    """What the masks say; None where there are too few groups, or nothing in the masks.

    Args:
        masks: (*space) int32, above 0 what there is to find, all of 2 or all of 3 axes.
        groups: of each mask; those of one group are not compared.
        classes: how many classes the values stand for; 0 where they are ids of objects.
    """
    asked = zip(masks, groups, strict=True)
    chosen = [(m, g) for m, g in asked if (m > 0).any() and (m < 0).mean() <= IGNORED]
    chosen = [chosen[i * len(chosen) // ASKED] for i in range(ASKED)] if len(chosen) > ASKED else chosen
    if len({group for _, group in chosen}) < FEWEST:
        return None
    sides = [min(SIDE, *(m.shape[axis] for m, _ in chosen)) for axis in range(chosen[0][0].ndim)]
    sides[-2:] = [min(sides[-2:])] * 2
    if classes:
        counts = sum(np.bincount(m[m > 0], minlength=classes) for m, _ in chosen)
        values = [int(v) for v in np.argsort(-np.asarray(counts), kind="stable")[:LARGEST] if v]
        small = [np.stack([averaged(m == v, sides) for v in values]) for m, _ in chosen]
    else:
        small = [averaged(m > 0, sides)[None] for m, _ in chosen]
    names = np.array([group for _, group in chosen])
    others = names[:, None] != names[None]
    plain = np.stack([unit(each) for each in small])

    def agreement(change: Any) -> float:
        return float((plain @ np.stack([unit(change(each)) for each in small]).T)[others].mean())

    axes = range(1, small[0].ndim)
    mirrored = min(agreement(lambda each, axis=axis: np.flip(each, axis)) for axis in axes)
    turned = max(agreement(lambda each, times=times: np.rot90(each, times, (-2, -1))) for times in (1, -1))
    return Orientation(agreement(lambda each: each), mirrored, turned)
