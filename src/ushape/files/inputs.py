"""Which images were named, and what each file holds for a model.

Names are files, folders (the images that lie directly in them) and patterns with *, ? or [ that the shell did not
fill in; ** stands for folders at any depth. Each file is taken once, however often it is named.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Spacing
from ushape.data.headers import Layout, written_stem
from ushape.data.images import is_image_file, read_layout
from ushape.data.naming import images_in
from ushape.data.spacing import read_spacing
from ushape.files.sentences import sentence_of
from ushape.preparation import Preparation

__all__ = ["Input", "find_images", "input_of", "spacing_of"]


@dataclass(frozen=True)
class Input:
    """One file and how it is predicted.

    name     results are called after it
    pages    pages that are images of their own, or (None,) for one image or volume
    axes     what the file's dimensions are, where that is known better than the file says
    spacing  of a pixel of the images or of the volume, where the file tells all of it
    finding  how its pages were understood, for a person
    layout   what the file's header says; None where it was not asked
    """

    path: Path
    name: str
    pages: tuple[int | None, ...] = (None,)
    axes: str | None = None
    spacing: Spacing | None = None
    finding: str = ""
    layout: Layout | None = None

    @property
    def written_spacing(self) -> Spacing | None:
        """What files of results tell: of a volume whose depth of a voxel is not known, its height and width."""
        is_volume = self.pages == (None,)
        return spacing_of(self.path, 2) if self.spacing is None and is_volume else self.spacing

    @property
    def is_stack(self) -> bool:
        """Whether the results are those of several images."""
        return len(self.pages) > 1

    @property
    def page_axes(self) -> dict[str, int]:
        """How many pages lie along each axis of a stack, the last one running fastest: "P" and "Z" in some order."""
        if self.layout is None or not self.is_stack:
            return {}
        axes = {a: n for n, a in zip(self.layout.shape, self.layout.axes, strict=True) if a in "PZ"}
        # A file may count its pages by several things that are all called P here.
        return axes if math.prod(axes.values()) == len(self.pages) else {"P": len(self.pages)}

    def place(self, page: int | None) -> dict[str, int]:
        """Frame "t" and slice "z" of a page, from 0, as far as the file says what its pages are."""
        axes, names = self.page_axes, {"Z": "z"}
        if self.layout is not None and self.layout.counts_time:
            names["P"] = "t"
        places = () if page is None or not axes else np.unravel_index(page, tuple(axes.values()))
        found = {names[axis]: int(place) for axis, place in zip(axes, places, strict=False) if axis in names}
        return dict(sorted(found.items()))

    def in_place(self, labels: NDArray[Any]) -> tuple[NDArray[Any], str]:
        """(labels, axes): those of the pages (n, height, width) along the axes that the file has."""
        axes = self.page_axes
        if "Z" not in axes:
            return labels, "PYX"
        labels = labels.reshape(*axes.values(), *labels.shape[1:])
        return (labels, "ZYX") if len(axes) == 1 else (np.moveaxis(labels, list(axes).index("Z"), 1), "PZYX")

    def page_name(self, page: int | None) -> str:
        """What results of one page are called after."""
        if not self.is_stack or page is None:
            return self.name
        return f"{self.name}_{page:0{len(str(len(self.pages) - 1))}d}"


def is_pattern(name: str) -> bool:
    """Whether a name stands for several; a file whose own name has such characters goes first."""
    return any(character in name for character in "*?[") and not Path(name).exists()


def images_under(name: str, output: Path) -> list[Path]:
    """The image files that a name stands for, sorted."""
    path = Path(name)
    if path.is_dir():
        return images_in(path)
    if not is_pattern(name):
        return [path] if path.exists() else []
    matches = [Path(found) for found in sorted(glob.glob(name, recursive=True))]
    if "**" not in name:
        # As if the shell had filled the pattern in: a folder stands for its images.
        return [
            image
            for path in matches
            for image in (images_under(str(path), output) if path.is_dir() else [path])
            if is_image_file(image)
        ]
    # A search through all folders would find the results of the prediction before this one.
    images, results = [path for path in matches if is_image_file(path)], output.resolve()
    return [path for path in images if results not in path.resolve().parents] or images


def find_images(names: Sequence[str], output: Path) -> tuple[dict[Path, Path], list[str]]:
    """({resolved path: path}, problems) of the image files that are named, each once.

    output  the folder of the results, in which no pattern with ** looks
    """
    found: dict[Path, Path] = {}
    problems: list[str] = []
    for name in map(str, names):
        try:
            images = images_under(name, output)
            if images:
                found |= {p.resolve(): p for p in images if p.resolve() not in found}
            elif Path(name).exists():
                problems.append(f"{name}: expected images in the folder, found none; name the folder that holds them")
            elif is_pattern(name):
                problems.append(f"{name}: expected image files that match, found none; check the pattern")
            else:
                problems.append(f"{name}: expected an image or a folder of images, found nothing; check the path")
        except OSError as error:
            problems.append(f"{name}: {(sentence_of(error) or '').removeprefix(f'{name}: ')}")
    return found, problems


def spacing_of(path: Path, dims: int) -> Spacing | None:
    """The spacing along the last `dims` axes of space; None where the file does not tell all of it."""
    spacing = read_spacing(path)
    if spacing is None or len(spacing.values) < dims:
        return None
    return Spacing(spacing.values[-dims:], spacing.unit)


def input_of(path: Path, preparation: Preparation) -> Input:
    """What a file holds for a model, understood as in training.

    Pages that the file says nothing about are the slices of a volume for a model of volumes, the channels of one image
    where the model takes as many, and images of their own otherwise.
    """
    layout, name, spacing = read_layout(path), written_stem(path), spacing_of(path, preparation.dims)
    n = layout.n_pages
    if preparation.dims == 3:
        unsaid = "P" in layout.axes and "Z" not in layout.axes
        axes = layout.axes.replace("P", "Z") if unsaid else None
        return Input(path, name, axes=axes, spacing=spacing, layout=layout)
    if n == 1:
        return Input(path, name, (0,), spacing=spacing, layout=layout)
    if n == preparation.channels and len(layout.axes) == 3:
        finding = f"{path.name}: its {n} pages are read as channels, as many as the model takes"
        return Input(path, name, axes="CYX", spacing=spacing, finding=finding, layout=layout)
    finding = f"{path.name}: its {n} pages are predicted one by one; their labels are the pages of one file"
    return Input(path, name, tuple(range(n)), spacing=spacing, finding=finding, layout=layout)
