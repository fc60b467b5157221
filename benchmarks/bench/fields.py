"""Which images are crops of one field of view, told by seams: where one image ends another goes on.

The nuclei of the 2018 Data Science Bowl come without a word about where they were taken, but many images are
neighbouring crops of one larger picture. Crops of one field show the same cells under the same light, so they must not
stand on both sides of a split. Two images of one size are taken for neighbours when the last line of one and the first
line of the other are as alike as two lines next to each other inside an image. Neighbours of neighbours are of the same
field. Crops of one field that do not touch, and have nothing between them here, are not recognised.

Wrongly joining two fields costs nothing but a little evenness of the parts; so in doubt they are joined.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ushape.data.dataset import Sample
from ushape.data.images import is_grey

__all__ = ["fields_of", "seams"]

Floats = NDArray[np.float64]

LEAST_CORRELATION = 0.5
"""Of the two lines at a seam. Neighbours reach 0.84 to 0.998 where something lies across the seam; a dark seam shows
noise only, and correlates less."""
LARGEST_STEP = 1.25
"""What the lines at a seam may differ by, relative to neighbouring lines inside the two images."""
ROUNDING = 0.5
"""Grey values by which lines differ anyway, because they are whole numbers."""


def standardised(lines: Floats) -> Floats:
    """Each line (N, L) with mean 0 and standard deviation 1; a line of one value becomes 0."""
    centred = lines - lines.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    result: Floats = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    return result


def seams(images: Floats, axis: int) -> NDArray[np.bool_]:
    """(N, N): whether image j goes on where image i ends along an axis.

    images  (N, H, W) grey values
    axis    0: j lies below i; 1: j lies to the right of i
    """
    lines = np.moveaxis(images, axis + 1, 1)
    last, first = lines[:, -1], lines[:, 0]
    inside_last = np.abs(last - lines[:, -2]).mean(axis=1)
    inside_first = np.abs(first - lines[:, 1]).mean(axis=1)
    step = np.abs(last[:, None] - first[None]).mean(axis=2)
    allowed = LARGEST_STEP * ((inside_last[:, None] + inside_first[None]) / 2 + ROUNDING)
    alike = standardised(last) @ standardised(first).T / last.shape[1] >= LEAST_CORRELATION
    found: NDArray[np.bool_] = alike & (step <= allowed)
    np.fill_diagonal(found, False)
    return found


def fields_of(samples: Sequence[Sample]) -> list[str]:
    """The field of each sample, called by the first of its samples' names; every image is read once."""
    alike: dict[tuple[tuple[int, ...], bool], list[int]] = defaultdict(list)
    grey: list[Floats] = []
    for index, sample in enumerate(samples):
        image = sample.read_image()
        alike[image.shape, is_grey(image)].append(index)
        grey.append(image.mean(axis=0, dtype=np.float64))
    joined: list[tuple[int, int]] = []
    for members in alike.values():
        images = np.stack([grey[index] for index in members])
        for axis in (0, 1):
            joined += [(members[i], members[j]) for i, j in np.argwhere(seams(images, axis))]
    pairs = np.array(joined, dtype=int).reshape(-1, 2)
    n = len(samples)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (n, n))
    _, field = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for number, sample in zip(field, samples, strict=True):
        first[number] = min(first.get(number, sample.name), sample.name)
    return [first[number] for number in field]
