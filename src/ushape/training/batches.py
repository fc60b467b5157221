"""Batch k is a pure function of (data, seed, k): nothing depends on what was drawn before.

So a run that was interrupted continues without any saved random state, and any batch can be looked at again. Images,
maps and classes lie on the training device; a patch is one resampling there (`ushape.training.augment`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ushape.geometry import Geometry
from ushape.targets.maps import TrainingMaps
from ushape.training.augment import Augmentation, draw_warp, read_patch, vary_grey_values

__all__ = ["Batch", "Batches", "TrainingImage", "to_training_image"]

FOREGROUND_PIXELS = 4096
"""Pixels of objects remembered per image as possible centres; enough that no object of 0.1 % of an image is missed."""

SPARSE = 0.5
"""With a smaller share of annotated pixels an image is annotated by strokes, or in small parts."""

BEYOND = 1 / 8
"""Share of the written patch that may lie beyond the image's border, so that pixels at the border are drawn too."""


@dataclass(frozen=True)
class TrainingImage:
    """One normalised image with its training maps, on the training device.

    planes      float32 (C + 2 or C + 3, *space): image channels, weights, the distance where there is one, and last
                the classes (whole numbers, -1 = ignore)
    n_channels  C
    foreground  int64 (n, dims) each: some pixels of objects, possible centres of patches; where classes are told
                apart one array for each class that occurs, so that rare ones are drawn as often as the others; of an
                image with few annotated pixels one for the background too
    emphasis    how often it is drawn, relative to the others
    sparse      whether few pixels are annotated: then all patches are drawn around such
    """

    planes: Tensor
    n_channels: int
    foreground: tuple[NDArray[np.int64], ...]
    emphasis: float
    sparse: bool = False


def to_training_image(
    image: NDArray[np.float32],
    maps: TrainingMaps,
    emphasis: float,
    device: torch.device,
    *,
    by_class: bool = False,
) -> TrainingImage:
    """Put a normalised image (C, *space) and its maps on the device.

    by_class  whether each class above background is a foreground of its own, or all of them are one
    """
    planes: list[NDArray[Any]] = [image, maps.weights[None]]
    if maps.distance is not None:
        planes.append(maps.distance[None])
    planes.append(maps.classes[None])
    present = [int(c) for c in np.unique(maps.classes) if c > 0]
    found = [np.argwhere(maps.classes == c) for c in present] if by_class else [np.argwhere(maps.classes > 0)]
    # Elsewhere most patches would have nothing to learn from, and strokes of background would hardly be seen.
    sparse = np.count_nonzero(maps.classes >= 0) < SPARSE * maps.classes.size
    if sparse:
        found.insert(0, np.argwhere(maps.classes == 0))
    # Evenly thinned rather than drawn: no randomness outside the keyed draws. Copied, or all of them stay in memory.
    foreground = tuple(pixels[:: max(1, len(pixels) // FOREGROUND_PIXELS)].copy() for pixels in found if len(pixels))
    return TrainingImage(
        torch.from_numpy(np.concatenate(planes).astype(np.float32, copy=False)).to(device),
        image.shape[0],
        foreground,
        emphasis,
        bool(sparse),
    )


@dataclass(frozen=True)
class Batch:
    """images (B, C, *patch) float32; classes (B, *out) int64; weights (B, *out); distance (B, *out) or None.

    Of classes of whole images there are as many as images: classes (B,), weights (B,).
    """

    images: Tensor
    classes: Tensor
    weights: Tensor
    distance: Tensor | None


def draw_centre(
    space: tuple[int, ...],
    patch: tuple[int, ...],
    out: tuple[int, ...],
    target: NDArray[np.int64] | None,
    rng: np.random.Generator,
) -> tuple[float, ...]:
    """The patch's centre in source pixels: uniform over the image, or near `target` where one is given.

    The written part `out` may reach a little over the image's border (`BEYOND`); a patch larger than the image is
    centred up to that. Patches start on whole pixels.
    """
    centre = []
    for axis, (n, p, o) in enumerate(zip(space, patch, out, strict=True)):
        beyond = int(o * BEYOND)
        first, last = -beyond, n - o + beyond
        if last < first:
            first = last = (n - o) // 2
        start = int(rng.integers(first, last + 1))
        if target is not None:
            start = int(np.clip(target[axis] - rng.integers(0, o), first, last))
        centre.append(start - (p - o) // 2 + (p - 1) / 2)
    return tuple(centre)


class Batches:
    """Call it with k to get batch k; see the module's docstring."""

    def __init__(
        self,
        images: Sequence[TrainingImage],
        geometry: Geometry,
        patch: tuple[int, ...],
        batch: int,
        augmentation: Augmentation,
        seed: int,
        foreground: float = 0.0,
    ) -> None:
        self.images, self.patch, self.batch = tuple(images), patch, batch
        self.augmentation, self.seed, self.foreground = augmentation, seed, foreground
        self.out = tuple(geometry.output_size(n) for n in patch)
        emphasis = np.array([image.emphasis for image in images], dtype=np.float64)
        self.shares = emphasis / emphasis.sum()
        self.n_channels = images[0].n_channels
        self.has_distance = len(images[0].planes) == self.n_channels + 3

    def patch_of(self, k: int, index: int, out: Tensor | None = None) -> Tensor:
        """Planes (n, *patch) of one member of batch k, in the order of `TrainingImage.planes`; written to `out`."""
        rng = np.random.default_rng((self.seed, k, index))
        source = self.images[int(rng.choice(len(self.images), p=self.shares))]
        target = None
        share = 1.0 if source.sparse and self.foreground else self.foreground
        if len(source.foreground) and rng.random() < share:
            n_groups = len(source.foreground)
            pixels = source.foreground[int(rng.integers(n_groups)) if n_groups > 1 else 0]
            target = pixels[int(rng.integers(len(pixels)))]
        centre = draw_centre(tuple(source.planes.shape[1:]), self.patch, self.out, target, rng)
        warp = draw_warp(self.augmentation, centre, rng)
        planes = read_patch(source.planes, len(source.planes) - 1, warp, self.patch, out)
        planes[: self.n_channels] = vary_grey_values(planes[: self.n_channels], self.augmentation, rng)
        return planes

    def __call__(self, k: int) -> Batch:
        """Batch k."""
        planes = self.images[0].planes.new_empty((self.batch, self.n_channels + 2 + self.has_distance, *self.patch))
        for index in range(self.batch):
            self.patch_of(k, index, planes[index])
        written = tuple(slice((p - o) // 2, (p - o) // 2 + o) for p, o in zip(self.patch, self.out, strict=True))
        maps = planes[(slice(None), slice(self.n_channels, None), *written)]
        return Batch(
            images=planes[:, : self.n_channels],
            classes=maps[:, -1].long(),
            weights=maps[:, 0],
            distance=maps[:, 1] if self.has_distance else None,
        )
