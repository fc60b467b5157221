"""What drawing patches around the annotation is worth, where a few strokes are all there is of it.

    python benchmarks/strokes.py [--steps 250] [--seeds 0 1 2]

One simulated image of 1536 x 1536 pixels with sixteen strokes of 5 pixels, eight on objects and eight beside them,
trains `auto` at 16 channels, with patches drawn around annotated pixels and, for comparison, as of an image that is
annotated everywhere. The score is the mean IoU of the objects on four other images of 768 x 768 pixels, which are
annotated everywhere. Budgets are steps, so that a busy machine changes no result; a training takes one to two minutes
of two cores.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.data.dataset import Dataset, Sample
from ushape.data.phantom import phantom_image
from ushape.model import Model
from ushape.run import train_run
from ushape.training import batches

SIDE, TEST_SIDE = 1536, 768
TEST_SEEDS = range(100, 104)
STROKES, HALF_LENGTH, HALF_WIDTH = 8, 60, 2
"""Strokes of each class, and their sides in pixels."""
SHORTEST = 30
"""Pixels along a stroke; one that has fewer on its class is drawn again."""
CLEAR = 4
"""Pixels between a stroke and the border of an object."""


def strokes(inside: NDArray[np.bool_], seed: int) -> NDArray[np.int32]:
    """(H, W) of -1 with strokes of 1 inside of the objects and of 0 beside them."""
    rng = np.random.default_rng(seed)
    height, width = inside.shape
    mask = np.full(inside.shape, -1, np.int32)
    along = np.arange(-HALF_LENGTH, HALF_LENGTH)
    clear = (~ndimage.binary_dilation(inside, iterations=CLEAR), ndimage.binary_erosion(inside, iterations=CLEAR))
    for value, area in enumerate(clear):
        drawn = 0
        while drawn < STROKES:
            row, column, angle = rng.integers(height), rng.integers(width), rng.uniform(0, np.pi)
            rows = np.clip((row + along * np.sin(angle)).astype(int), 0, height - 1)
            columns = np.clip((column + along * np.cos(angle)).astype(int), 0, width - 1)
            kept = area[rows, columns]
            if kept.sum() < SHORTEST:
                continue
            for aside in range(-HALF_WIDTH, HALF_WIDTH + 1):
                beside = np.clip(rows[kept] + aside, 0, height - 1)
                mask[beside, columns[kept]] = np.where(inside[beside, columns[kept]] == bool(value), value, -1)
            drawn += 1
    return mask


def data() -> Dataset:
    """The image with its strokes."""
    image, objects = phantom_image(0, (SIDE, SIDE))
    mask = strokes(objects > 0, 0)
    sample = Sample("strokes", partial(np.copy, image), partial(np.copy, mask))
    return Dataset("strokes", (sample,), "semantic", ("background", "object"))


def score(model: Model) -> float:
    """Mean IoU of the objects on the other images."""
    found = []
    for seed in TEST_SEEDS:
        image, objects = phantom_image(seed, (TEST_SIDE, TEST_SIDE))
        expected, answered = objects > 0, model.predict(image).labels == 1
        found.append(np.count_nonzero(expected & answered) / np.count_nonzero(expected | answered))
    return float(np.mean(found))


def main() -> None:
    """Train and print a row for each way to draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    annotated = strokes(phantom_image(0, (SIDE, SIDE))[1] > 0, 0) >= 0
    print(f"annotated: {100 * annotated.mean():.2f} % of {SIDE} x {SIDE} pixels; {asked.steps} steps\n")
    print(f"| patches | {' | '.join(f'seed {seed}' for seed in asked.seeds)} |\n|---|{'---|' * len(asked.seeds)}")
    usual = batches.SPARSE
    for told, limit in (("as of a whole annotation", 0.0), ("around annotated pixels", usual)):
        # The share of an image below which its annotation counts as sparse.
        batches.SPARSE = limit
        found = []
        for seed in asked.seeds:
            settings = ["network.channels=16"]
            model = train_run(
                data(), steps=asked.steps, seed=seed, device="cpu", keep_folder=False, settings=settings
            ).model
            found.append(score(model))
        print(f"| {told} | {' | '.join(f'{value:.3f}' for value in found)} |", flush=True)


if __name__ == "__main__":
    main()
