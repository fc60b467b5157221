"""How long the warping error of a slice takes at one threshold, on one thread.

    python benchmarks/warping_error.py [--slices 5] [--repeat 3]

Slices of isbi2012. As estimates there are thresholds of the smoothed image itself, which find hundreds of cells that
are none, so that much has to be warped: harder than any network's map; and the annotation with its membranes moved and
cut.
Prints a table; a time is the median of the repetitions.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.data.catalog import open_dataset
from ushape.scoring.warping import warping_errors

Labels = NDArray[np.int32]
SHIFT = 2
"""Pixels by which membranes are moved."""
CUT = 0.02
"""Share of the membranes' pixels that are cut out."""


def estimates(image: NDArray[Any], reference: Labels) -> Iterator[tuple[str, Labels]]:
    """(name, labels): what is scored against the reference."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.5)
    for share in (0.3, 0.5, 0.7):
        low, high = np.percentile(smooth, (1, 99))
        yield f"image above {share:g}", (smooth > low + share * (high - low)).astype(np.int32)
    moved = np.roll(reference, SHIFT, axis=1)
    holes = np.random.default_rng(0).random(moved.shape) < CUT
    yield "annotation, moved and cut", np.where(holes, 1, moved).astype(np.int32)


def main() -> None:
    """Read, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    size: tuple[int, ...] = ()
    for sample in open_dataset("isbi2012").annotated.samples[: asked.slices]:
        reference = sample.read_reference()
        size = reference.shape
        for name, estimate in estimates(sample.read_image()[0], reference):
            times = []
            for _ in range(asked.repeat):
                begun = time.perf_counter()
                error = warping_errors(reference, estimate)[0]
                times.append(time.perf_counter() - begun)
            seconds.setdefault(name, []).append(statistics.median(times))
            errors.setdefault(name, []).append(error)
    print(f"Slices of {' x '.join(map(str, size))} px, {asked.slices} of them, one thread.\n")
    print("| estimate | warping error, mean | seconds a slice, median | largest |\n|---|---|---|---|")
    for name, times in seconds.items():
        mean = sum(errors[name]) / len(errors[name])
        print(f"| {name} | {mean:.4f} | {statistics.median(times):.3f} | {max(times):.3f} |")


if __name__ == "__main__":
    main()
