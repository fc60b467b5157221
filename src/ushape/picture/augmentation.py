"""What training does to an image before the network sees it: the deformation grid, and samples as they are drawn.

A regular grid is laid on an image, and followed through one warp: the displacements on the coarse grid (P17), the
deformation that they make, mirror, rotation and zoom with it, and at last the grey values. Below stand samples of the
batches that training with this recipe draws. Everything is computed by `ushape.training.augment`,
`ushape.training.batches` and `ushape.training.label_batches`: the curved lines are those along which the source
coordinates of the resampling are multiples of the grid's spacing.

Conventions: those of `ushape.picture.marks`. All pictures of a sheet share one scale of grey values, so that changes
of brightness and contrast are seen. Of a volume the middle slice of each patch is drawn.

References: P16, P17 of docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ushape.picture.canvas import Drawing
from ushape.picture.marks import IN_A_ROW, SIDE, MarkedPanel, arrows, frame, grid, outlines, sheet
from ushape.picture.overlay import Colour, display_limits, hatch, to_display
from ushape.training.augment import (
    Augmentation,
    Warp,
    draw_warp,
    read_patch,
    spline_matrix,
    vary_grey_values,
    warp_coordinates,
)
from ushape.training.batches import Batches, TrainingImage
from ushape.training.label_batches import LabelBatches, warp_images

__all__ = ["draw_classifier_augmentation", "draw_segmenter_augmentation"]

Floats = NDArray[np.floating[Any]]
Limits = tuple[tuple[float, float], ...]

GRID_LINES = 12
"""Lines of the regular grid along the longer side of a patch, about."""

SEEN_ARROW = 18.0
"""Units that an arrow of one standard deviation is long, about: true to scale most would be too short to be seen."""

AROUND = 0.45
"""Share of the light that is left to what lies around the patch."""


def _told(augmentation: Augmentation, dims: int) -> str:
    """What is drawn anew for each sample, with its strength."""
    a, nodes = augmentation, "×".join([str(augmentation.elastic_nodes)] * dims)
    on = {"brightness": a.brightness > 0, "contrast": a.contrast > 1, "gamma": a.gamma > 1, "noise": a.noise > 0}
    grey = ", ".join(name for name, is_on in on.items() if is_on)
    parts = [
        "mirrored half of the time" if a.mirror else "",
        f"turned by up to {a.rotation:g}°" if a.rotation else "",
        f"zoomed by {1 / a.zoom:.2f} to {a.zoom:g}" if a.zoom > 1 else "",
        f"shifted by up to {a.shift:g} px" if a.shift else "",
        f"bent by displacements of {a.elastic:g} px (standard deviation) on {nodes} nodes" if a.elastic else "",
        f"changed in its grey values ({grey})" if grey else "",
    ]
    share = f" A share of {1 - a.warped:.0%} is neither turned, zoomed nor bent." if a.warped < 1 else ""
    return f"Each sample is {', '.join(filter(None, parts)) or 'left as it is'}.{share}"


def _shown(planes: torch.Tensor) -> Floats:
    """(n, *patch) as an array (n, rows, columns): of a volume its middle slice."""
    array: Floats = planes.numpy()
    return array if array.ndim == 3 else array[:, array.shape[1] // 2]


def _common_limits(images: Sequence[Floats]) -> Limits:
    """One scale of grey values for all images (C, rows, columns): the middle of their own."""
    found = np.median([display_limits(image) for image in images], axis=0)
    return tuple((float(low), float(high)) for low, high in found)


# One warp, step by step.


def _arrows_of(displacement: Floats, patch: Sequence[int], elastic: float) -> tuple[Floats, Floats, int]:
    """(places, moves, longer): where the nodes are in a patch, where they are moved, each `longer` times as far."""
    if displacement.ndim == 4:
        # The nodes in the plane of the slice that is shown.
        middle = spline_matrix(patch[0], displacement.shape[1])[patch[0] // 2].numpy()
        displacement = np.tensordot(middle, displacement[1:], axes=([0], [1]))
    axes = [np.linspace(0, n - 1, displacement.shape[1]) for n in patch[-2:]]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    longer = max(1, round(SEEN_ARROW / (elastic * SIDE / max(patch[-2:]))))
    return places, longer * displacement.reshape(2, -1).T, longer


def _before(
    image: TrainingImage, patch: tuple[int, ...], whole: Warp, elastic: float, spacing: int, limits: Limits
) -> MarkedPanel:
    """The patch with its surroundings, a regular grid, and the displacements of the coarse one."""
    said = f"A patch of {'×'.join(map(str, patch))} px (frame) with lines every {spacing} px."
    pad, marks = 0, []
    if whole.displacement is not None:
        places, moves, longer = _arrows_of(whole.displacement, patch, elastic)
        ends = places + moves
        pad = int(np.ceil(max(0, -ends.min(), (ends - (np.array(patch[-2:]) - 1)).max()))) + 2
        marks = [arrows(places + pad, moves)]
        scale = "true to scale" if longer == 1 else f"{longer} times as long as it is"
        said += f" Arrows: where each node of the coarse grid will be read, {scale}."
    wide = (*patch[:-2], *(n + 2 * pad for n in patch[-2:]))
    warp = Warp(whole.centre, np.eye(len(patch)), None)
    picture = to_display(
        _shown(read_patch(image.planes, len(image.planes) - 1, warp, wide))[: image.n_channels], limits
    )
    light = np.full((*wide[-2:], 1), AROUND)
    light[pad : pad + patch[-2], pad : pad + patch[-1]] = 1
    source = _shown(warp_coordinates(warp, wide, torch.device("cpu")))[-2:]
    lines = grid(source, image.planes.shape[-2:], spacing, _corner(whole, patch))
    around = frame((pad, pad), patch[-2:])
    return MarkedPanel(np.rint(picture * light).astype(np.uint8), "Before", said, (*lines, around, *marks))


def _corner(warp: Warp, patch: Sequence[int]) -> list[float]:
    """The first row and column of a patch that is only shifted."""
    return [c - (p - 1) / 2 for c, p in zip(warp.centre[-2:], patch[-2:], strict=True)]


def _journey(
    image: TrainingImage, patch: tuple[int, ...], augmentation: Augmentation, limits: Limits, seed: int
) -> tuple[list[MarkedPanel], torch.Tensor]:
    """Panels of one warp: before, deformed, turned too; and the planes of the patch with other grey values."""
    rng = np.random.default_rng(seed)
    centre = tuple((n - p) // 2 + (p - 1) / 2 for n, p in zip(image.planes.shape[1:], patch, strict=True))
    whole = draw_warp(replace(augmentation, warped=1.0), centre, rng)
    spacing = max(1, round(max(patch[-2:]) / GRID_LINES))
    panels = [_before(image, patch, whole, augmentation.elastic, spacing, limits)]
    warps = [Warp(centre, np.eye(len(patch)), whole.displacement), whole]
    for warp, (title, said) in zip(warps, _steps(whole), strict=True):
        planes = read_patch(image.planes, len(image.planes) - 1, warp, patch)
        source = _shown(warp_coordinates(warp, patch, torch.device("cpu")))[-2:]
        lines = grid(source, image.planes.shape[-2:], spacing, _corner(whole, patch))
        panels.append(MarkedPanel(to_display(_shown(planes)[: image.n_channels], limits), title, said, lines))
    planes[: image.n_channels] = vary_grey_values(planes[: image.n_channels], augmentation, rng)
    return panels, planes


def _steps(whole: Warp) -> list[tuple[str, str]]:
    """Title and words of the steps of a warp behind the first."""
    deformed = ("Not deformed", "This recipe does not deform.")
    if whole.displacement is not None:
        far = np.sqrt((whole.displacement**2).sum(axis=0)).max()
        deformed = ("Deformed", f"Nodes are moved by up to {far:.3g} px, with cubic interpolation between them.")
    plane = whole.matrix[-2:, -2:]
    area = float(np.linalg.det(plane))
    turn = abs(np.degrees(np.arctan2(plane[1, 0], plane[0, 0])))
    zoom = abs(area) ** -0.5
    moved = ["mirrored"] if area < 0 else []
    moved += [f"turned by {turn:.0f}°"] if turn >= 0.5 else []
    moved += [f"{zoom:.2f} times as large"] if abs(zoom - 1) >= 0.005 else []
    said = ", ".join(moved) or "nothing more this time"
    return [deformed, ("All in one resampling", f"{said[0].upper()}{said[1:]}.")]


# The sheets.


def draw_segmenter_augmentation(
    name: str, batches: Batches, *, colours: Sequence[Colour] = (), seed: int = 0, n_samples: int = IN_A_ROW
) -> Drawing:
    """One warp of the first image of `batches` step by step, and the first samples that `batches` draws.

    Args:
        name: of the data and the recipe.
        batches: as in training, but that the images hold the mask of objects or classes where training has what the
            network is asked, so that the outlines are those of the annotation.
        colours: of the classes, where a data set has chosen them.
        seed: of the warp that is followed.
        n_samples: how many samples to draw.

    Returns:
        The drawing; its description is the caption.
    """
    patch, out = batches.patch[-2:], batches.out[-2:]
    limits = _common_limits([_shown(each.planes)[: each.n_channels] for each in batches.images])
    margins = [(p - o) / 2 for p, o in zip(patch, out, strict=True)]
    answered = (frame(margins, out, dashed=True),) if patch != out else ()

    def sample(title: str, said: str, planes: torch.Tensor) -> MarkedPanel:
        """A patch as training sees it, with its mask."""
        shown = _shown(planes)
        mask = np.rint(shown[-1]).astype(np.int32)
        picture = hatch(to_display(shown[: batches.n_channels], limits), mask < 0)
        return MarkedPanel(picture, title, said, (outlines(mask, colours), *answered))

    panels, last = _journey(batches.images[0], batches.patch, batches.augmentation, limits, seed)
    asked = " The network answers for the dashed frame." if answered else ""
    panels.append(sample("Grey values changed", f"A sample as training sees it, with its mask.{asked}", last))
    for index in range(n_samples):
        step, member = divmod(index, batches.batch)
        panels.append(sample(f"Step {step + 1}, sample {member + 1}", "", batches.patch_of(step, member)))
    note = _told(batches.augmentation, len(batches.patch))
    border = " White ones run along its border, and beyond it the image is mirrored."
    caption = _caption(note, border, len(batches.images), batches.seed)
    return sheet(f"What training sees: {name}", note, panels, caption)


def draw_classifier_augmentation(name: str, batches: LabelBatches, classes: Sequence[str]) -> Drawing:
    """Two images of the first batch before and after their warp, and some further members of that batch.

    name     of the data and the recipe
    batches  as in training
    classes  their names
    """
    members = batches.members(0)
    images = batches.images[torch.from_numpy(members)].float()
    limits = _common_limits([_shown(image) for image in images])
    batch, warped = batches(0), _source_of(batches, len(members))
    size = images.shape[-2:]
    spacing = max(1, round(max(size) / GRID_LINES))
    still = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")).astype(np.float64)
    panels = []
    for index in range(min(2, len(members))):
        told = classes[int(batch.classes[index])]
        for title, said, seen, source in (
            (f"Before: {told}", f"{'×'.join(map(str, size))} px, with lines every {spacing} px.", images, still),
            (f"Warped: {told}", "All in one resampling; then its grey values.", batch.images, warped[index]),
        ):
            picture = to_display(_shown(seen[index]), limits)
            panels.append(MarkedPanel(picture, title, said, grid(source, (), spacing, (0, 0))))
    for index in range(2, min(2 + IN_A_ROW, len(members))):
        picture = to_display(_shown(batch.images[index]), limits)
        panels.append(MarkedPanel(picture, classes[int(batch.classes[index])]))
    note = _told(batches.augmentation, images.ndim - 2)
    caption = _caption(note, " Beyond its border the image is mirrored.", len(batches.images), batches.seed)
    return sheet(f"What training sees: {name}", note, panels, caption)


def _source_of(batches: LabelBatches, n: int) -> Floats:
    """(n, 2, rows, columns): where each pixel of the first batch's images was read.

    The same draws warp images whose grey values are their own coordinates. Beyond the border the coordinates are
    mirrored as the images are.
    """
    size = batches.images.shape[2:]
    axes = [torch.arange(side, dtype=torch.float32) for side in size]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(n, -1, *size)
    warped = warp_images(places, batches.augmentation, np.random.default_rng((batches.seed, 1, 0)))
    return np.stack([_shown(each)[-2:] for each in warped])


def _caption(note: str, border: str, n_images: int, seed: int) -> str:
    """What the sheet shows, and what it does not."""
    return (
        f"{note} Blue lines run along rows of the image, orange ones along columns.{border} The samples are what "
        f"training with seed {seed} draws from these {n_images} images; a run on more of them draws from all. All "
        "pictures share one scale of grey values."
    )
