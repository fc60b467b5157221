"""Are these images neighbours, as the slices of a stack and the frames of a sequence are?

A folder of slices says so nowhere: its files are called alike, with a number. An image that is held out between two of
its neighbours judges how well these were learnt by heart. So where names are numbered and images are more like those
next to them than in any other order, they are one series, and a block of it is held out instead.

Measured on flat copies of known data (mean correlation of neighbours, and the largest in 1000 other orders): 30 slices
of isbi2012 0.45 and 0.07; frames of dic-hela 0.16 to 0.22 and 0.04, of phc-u373 0.65 to 0.69 and 0.09. Images that are
numbered by chance: 16 of phantom -0.02 and 0.29, 60 of hippocampus -0.01 and 0.06, 60 of dsb2018 in their order -0.02
and 0.01.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.training.examples import Example
from ushape.training.orientation import averaged, unit

__all__ = ["are_neighbours", "find_series"]

Image = NDArray[Any]

FEWEST = 8
"""Images of which an order can be told from chance."""
MOST = 500
"""Images of a series that are compared; the first ones, where there are more."""
RUN = 8
"""Other orders shuffle images inside runs of so many: images that were taken in two ways, and numbered so, are alike in
any order of either."""
SIDE = 32
"""Pixels of each side to which images are averaged before they are compared."""
ORDERS = 1000
"""Other orders that the given one is compared with."""
LEAST = 0.1
"""Mean correlation of neighbours from which they are called alike."""


def thumbnail(image: Image) -> NDArray[np.float64]:
    """The image (C, *space), of a volume the middle slice, averaged to at most SIDE x SIDE; mean 0, length 1."""
    plane = (image[:, image.shape[1] // 2] if image.ndim == 4 else image).mean(axis=0, dtype=np.float64)
    return unit(averaged(plane, [min(SIDE, n) for n in plane.shape]))


def are_neighbours(images: Sequence[Image]) -> bool:
    """Whether images (C, *space) in this order are more like the next one than in any other order that is tried.

    What all of them share, as the light of one microscope, is taken off first.
    """
    if len(images) < FEWEST or len({image.shape[1:] for image in images}) > 1:
        return False
    small = np.stack([thumbnail(image) for image in images])
    rest = np.stack([unit(each) for each in small - small.mean(axis=0)])
    alike = rest @ rest.T
    rng = np.random.default_rng(0)
    orders = (shuffled(len(images), rng) for _ in range(ORDERS))
    by_chance = max(float(alike[order[:-1], order[1:]].mean()) for order in orders)
    return float(np.diagonal(alike, 1).mean()) > max(LEAST, by_chance)


def shuffled(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """An order of n things in which those inside runs of RUN, that begin anywhere, are in any order."""
    starts = [0, *range(int(rng.integers(1, RUN + 1)), n, RUN), n]
    return np.concatenate([begin + rng.permutation(end - begin) for begin, end in itertools.pairwise(starts)])


def numbered(name: str) -> tuple[str, int] | None:
    """(the name around its last number, the number); None for a name without one."""
    found = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
    return (f"{found[1]}#{found[3]}", int(found[2])) if found else None


def find_series(examples: Sequence[Example]) -> list[list[Example]]:
    """Each series in its order. Images that have a group already, as the slices of a file do, are in none."""
    stems: dict[str, list[tuple[int, int]]] = {}
    for index, example in enumerate(examples):
        parts = None if example.sample.group else numbered(example.sample.name)
        if parts is not None:
            stems.setdefault(parts[0], []).append((parts[1], index))
    ordered = [[examples[index] for _, index in sorted(members)] for members in stems.values()]
    return [members for members in ordered if are_neighbours([member.image for member in members[:MOST]])]
