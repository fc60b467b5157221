"""What training a classifier of whole images needs beside what every training does: rules, images, hold-out.

The rules are as few and as plain as those of `planning`: the depth follows the size of the images, the width the time,
and whether images may be mirrored is asked of the images themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ushape.geometry import Geometry
from ushape.model import Preparation
from ushape.network.classifier import depth_for
from ushape.targets.maps import Encoding
from ushape.training.augment import Augmentation
from ushape.training.examples import DataSummary, Example, Neighbours
from ushape.training.recipe import NetworkSettings, OptimiserSettings, Recipe

__all__ = ["ask_neighbours", "pixels_per_image", "plan_classifier", "split_labels", "to_label_tensors", "working_size"]

LARGEST_SIDE = 128
"""Pixels of the longer side that images are brought down to: enough to tell what is on a picture."""
FOLDED_SIDE = 24
"""Pixels of the shorter side from which blocks of 2 x 2 pixels are folded into channels: a network of twice the
channels then costs less, and learns more in the same time (docs/results.md)."""
ASKED_IMAGES, ASKED_SIDE = 1000, 12
"""How many images are asked what keeps their class, and how small they are for that."""
FEWEST_ASKED, CLEARLY_ABOVE = 50, 0.2
"""With fewer images, or where neighbours do hardly better than always naming the largest class, nothing is learnt."""
MIRRORED_SHARE, MIRRORED_KEPT = 0.3, 0.99
"""Of so many images the nearest neighbour must be a mirrored one, and these may cost so little of the accuracy.
Clothes, with a fifth, are not learnt better when they are mirrored (docs/results.md)."""
TURNED_SHARE = 0.3
"""Of so many images the nearest neighbour must be a turned one, where images are to vary at full strength. Clothes,
with a twentieth, are learnt better at half of it however often they are seen (docs/results.md); digits written by hand
have two thirds."""
MOST_HELD_OUT = 5000
"""Images held out, at most: they tell an accuracy of 99.5 % to a tenth of a percent."""
BATCHES_PER_ROUND = 20
"""A round through the data takes at least so many steps; few images make small batches."""
LARGEST_BATCH, SMALLEST_BATCH = 128, 16
ROTATION, ZOOM, SHIFT, ELASTIC = 12.0, 1.15, 0.07, 0.03
"""Degrees, factor, and shares of the image's side, at full strength."""
UPRIGHT_STRENGTH = 0.5
"""Of images that all stand upright, at most."""
BRIGHTNESS, CONTRAST, NOISE = 0.1, 1.25, 0.05
"""Standard deviations of the image, a factor, and standard deviations of the image, at full strength."""
ROUNDS_FOR_ALL = 20
"""Rounds through the data from which images vary at full strength; a network that sees each image a few times only
learns more from images nearer to the real ones (docs/results.md)."""


def working_size(sizes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The size all images are brought to: the median one, with no more pixels than a square of LARGEST_SIDE."""
    median = [sorted(sides)[len(sides) // 2] for sides in zip(*sizes, strict=True)]
    # By the area, so that a line of text keeps its height.
    shrink = min(1.0, LARGEST_SIDE / math.prod(median) ** (1 / len(median)))
    return tuple(max(2, round(side * shrink)) for side in median)


def scale_for(size: tuple[int, ...]) -> int:
    """The working scale for images of this size: 2 where no side is short."""
    return 2 if min(size) >= FOLDED_SIDE else 1


def pixels_per_image(sizes: Sequence[tuple[int, ...]]) -> int:
    """Pixels of one image on the working grid, padding included."""
    size = working_size(sizes)
    geometry = Geometry(depth_for(size, scale_for(size)), "same", scale_for(size))
    return math.prod(geometry.legal_at_least(side) // geometry.scale for side in size)


def thumbnails(images: Sequence[NDArray[np.floating]], angle: float = 0.0) -> NDArray[np.float32]:
    """Images (C, *space) -> (n, side, ...): the mean of the channels, small, of mean 0 and standard deviation 1.

    angle  degrees that they are turned by, in their last two axes
    """
    small = []
    for image in images:
        grey = image.mean(axis=0, dtype=np.float32)
        # Turned while there is something to interpolate between, and at a size that costs nothing.
        for side in (2 * ASKED_SIDE, ASKED_SIDE):
            grey = ndimage.zoom(grey, [side / n for n in grey.shape], order=1, grid_mode=True, mode="nearest")
            if angle and side > ASKED_SIDE:
                grey = ndimage.rotate(grey, angle, (-2, -1), reshape=False, order=1, mode="nearest")
        small.append((grey - grey.mean()) / (grey.std() + 1e-6))
    return np.stack(small).astype(np.float32)


def ask_neighbours(examples: Sequence[Example]) -> Neighbours | None:
    """Whether mirrored and turned images look like others that there are, asked of small images' nearest neighbours.

    None where neighbours tell nothing, because there are too few images or because their pixels differ too much.
    """
    if len(examples) < FEWEST_ASKED:
        return None
    chosen = [examples[i] for i in np.linspace(0, len(examples) - 1, min(len(examples), ASKED_IMAGES)).astype(int)]
    images, labels = [example.image for example in chosen], np.array([int(example.mask) for example in chosen])
    upright = thumbnails(images)

    def closeness_to(others: NDArray[np.float32]) -> NDArray[np.float32]:
        closeness: NDArray[np.float32] = upright.reshape(len(images), -1) @ others.reshape(len(images), -1).T
        # Nobody is asked about himself, in the mirror or out of it.
        np.fill_diagonal(closeness, -np.inf)
        return closeness

    alike, across = closeness_to(upright), closeness_to(upright[..., ::-1])
    nearest = alike.max(axis=1)
    taken = across.max(axis=1) > nearest
    told = labels[alike.argmax(axis=1)] == labels
    told_by_both = np.where(taken, labels[across.argmax(axis=1)] == labels, told)
    right, chance = told.mean(), np.bincount(labels).max() / len(labels)
    if right <= chance + CLEARLY_ABOVE * (1 - chance):
        return None
    turned = [closeness_to(thumbnails(images, angle)).max(axis=1) > nearest for angle in (-ROTATION, ROTATION)]
    return Neighbours(float(taken.mean()), float(told_by_both.mean() / right), float(np.any(turned, axis=0).mean()))


def split_labels(
    labels: NDArray[np.int64], fraction: float, groups: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, held out) indices: of each class an even share of its groups, and of one with two groups one.

    groups  which images are not independent; those of one group stay together, and a class stays in training
    """
    fraction = min(fraction, MOST_HELD_OUT / max(1, len(labels)))
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    held: set[int] = set()
    for label in np.unique(labels):
        own = [indices for indices in members.values() if labels[indices[0]] == label]
        n = max(1, round(fraction * len(own))) if len(own) > 1 else 0
        chosen = [own[(2 * i + 1) * len(own) // (2 * n)] for i in range(n)]
        if 2 * sum(map(len, chosen)) > sum(map(len, own)):
            # Among groups of very different sizes these would be most of the images.
            chosen = sorted(own, key=len)[:n]
        held |= {index for indices in chosen for index in indices}
    # A group may hold several classes, and with it a class could leave training altogether.
    for label in np.setdiff1d(labels, np.delete(labels, sorted(held))):
        held -= {index for indices in members.values() if label in labels[indices] for index in indices}
    training = np.setdiff1d(np.arange(len(labels)), sorted(held))
    return training, np.array(sorted(held), np.int64)


def to_label_tensors(
    examples: Sequence[Example], preparation: Preparation, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(images (N, C, *size) float16, labels (N,) int64) on the device; 11 bits are more than cameras tell apart."""
    images = np.stack([preparation(example.image).astype(np.float16) for example in examples])
    labels = np.array([int(example.mask) for example in examples], np.int64)
    return torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)


def strength_for(rounds: float, neighbours: Neighbours | None) -> tuple[float, str]:
    """(strength, why not full): how much images vary when each is seen so often, as a share of full, in quarters."""
    strength = min(4, max(1, round(4 * min(1.0, rounds / ROUNDS_FOR_ALL)))) / 4
    if neighbours is not None and neighbours.turned < TURNED_SHARE and strength > UPRIGHT_STRENGTH:
        return UPRIGHT_STRENGTH, (
            f"gently, because they stand upright (a turned one is the nearest neighbour of {neighbours.turned:.0%} of "
            "them only)"
        )
    return strength, "" if strength == 1 else "gently, because each is seen a few times only"


def whether_mirrored(neighbours: Neighbours | None) -> tuple[bool, str]:
    """(mirror, sentence) for what the images say."""
    if neighbours is None:
        return False, (
            "not mirrored: nothing tells whether that keeps the class (--set augmentation.mirror=true if it does)"
        )
    if neighbours.mirrored < MIRRORED_SHARE:
        return (
            False,
            f"not mirrored: a mirrored one is the nearest neighbour of {neighbours.mirrored:.0%} of the images only",
        )
    if neighbours.kept < MIRRORED_KEPT:
        return False, (
            f"not mirrored: nearest neighbours, mirrored ones among them, tell the class {neighbours.kept:.0%} as "
            "often as without these"
        )
    return True, (
        f"mirrored left and right too: the nearest neighbour is a mirrored one for {neighbours.mirrored:.0%} of the "
        "images, and tells the class as well; what is classified is looked at both ways"
    )


def augmentation_for(size: tuple[int, ...], neighbours: Neighbours | None, rounds: float) -> tuple[Augmentation, str]:
    """(augmentation, sentence) for images of this size, each of which is seen so often."""
    side = min(size)
    strength, why = strength_for(rounds, neighbours)
    mirror, told = whether_mirrored(neighbours)
    augmentation = Augmentation(
        mirror=mirror,
        rotation=ROTATION * strength,
        zoom=round(ZOOM**strength, 3),
        shift=round(SHIFT * side * strength, 2),
        elastic=round(ELASTIC * side * strength, 2),
        brightness=round(BRIGHTNESS * strength, 3),
        contrast=round(CONTRAST**strength, 3),
        gamma=1.0,
        noise=round(NOISE * strength, 3),
    )
    return augmentation, (
        f"images are turned by up to {augmentation.rotation:.0f} degrees, zoomed, shifted by up to "
        f"{augmentation.shift:.1f} px and bent" + (f", {why}" if why else "") + f"; they are {told}"
    )


def plan_classifier(summary: DataSummary, channels: int, rounds: float, reason: str) -> Recipe:
    """The `auto` recipe for classes of whole images.

    channels, reason  what was chosen for the time, and why
    rounds            how often each image is seen then
    """
    size = working_size(summary.sizes)
    scale = scale_for(size)
    depth = depth_for(size, scale)
    n_classes = len(summary.classes)
    batch = 1 << max(0, math.floor(math.log2(max(1, summary.n_images / BATCHES_PER_ROUND))))
    batch = min(LARGEST_BATCH, max(SMALLEST_BATCH, batch))
    augmentation, varied = augmentation_for(size, summary.neighbours, rounds)
    told = " x ".join(map(str, size))
    return Recipe(
        name="auto",
        network=NetworkSettings(channels=channels, depth=depth, scale=scale, head="bottom"),
        encoding=Encoding("label", n_classes=n_classes),
        patch=size,
        batch=batch,
        optimiser=OptimiserSettings(learning_rate=6e-3, weight_decay=2e-2, decay=0.7, average=0.995),
        augmentation=augmentation,
        foreground=0.0,
        smoothing=0.05,
        reasons=(
            f"each image has one of {n_classes} classes, so the features at the bottom of the U, which have seen most "
            "of the image, are averaged over it and one linear layer tells the class; without the way up the same "
            "minutes hold twice the steps (--set network.head=decoder keeps it)",
            f"images of {told} px, working scale {scale} and {depth} levels: the bottom sees them as "
            f"{' x '.join(str(-(-side // (scale << (depth - 1)))) for side in size)}",
            varied,
            reason,
            f"batches of {batch} images, AdamW, and a moving average of weights",
        ),
    )
