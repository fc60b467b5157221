"""One displacement field does position, mirror, rotation, zoom and elastic deformation, in one resampling.

For each patch a few numbers are drawn (`draw_warp`), they make one grid of source coordinates (`warp_coordinates`),
and image, weights and classes are read there once (`read_patch`). Resampling once rather than in a chain blurs once
and costs once. Afterwards grey values vary (`vary_grey_values`).

Conventions: coordinates are in pixels of the source, (dims, *patch), first axis first; beyond the source's border the
plane is mirrored about the edge pixel, as in prediction. Everything random comes from the generator that is passed in.
References: PAPER P16, P17.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch.nn import functional as F

from ushape.errors import RecipeError
from ushape.geometry import mirrored
from ushape.network.hardware import to_device

__all__ = [
    "Augmentation",
    "Warp",
    "draw_warp",
    "read_patch",
    "sample_patch",
    "vary_grey_values",
    "warp_coordinates",
]

CPU = torch.device("cpu")

GREY_SPAN = 40.0
"""Standard deviations that the exponent on grey values spans at most; only stray pixels are further from the rest.

With a single hot pixel that is a thousand times as bright, all else would be crowded at the dark end, where an exponent
changes it several times over. Of five public data sets no image spans more than 35.
"""


@dataclass(frozen=True)
class Augmentation:
    """How much training images vary; every number is the strength of one invariance (P16).

    mirror        flip each axis half of the time
    rotation      largest angle in degrees, drawn uniformly to both sides (in the last two axes)
    zoom          largest magnification, drawn log-uniformly from 1/zoom to zoom
    shift         largest shift in pixels, of images that are classified as a whole; patches lie anywhere as it is
    elastic       standard deviation in pixels of the displacements on the coarse grid (P17: 10)
    elastic_nodes nodes of the coarse grid along each axis of the patch (P17: 3)
    warped        share of patches that are rotated, zoomed and deformed; the others keep their pixels exactly
    brightness    standard deviation of what is added to a channel, in standard deviations of the image
    contrast      largest factor on the contrast, drawn log-uniformly from 1/contrast to contrast
    gamma         largest exponent on the grey values, drawn log-uniformly from 1/gamma to gamma
    noise         largest standard deviation of Gaussian noise, in standard deviations of the image
    """

    mirror: bool = True
    rotation: float = 180.0
    zoom: float = 1.25
    shift: float = 0.0
    elastic: float = 10.0
    elastic_nodes: int = 3
    warped: float = 1.0
    brightness: float = 0.1
    contrast: float = 1.25
    gamma: float = 1.25
    noise: float = 0.1

    def __post_init__(self) -> None:
        for name in ("zoom", "contrast", "gamma"):
            if getattr(self, name) < 1:
                raise RecipeError(
                    f"expected augmentation.{name} to be a factor of at least 1 (1 = off), "
                    f"found {getattr(self, name)}; change it in the recipe"
                )
        for name in ("rotation", "shift", "elastic", "warped", "brightness", "noise"):
            if getattr(self, name) < 0:
                raise RecipeError(
                    f"expected augmentation.{name} to be 0 (off) or more, found {getattr(self, name)}; correct it"
                )
        if self.elastic_nodes < 2:
            raise RecipeError(
                f"expected augmentation.elastic_nodes to be at least 2, found {self.elastic_nodes}; "
                "set elastic = 0 to switch the deformation off"
            )


@dataclass(frozen=True)
class Warp:
    """The drawn parameters of one patch.

    centre        source coordinate of the patch's centre, in pixels
    matrix        (dims, dims): patch offsets from the centre -> source offsets
    displacement  (dims, nodes, ...): pixels, on the coarse grid; None for no deformation
    """

    centre: tuple[float, ...]
    matrix: NDArray[np.float64]
    displacement: NDArray[np.float64] | None


def draw_factor(rng: np.random.Generator, largest: float) -> float:
    """A factor between 1/largest and largest, log-uniform; exactly 1 for largest = 1."""
    return math.exp(rng.uniform(-1, 1) * math.log(largest))


def draw_warp(augmentation: Augmentation, centre: tuple[float, ...], rng: np.random.Generator) -> Warp:
    """Draw mirror, rotation, zoom and deformation of one patch around `centre`."""
    dims = len(centre)
    matrix = np.eye(dims)
    if augmentation.mirror:
        matrix *= rng.choice([-1.0, 1.0], size=dims)
        if augmentation.rotation >= 90 and rng.random() < 0.5:
            # A quarter turn moves pixels onto pixels; with the mirrors it makes all eight symmetries of the square.
            matrix[[-2, -1]] = matrix[[-1, -2]]
    if rng.random() >= augmentation.warped:
        return Warp(centre, matrix, None)
    angle = math.radians(rng.uniform(-1, 1) * augmentation.rotation)
    zoom = draw_factor(rng, augmentation.zoom)
    turn = np.eye(dims)
    turn[-2:, -2:] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    displacement = None
    if augmentation.elastic:
        displacement = rng.normal(scale=augmentation.elastic, size=(dims, *[augmentation.elastic_nodes] * dims))
    return Warp(centre, matrix @ turn / zoom, displacement)


@lru_cache(maxsize=32)
def spline_matrix(n: int, nodes: int, device: torch.device = CPU) -> Tensor:
    """(n, nodes): cubic interpolation of values on `nodes` evenly spaced nodes at n pixels (natural spline)."""
    spline = CubicSpline(np.linspace(0, 1, nodes), np.eye(nodes), bc_type="natural")
    return torch.from_numpy(spline(np.linspace(0, 1, n))).float().to(device)


def warp_coordinates(warp: Warp, patch: tuple[int, ...], device: torch.device) -> Tensor:
    """(dims, *patch) float32: where in the source, in pixels, each pixel of the patch is read.

    Along the last axis a coordinate is a constant plus a multiple of the offset, plus the splines of a few nodes: two
    passes over the pixels. Of two tensors: torch broadcasts three at once ten times as slowly.
    """
    dims = len(patch)

    def on_device(values: NDArray[Any]) -> Tensor:
        return to_device(values.astype(np.float32), device)

    offsets = [np.arange(n) - (n - 1) / 2 for n in patch]
    constant = np.empty((dims, *patch[:-1], 1))
    for axis in range(dims):
        constant[axis] = warp.centre[axis]
        for other in range(dims - 1):
            constant[axis] += (offsets[other] * warp.matrix[axis, other]).reshape([-1] + [1] * (dims - 1 - other))
    slope = warp.matrix[:, -1].reshape([dims] + [1] * dims)
    coordinates = on_device(constant) + on_device(slope * offsets[-1])
    if warp.displacement is not None:
        bent = warp.displacement
        for axis, n in enumerate(patch[:-1], start=1):
            bent = np.moveaxis(np.tensordot(spline_matrix(n, bent.shape[axis]).numpy(), bent, (1, axis)), 0, axis)
        # The only product of matrices: displacements are small, so that one of lower precision, where a program has
        # asked for that, still moves no pixel far.
        across = spline_matrix(patch[-1], bent.shape[-1], device).T
        coordinates.flatten(0, -2).addmm_(on_device(bent).flatten(0, -2), across)
    return coordinates


def sample_patch(planes: Tensor, n_linear: int, coordinates: Tensor, out: Tensor | None = None) -> Tensor:
    """Read the mirrored plane at `coordinates`: (n, *space) -> (n, *patch).

    planes       float32; the first `n_linear` (image channels, weights, distances) are read linearly, the others
                 (classes) from the nearest pixel, so that no class is invented
    coordinates  (dims, *patch) from `warp_coordinates`
    out          where to write the patch, and what is returned, where it is given
    """
    dims = coordinates.shape[0]
    # grid_sample wants the last axis first, as the last dimension, and -1 to 1 from the first pixel to the last. In
    # memory each axis stays a plane of its own, which is what its loop over a row reads fastest.
    grid = torch.empty_like(coordinates)
    for axis, n in enumerate(planes.shape[1:]):
        extent = max(1, n - 1)
        torch.sub(coordinates[axis], extent / 2, out=grid[dims - 1 - axis]).mul_(2 / extent)
    places = grid.movedim(0, -1).unsqueeze(0)

    def read(part: Tensor, mode: str) -> Tensor:
        # With corners aligned its reflection is about the edge pixel, without repeating it, as often as needed.
        return F.grid_sample(part.unsqueeze(0), places, mode=mode, padding_mode="reflection", align_corners=True)[0]

    parts = [read(planes[:n_linear], "bilinear")]
    if n_linear < len(planes):
        parts.append(read(planes[n_linear:], "nearest"))
    return torch.cat(parts, out=out)


def copy_patch(planes: Tensor, warp: Warp, patch: tuple[int, ...]) -> Tensor:
    """What `sample_patch` gives for a warp that `moves_pixels` (shift, mirror, quarter turn), without arithmetic."""
    order = [int(np.flatnonzero(row)[0]) for row in warp.matrix]
    window = planes
    for axis, other in enumerate(order):
        # The source axis `axis` follows the patch axis `other`, forwards or backwards.
        offsets = np.arange(patch[other]) - (patch[other] - 1) / 2
        index = np.rint(warp.centre[axis] + warp.matrix[axis, other] * offsets).astype(np.int64)
        index = mirrored(int(index.min()), int(index.max()) + 1, planes.shape[axis + 1])[index - index.min()]
        window = window.index_select(axis + 1, to_device(index, planes.device))
    return window.permute(0, *(1 + order.index(axis) for axis in range(len(order)))).contiguous()


def moves_pixels(warp: Warp, patch: tuple[int, ...]) -> bool:
    """True when every pixel of the patch is a pixel of the source: no deformation, mirrors and quarter turns only."""
    magnitude = np.abs(warp.matrix)
    if warp.displacement is not None or not np.isin(magnitude, (0.0, 1.0)).all() or (magnitude.sum(axis=1) != 1).any():
        return False
    starts = [c + abs(row) @ ((np.array(patch) - 1) / 2) for c, row in zip(warp.centre, warp.matrix, strict=True)]
    return all(float(start).is_integer() for start in starts)


def read_patch(planes: Tensor, n_linear: int, warp: Warp, patch: tuple[int, ...], out: Tensor | None = None) -> Tensor:
    """The patch (n, *patch) that the warp reads from `planes` (n, *space); exact where pixels only move.

    n_linear, out  as for `sample_patch`
    """
    if moves_pixels(warp, patch):
        copied = copy_patch(planes, warp, patch)
        return copied if out is None else out.copy_(copied)
    return sample_patch(planes, n_linear, warp_coordinates(warp, patch, planes.device), out)


def vary_grey_values(image: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, gamma and noise on a normalised patch (C, *patch), each channel its own."""
    n_channels = image.shape[0]
    shape = (n_channels, *[1] * (image.ndim - 1))

    def each(values: list[float]) -> Tensor:
        return to_device(np.array(values, np.float32), image.device).to(image.dtype).view(shape)

    scale, offset = each([1.0] * n_channels), each([0.0] * n_channels)
    if augmentation.gamma > 1:
        pixels = image.flatten(1)
        # Not `aminmax`, which is ten times as slow on a CPU.
        low, high = pixels.amin(1).view(shape), pixels.amax(1).view(shape)
        span = (high - low).clamp(1e-6, GREY_SPAN)
        exponents = each([draw_factor(rng, augmentation.gamma) for _ in range(n_channels)])
        # A power with one exponent for each channel, in a fourth of the time that `pow` takes.
        image = (image - low).div_(span).clamp_min_(1e-6).log_().mul_(exponents).exp_()
        scale, offset = span, low
    if augmentation.contrast > 1:
        contrast = each([draw_factor(rng, augmentation.contrast) for _ in range(n_channels)])
        scale, offset = scale * contrast, offset * contrast
    if augmentation.brightness:
        offset = offset + each(list(rng.normal(scale=augmentation.brightness, size=n_channels)))
    # All that is linear is one scale and one offset; the first of the two copies what was given.
    image = (image * scale).add_(offset)
    if augmentation.noise:
        level = rng.uniform(0, augmentation.noise)
        generator = torch.Generator(device=image.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        image.add_(noise, alpha=level)
    return image
