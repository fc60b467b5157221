"""Simulated microscopy with exact truth: cells under differential interference contrast, made from a seed.

The embedded default: it needs no download, its truth has no annotator's mistakes, and it is hard in the way real
images are. Cells touch; their insides are as bright as the background; the light is uneven; there is noise. So no
threshold finds them, but a person sees each one, by its relief and by the thin membrane around it.

How it is made, in the order of the code: cells are placed (clusters and single ones) and grown as ellipses until they
meet, in coordinates that a random field bends; a thickness map rises from each cell's outline; the image is the
thickness's slope along one direction (the shear of the optics) with membrane, granules, uneven light, blur and shot
noise. All of it is a function of the seed, the size and the number of channels.

References: Murphy and Davidson, Fundamentals of Light Microscopy and Electronic Imaging, ch. 10 (DIC as a slope).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError

__all__ = ["phantom_dataset", "phantom_image"]

Floats = NDArray[np.float64]
Mask = NDArray[np.int32]

MIN_RADIUS, MAX_RADIUS = 12.0, 21.0  # px, so that diameters are about 20 to 45 px after bending and meeting
MIN_AREA = 120  # px; smaller pieces are background
CLUSTER_SPACING = 0.82  # of the sum of two radii: less than 1, so that neighbours in a cluster meet
COVERAGE = 0.55  # of the area is tried to be covered with cells
IMAGES_PER_SEED = 1000

# Contrasts are shares of the background's brightness, chosen so that a person sees every cell, no threshold finds
# them, and a U-Net of 8 channels and 4 levels does after 250 steps.
DOME_HEIGHT, DOME_RISE = 6.0, 4.0  # in thickness units, and px from the outline to 63 % of the height
SLOPE_CONTRAST, MEMBRANE_CONTRAST = 0.25, 0.32
MEAN_PHOTONS, READ_NOISE = 400, 4.0  # per pixel; shot noise is then 5 %
LENS_BLUR = 0.6  # px


@dataclass(frozen=True)
class _Cell:
    """An ellipse: centre (y, x), half axes and the angle of the first, in px and radians."""

    y: float
    x: float
    long: float
    short: float
    angle: float


def _smooth_noise(rng: np.random.Generator, size: tuple[int, int], sigma: float) -> Floats:
    """A random field of mean 0 and standard deviation 1 that varies over about `sigma` px."""
    # Drawn on a coarse grid and enlarged: a wide blur of the full grid would cost most of the time.
    step = max(1, int(sigma / 2))
    coarse = tuple(n // step + 6 for n in size)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse), sigma / step, mode="wrap")
    if step > 1:
        field = ndimage.zoom(field, step, order=1)
    field = field[: size[0], : size[1]]
    normal: Floats = (field - field.mean()) / (field.std() + 1e-9)
    return normal


def _place_cells(rng: np.random.Generator, size: tuple[int, int]) -> list[_Cell]:
    """Cells in clusters and alone: each new one is put beside an old one, or with less luck anywhere."""
    height, width = size
    cells: list[_Cell] = []
    covered = 0.0
    for _ in range(40 * (1 + height * width // 2000)):
        if covered > COVERAGE * height * width:
            break
        long = rng.uniform(MIN_RADIUS, MAX_RADIUS)
        short = long * rng.uniform(0.7, 1.0)
        radius = (long + short) / 2
        if cells and rng.random() < 0.85:
            parent = cells[rng.integers(len(cells))]
            direction = rng.uniform(0, 2 * np.pi)
            reach = CLUSTER_SPACING * (radius + (parent.long + parent.short) / 2) * rng.uniform(1.0, 1.12)
            y, x = parent.y + reach * np.sin(direction), parent.x + reach * np.cos(direction)
        else:
            y, x = rng.uniform(0, height), rng.uniform(0, width)
        if not (-radius / 2 < y < height + radius / 2 and -radius / 2 < x < width + radius / 2):
            continue
        gaps = [np.hypot(y - c.y, x - c.x) / (radius + (c.long + c.short) / 2) for c in cells]
        if min(gaps, default=1.0) < CLUSTER_SPACING * 0.99:
            continue
        cells.append(_Cell(y, x, long, short, rng.uniform(0, np.pi)))
        covered += np.pi * long * short
    return cells


def _grow_cells(rng: np.random.Generator, size: tuple[int, int], cells: list[_Cell]) -> Mask:
    """Instances (H, W): each pixel belongs to the ellipse in which it lies deepest, in bent coordinates."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    y += 3.0 * _smooth_noise(rng, size, 12) + 1.0 * _smooth_noise(rng, size, 4)
    x += 3.0 * _smooth_noise(rng, size, 12) + 1.0 * _smooth_noise(rng, size, 4)
    depth = np.ones(size)  # the outline is where an ellipse's form is 1
    labels = np.zeros(size, np.int32)
    for index, cell in enumerate(cells, start=1):
        reach = int(cell.long + 15)
        window = tuple(
            slice(max(0, int(c) - reach), max(0, min(n, int(c) + reach)))
            for c, n in zip((cell.y, cell.x), size, strict=True)
        )
        dy, dx = y[window] - cell.y, x[window] - cell.x
        sin, cos = np.sin(cell.angle), np.cos(cell.angle)
        form = ((dx * cos + dy * sin) / cell.long) ** 2 + ((dy * cos - dx * sin) / cell.short) ** 2
        nearer = form < depth[window]
        depth[window][nearer] = form[nearer]
        labels[window][nearer] = index
    return labels


def _keep_whole(labels: Mask) -> Mask:
    """The largest connected piece of each label, without holes and crumbs, numbered 1..n."""
    kept = np.zeros_like(labels)
    n = 0
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        pieces, n_pieces = ndimage.label(labels[window] == index)
        if n_pieces == 0:
            continue
        piece = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
        if piece.sum() >= MIN_AREA:
            n += 1
            kept[window][piece] = n
    return kept


def _outline_distance(labels: Mask) -> Floats:
    """Distance of each cell pixel to the outside of its own cell, in px; 0 in the background."""
    distance = np.zeros(labels.shape)
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        assert window is not None, "instances are numbered without holes"
        # The frame's border is no outline, so a cell cut by it goes on behind it.
        around = tuple(
            slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(window, labels.shape, strict=True)
        )
        own = labels[around] == index
        inside = ndimage.distance_transform_edt(own)
        distance[around][own] = inside[own]
    return distance


def _slope(rng: np.random.Generator, labels: Mask, distance: Floats) -> Floats:
    """The slope of the cells' thickness along a random direction: what the optics show as bright and dark sides."""
    size = (labels.shape[0], labels.shape[1])
    # Thickness rises steeply at the outline and levels off: a flattened dome, another height for each cell.
    heights = rng.uniform(0.8, 1.25, int(labels.max()) + 1)
    thickness = DOME_HEIGHT * heights[labels] * (1 - np.exp(-distance / DOME_RISE))
    granules = np.maximum(_smooth_noise(rng, size, 1.3) - 1.2, 0) * (labels > 0)
    thickness = ndimage.gaussian_filter(thickness + 1.6 * granules, 1.0)
    angle = rng.uniform(0, 2 * np.pi)
    slope: Floats = (np.sin(angle) * ndimage.sobel(thickness, 0) + np.cos(angle) * ndimage.sobel(thickness, 1)) / 8
    return slope


def _light(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """The uneven light, about 1: a tilt, darker corners and slow waves. It differs by more than the cells do."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    tilt = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.22 * (np.sin(tilt) * y + np.cos(tilt) * x) - 0.12 * (x**2 + y**2)
    positive: Floats = np.maximum(light + 0.10 * _smooth_noise(rng, size, 50), 0.2)
    return positive


def _render(rng: np.random.Generator, labels: Mask) -> Floats:
    """One channel (H, W) in photons of a camera."""
    size = (labels.shape[0], labels.shape[1])
    distance = _outline_distance(labels)
    inside = labels > 0
    slope = _slope(rng, labels, distance)
    # The membrane is a line of about 2 px just inside the outline, so touching cells have a double one between them.
    membrane = ndimage.gaussian_filter(np.exp(-(((distance - 1.0) / 1.2) ** 2)) * inside, 0.7)
    cytoplasm = (0.08 * _smooth_noise(rng, size, 2.0) + 0.03 * _smooth_noise(rng, size, 7)) * inside
    background = 0.03 * _smooth_noise(rng, size, 5) + 0.015 * _smooth_noise(rng, size, 1.5)
    signal = 1 + SLOPE_CONTRAST * slope - MEMBRANE_CONTRAST * membrane + cytoplasm + background
    photons = MEAN_PHOTONS * ndimage.gaussian_filter(np.maximum(signal, 0.05), LENS_BLUR) * _light(rng, size)
    counted: Floats = rng.poisson(photons) + rng.normal(0, READ_NOISE, size)
    return counted


@lru_cache(maxsize=128)
def _simulate(seed: int, size: tuple[int, int], channels: int) -> tuple[Floats, Mask]:
    """(photons (C, H, W), instances (H, W)); kept, because image and mask are asked for one after the other."""
    rng = np.random.default_rng(seed)
    labels = _keep_whole(_grow_cells(rng, size, _place_cells(rng, size)))
    return np.stack([_render(rng, labels) for _ in range(channels)]), labels


def phantom_image(
    seed: int, size: tuple[int, int] = (256, 256), channels: int = 1, dtype: type[np.unsignedinteger[Any]] = np.uint8
) -> tuple[NDArray[Any], Mask]:
    """A simulated image (C, H, W) of uint8 or uint16, and its exact instances (H, W) int32, 1..n.

    seed      the same seed, size and channels give the same pixels
    channels  1 or more; each is another view of the same cells (another shear, light and noise)

    Each object is connected and has at least 120 px; objects may touch and may be cut by the frame's border.
    """
    photons, labels = _simulate(seed, size, channels)
    # The mean is a middle grey in uint8; a 12-bit camera's numbers in uint16.
    gain = 120 / MEAN_PHOTONS if dtype is np.uint8 else 4.0
    limit = np.iinfo(dtype).max
    return np.clip(np.round(photons * gain), 0, limit).astype(dtype), labels.copy()


def _read_image(seed: int, size: tuple[int, int]) -> NDArray[Any]:
    return phantom_image(seed, size)[0]


def _read_mask(seed: int, size: tuple[int, int]) -> Mask:
    return phantom_image(seed, size)[1]


def phantom_dataset(n: int, seed: int = 0, size: tuple[int, int] = (256, 256), name: str = "phantom") -> Dataset:
    """A dataset of `n` simulated images of one channel, uint8, with their instances.

    Image i is `phantom_image(1000 * seed + i)`, and its name carries that number: datasets of different seeds share
    no image as long as n <= 1000 (asked for here). Nothing is simulated before it is read.
    """
    if not 1 <= n <= IMAGES_PER_SEED:
        raise DataError(
            f"{name}: expected 1 to {IMAGES_PER_SEED} simulated images, found {n}; use another seed for more"
        )
    seeds = [IMAGES_PER_SEED * seed + i for i in range(n)]
    samples = tuple(
        Sample(name=f"{name}_{s:06d}", image=partial(_read_image, s, size), mask=partial(_read_mask, s, size))
        for s in seeds
    )
    finding = f"Simulated images of {size[0]} x {size[1]} px with exact instances; seed {seed}."
    return Dataset(name, samples, "instances", ("background", "object"), (finding,))
