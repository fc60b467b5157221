"""A plain PyTorch loop with a U-Net of 31 million parameters, as most repositories have it.

64 channels at the first level, five levels, batch normalisation, zeros around; float32 and the default memory format;
whole images, or crops of 512 x 512 where they are larger; batch 1; grey values from 0 to 1; mirrored and turned by
quarters; cross entropy; Adam at 1e-4; a validation by mean Dice behind every epoch, and the best weights kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from racing.contest import Finish, Image, Maps, Start
from racing.lesson import IGNORED, Lesson, Page, conclude, dihedral, make_lesson
from racing.loop import fit
from speed.peers import TextbookUNet
from ushape.network.hardware import set_threads
from ushape.scoring.pixels import confusion_matrix, pixel_scores

__all__ = ["crop", "padded", "run_plain", "scaled"]

CHANNELS, DEPTH = 64, 5
SIDE = 512
LEARNING_RATE = 1e-4
STRIDE = 2 ** (DEPTH - 1)


def scaled(image: Image) -> NDArray[np.float32]:
    """Grey values from 0 to 1: by the type's largest for integers, by the image's own range otherwise."""
    if image.dtype.kind in "ui":
        return (image / np.float32(np.iinfo(image.dtype).max)).astype(np.float32)
    low, high = float(image.min()), float(image.max())
    return ((image - low) / (high - low or 1.0)).astype(np.float32)


def crop(page: Page, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(image (C, h, w), classes (h, w)): the whole, or a part of it no larger than SIDE, each side a multiple of 16."""
    sides = [min(SIDE, n // STRIDE * STRIDE) for n in page.mask.shape]
    starts = [int(rng.integers(n - side + 1)) for n, side in zip(page.mask.shape, sides, strict=True)]
    window = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    number = int(rng.integers(8))
    image = dihedral(scaled(page.image)[(slice(None), *window)], number)
    return np.ascontiguousarray(image), np.ascontiguousarray(dihedral(page.classes[window], number))


def padded(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image (C, H, W), mirrored at its end until each side is a multiple of 16."""
    missing = [(0, -n % STRIDE) for n in image.shape[1:]]
    return np.pad(image, [(0, 0), *missing], mode="symmetric")


@torch.inference_mode()
def predict(network: nn.Module, image: Image) -> Maps:
    """Probabilities (K, H, W) of an image (C, H, W)."""
    network.eval()
    height, width = image.shape[1:]
    logits = network(torch.from_numpy(padded(scaled(image)))[None])[0, :, :height, :width]
    maps: Maps = logits.softmax(dim=0).numpy()
    return maps


def mean_dice(network: nn.Module, lesson: Lesson) -> float:
    """Mean Dice of all classes over the images held out."""
    counts = [
        confusion_matrix(page.classes, predict(network, page.image).argmax(axis=0), lesson.n_classes)
        for page in lesson.validation
    ]
    names = [f"class {number}" for number in range(lesson.n_classes)]
    return pixel_scores(np.sum(counts, axis=0), names)["mean Dice"]


def one_epoch(
    network: nn.Module, optimiser: torch.optim.Optimizer, lesson: Lesson, rng: np.random.Generator
) -> Iterator[None]:
    """A step for each image, in a new order."""
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORED)
    for index in rng.permutation(len(lesson.training)):
        network.train()
        image, classes = crop(lesson.training[index], rng)
        optimiser.zero_grad()
        loss = criterion(network(torch.from_numpy(image)[None]), torch.from_numpy(classes)[None])
        loss.backward()
        optimiser.step()
        yield


def run_plain(start: Start, channels: int = CHANNELS) -> Finish:
    """Train for the minutes; thresholds are chosen behind them."""
    set_threads()
    torch.manual_seed(start.seed)
    rng = np.random.default_rng(start.seed)
    lesson = make_lesson(start.training)
    network = TextbookUNet(lesson.channels, lesson.n_classes, channels, DEPTH, padded=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    done = fit(
        network, lambda: one_epoch(network, optimiser, lesson, rng), lambda: mean_dice(network, lesson), start.left, 1
    )
    side = min(SIDE, lesson.smallest_side // STRIDE * STRIDE)
    return conclude(start, lesson, network, done, partial(predict, network), side, batch=1)
