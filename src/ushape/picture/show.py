"""Pictures on request: of a network, of what happens inside it at an image, of what it is trained on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ushape.data.dataset import Dataset
from ushape.data.images import read_image, read_layout, write_image
from ushape.errors import DataError, RecipeError
from ushape.model import load
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.picture import inside
from ushape.picture.borders import draw_borders
from ushape.picture.diagram import architecture_png, architecture_svg
from ushape.picture.plate import Plate
from ushape.picture.skip import skip_png, skip_svg

__all__ = ["LOOKS", "borders_plate", "chosen_network", "inside_plate", "write_picture", "write_plate"]

LOOKS: dict[str, Callable[..., Plate]] = {
    "features": inside.features_plate,
    "receptive": inside.receptive_field_plate,
    "saliency": inside.saliency_plate,
    "skips": inside.skips_plate,
}
"""Ways to look inside a model at an image."""


def chosen_network(model: str | None, **settings: Any) -> UNet | Classifier:
    """The network of a model, or the paper's with other settings where these are not None.

    RecipeError when both are named: a model's network is what it is.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if model is None:
        with torch.device("meta"):  # nobody needs its weights
            return UNet(**given)
    if given:
        raise RecipeError(
            f"expected a model or settings of a network, found {model} and {', '.join(given)}; leave one of them out"
        )
    return load(model).network


def write_picture(
    path: Path, network: UNet | Classifier, size: int | Sequence[int], *, level: int | None = None
) -> None:
    """Write the architecture, or the skip connection of a level, as .svg or .png; complete or not at all."""
    suffix = path.suffix.lower()
    if suffix not in (".svg", ".png"):
        raise RecipeError(f"expected a picture called .svg or .png, found {path}; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png":
        drawn = architecture_png(network, size) if level is None else skip_png(network, size, level)
        write_image(path, np.moveaxis(drawn, -1, 0))
        return
    text = architecture_svg(network, size) if level is None else skip_svg(network, size, level)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def inside_plate(what: str, model: str, image: Path, at: tuple[int, ...] | None = None) -> Plate:
    """A look inside a model at one image file.

    what  one of LOOKS
    at    the pixel (row, column) for `receptive` and `saliency`; None: one near the middle
    """
    loaded = load(model)
    # Of a stack the first page; of a volume, for a model of volumes, all of it.
    page = 0 if loaded.preparation.dims == 2 and read_layout(image).n_pages > 1 else None
    pixels = read_image(image, page=page)
    options: dict[str, Any] = {"place": at} if what in ("receptive", "saliency") else {}
    return LOOKS[what](loaded, pixels, axes="CZYX" if pixels.ndim == 4 else "CYX", **options)


def borders_plate(dataset: Dataset) -> Plate:
    """The ridges and weights of the first annotated image of a data set of objects; of a volume its middle slice."""
    if dataset.task != "instances":
        raise DataError(
            f"{dataset.name}: expected objects one by one, found data for {dataset.task}; name other data, or ask for "
            "--task instances"
        )
    sample = next((s for s in dataset.samples if s.mask is not None), None)
    if sample is None:
        raise DataError(f"{dataset.name}: expected an image with a mask, found none; add masks")
    image, mask = sample.read_image(), sample.read_mask()
    if mask.ndim == 3:
        image, mask = image[:, mask.shape[0] // 2], mask[mask.shape[0] // 2]
    return draw_borders(image, mask)


def write_plate(path: Path, plate: Plate) -> None:
    """Write a picture as .png, complete or not at all."""
    if path.suffix.lower() != ".png":
        raise RecipeError(f"expected a picture called .png, found {path}; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.moveaxis(plate.picture, -1, 0))
