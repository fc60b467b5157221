"""Pictures of a network on request: which network, and into which file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ushape.data.images import write_image
from ushape.errors import RecipeError
from ushape.model import load
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.picture.diagram import architecture_png, architecture_svg
from ushape.picture.skip import skip_png, skip_svg

__all__ = ["chosen_network", "write_picture"]


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
