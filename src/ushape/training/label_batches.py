"""Batches of whole images with a class each: the classifier's counterpart of `batches`.

Images are drawn without replacement, in an order that is shuffled anew for each round through the data: batch k is a
function of (data, seed, k) here too. The whole batch is warped in one resampling, with the parameters of
`ushape.training.augment.Augmentation`: mirror, rotation, zoom, shift and elastic deformation, then grey values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ushape.network.hardware import to_device
from ushape.training.augment import GREY_SPAN, Augmentation, spline_matrix
from ushape.training.batches import Batch

__all__ = ["LabelBatches", "warp_images"]


def draw_matrices(augmentation: Augmentation, n: int, dims: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n, dims, dims): offsets from a patch's centre -> offsets in the source; mirror, rotation and zoom."""
    matrices = np.tile(np.eye(dims), (n, 1, 1))
    if augmentation.mirror:
        # Left and right only: what stands on its head is another picture.
        matrices[:, -1, -1] = rng.choice([-1.0, 1.0], size=n)
    angles = np.radians(rng.uniform(-1, 1, size=n) * augmentation.rotation)
    zooms = np.exp(rng.uniform(-1, 1, size=n) * np.log(augmentation.zoom))
    turns = np.tile(np.eye(dims), (n, 1, 1))
    turns[:, -2, -2] = turns[:, -1, -1] = np.cos(angles)
    turns[:, -2, -1], turns[:, -1, -2] = -np.sin(angles), np.sin(angles)
    warps: NDArray[np.float64] = (matrices @ turns) / zooms[:, None, None]
    return warps


def smooth_fields(nodes: NDArray[np.float64], size: Sequence[int], device: torch.device) -> Tensor:
    """Displacements (n, dims, *nodes) on coarse grids -> (n, dims, *size), by cubic splines (P17)."""
    fields = to_device(nodes.astype(np.float32), device)
    for axis, n in enumerate(size, start=2):
        matrix = spline_matrix(n, fields.shape[axis], device)
        fields = torch.tensordot(fields, matrix, dims=([axis], [1])).movedim(-1, axis)
    return fields


def warp_images(images: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Images (n, C, *size), each resampled once with a warp of its own; beyond the border they are mirrored."""
    n, size = len(images), images.shape[2:]
    dims, device = len(size), images.device
    matrices = to_device(draw_matrices(augmentation, n, dims, rng).astype(np.float32), device)
    axes = [torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2 for side in size]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    source = torch.einsum("nij,j...->ni...", matrices, offsets)
    shifts = to_device((rng.uniform(-1, 1, size=(n, dims)) * augmentation.shift).astype(np.float32), device)
    source = source + shifts.view(n, dims, *[1] * dims)
    if augmentation.elastic:
        nodes = rng.normal(scale=augmentation.elastic, size=(n, dims, *[augmentation.elastic_nodes] * dims))
        source = source + smooth_fields(nodes, size, device)
    # grid_sample wants the last axis first, as the last dimension, and -1 to 1 from the first pixel to the last.
    scale = to_device(np.array([2 / max(1, side - 1) for side in size], np.float32), device)
    grid = (source * scale.view(1, dims, *[1] * dims)).flip(1).movedim(1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def vary_images(images: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, gamma and noise on normalised images (n, C, *size), each channel of each its own."""
    n, n_channels = images.shape[:2]
    shape = (n, n_channels, *[1] * (images.ndim - 2))

    def each(values: NDArray[np.float64]) -> Tensor:
        return to_device(values.astype(np.float32), images.device).view(shape)

    def factors(largest: float) -> Tensor:
        return each(np.exp(rng.uniform(-1, 1, size=(n, n_channels)) * np.log(largest)))

    if augmentation.gamma > 1:
        axes = tuple(range(2, images.ndim))
        low = images.amin(dim=axes, keepdim=True)
        span = (images.amax(dim=axes, keepdim=True) - low).clamp(1e-6, GREY_SPAN)
        images = ((images - low) / span).clamp_min(1e-6) ** factors(augmentation.gamma) * span + low
    if augmentation.contrast > 1:
        images = images * factors(augmentation.contrast)
    if augmentation.brightness:
        images = images + each(rng.normal(scale=augmentation.brightness, size=(n, n_channels)))
    if augmentation.noise:
        generator = torch.Generator(device=images.device).manual_seed(int(rng.integers(2**62)))
        level = each(np.repeat(rng.uniform(0, augmentation.noise, size=(n, 1)), n_channels, axis=1))
        images = images + level * torch.randn(images.shape, generator=generator, device=images.device)
    return images


class LabelBatches:
    """Call it with k to get batch k; see the module's docstring.

    images   (N, C, *size), normalised, on the training device; any floating type
    labels   (N,) int64
    weights  (n_classes,): what an image of each class weighs
    """

    def __init__(
        self, images: Tensor, labels: Tensor, weights: Tensor, batch: int, augmentation: Augmentation, seed: int
    ) -> None:
        self.images, self.labels, self.weights = images, labels, weights
        self.batch, self.augmentation, self.seed = batch, augmentation, seed
        # One round's order at a time is asked for, or two where a batch spans them.
        self.order = lru_cache(maxsize=2)(self.draw_order)

    def draw_order(self, round_number: int) -> NDArray[np.int64]:
        """The order of the images in one round through the data."""
        return np.random.default_rng((self.seed, 0, round_number)).permutation(len(self.images))

    def members(self, k: int) -> NDArray[np.int64]:
        """Which images are in batch k."""
        places = np.arange(k * self.batch, (k + 1) * self.batch)
        rounds, places = np.divmod(places, len(self.images))
        return np.array([self.order(int(r))[place] for r, place in zip(rounds, places, strict=True)], np.int64)

    def __call__(self, k: int) -> Batch:
        """Batch k: images (B, C, *size) float32, classes (B,) int64, weights (B,) float32."""
        rng = np.random.default_rng((self.seed, 1, k))
        members = to_device(self.members(k), self.images.device)
        labels = self.labels[members]
        images = warp_images(self.images[members].float(), self.augmentation, rng)
        return Batch(vary_images(images, self.augmentation, rng), labels, self.weights[labels], None)
