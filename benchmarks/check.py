"""How long `ushape check` takes for 500 images of 512 x 512 pixels with about 40 objects each.

    python benchmarks/check.py [--images 500] [--repeat 3]

The files (PNG, masks of ids) are made in a temporary folder first; each repetition is a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE, OBJECTS = 512, 40


def write_pair(folder: Path, index: int) -> None:
    """An image of noisy blobs and its mask of ids."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for number in range(1, OBJECTS + 1):
        row, column, radius = rng.integers(0, SIDE), rng.integers(0, SIDE), rng.integers(8, 20)
        mask[(y - row) ** 2 + (x - column) ** 2 < radius**2] = number
    image = 60 + 90 * ndimage.gaussian_filter((mask > 0).astype(np.float32), 2) + rng.normal(0, 12, mask.shape)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{index:04d}.png")
    Image.fromarray(mask).save(folder / "masks" / f"{index:04d}.png")


def main() -> None:
    """Make the files, run the command, print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("images", "masks"):
            (folder / kind).mkdir()
        for index in range(asked.images):
            write_pair(folder, index)
        times = []
        for _ in range(asked.repeat):
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "ushape.cli", "check", str(folder)], capture_output=True, text=True, check=False
            )
            times.append(time.perf_counter() - begun)
        print(done.stdout)
        print(f"{asked.images} images: {statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f})")


if __name__ == "__main__":
    main()
