"""The handwritten digits that scikit-learn brings along: 1797 real images of 8 x 8, ready without a network.

They are the test part of a larger set: digits of 13 people, counted down to 8 x 8 cells of 0 to 16 ink points, which
are spread here over 0 to 255 so that they look like other grey images. Every fifth image of each class is the part
`test`, the others are `train`. Who wrote which digit is not recorded, so the same people are in both parts.

Reference: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError

__all__ = ["DIGITS", "open_digits"]

DIGITS = tuple("0123456789")
MAX_INK = 16  # ink points in a cell
TEST_EVERY = 5  # every fifth image of a class is for testing


def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(images (n, 8, 8) from 0 to 255, labels (n,))."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "digits: expected scikit-learn, which holds these images, found no such package; "
            "install it with: pip install scikit-learn"
        ) from error
    bundle = load_digits()
    return np.rint(bundle.images * (255 / MAX_INK)).astype(np.uint8), bundle.target.astype(np.int64)


def _one(images: NDArray[np.uint8], index: int) -> NDArray[Any]:
    image: NDArray[Any] = images[index][None].copy()
    return image


def _is_test(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images are for testing: every fifth of each class, in their order."""
    held_out = np.zeros(len(labels), bool)
    for label in range(len(DIGITS)):
        held_out[np.flatnonzero(labels == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return held_out


def open_digits(part: str) -> Dataset:
    """The part "train" or "test" as a dataset for classification; images (1, 8, 8) uint8; samples digit_0017 etc."""
    images, labels = _load()
    samples = tuple(
        Sample(f"digit_{i:04d}", partial(_one, images, i), label=int(labels[i]))
        for i in np.flatnonzero(_is_test(labels) == (part == "test")).tolist()
    )
    finding = f"Every fifth of the {len(labels)} images is for testing; the same people wrote the others."
    return Dataset(f"digits:{part}", samples, "classification", DIGITS, (finding,))
