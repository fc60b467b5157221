"""What all tests share."""

import os

# Waiting threads that spin take the processors from the ones that work, wherever several programs share them.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ushape.data.dataset import Dataset, Sample


@pytest.fixture(scope="module")
def one_thread():
    """Networks this small run many times faster on one thread wherever the processors are shared."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def disc_image(seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(image (1, H, W) uint8, instances): bright discs that do not touch, on noise; easy on purpose."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    for number, (row, column) in enumerate([(16, 16), (16, 46), (46, 18), (46, 46)], start=1):
        row, column = row + int(rng.integers(-4, 5)), column + int(rng.integers(-4, 5))
        mask[(y - row) ** 2 + (x - column) ** 2 < int(rng.integers(6, 10)) ** 2] = number
    image = 60 + 100 * (mask > 0) + rng.normal(scale=15, size=mask.shape)
    return image.clip(0, 255).astype(np.uint8)[None], mask


def disc_image_only(seed: int) -> np.ndarray:
    return disc_image(seed)[0]


def disc_mask_only(seed: int) -> np.ndarray:
    return disc_image(seed)[1]


def disc_dataset(n: int, seed: int = 0) -> Dataset:
    """n images of discs, as instances."""
    samples = tuple(
        Sample(f"disc{seed + i}", partial(disc_image_only, seed + i), partial(disc_mask_only, seed + i))
        for i in range(n)
    )
    return Dataset("discs", samples, "instances", ("background", "object"))


@pytest.fixture
def discs():
    return disc_dataset(6)


@pytest.fixture
def fresh_discs():
    return disc_dataset(4, seed=100)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public data sets, or a skip that says why."""
    folder = os.environ.get("USHAPE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("USHAPE_DATA is not set: no real data to test on")
    return Path(folder)
