"""The pictures that a classifier was most sure and most wrong about: hard ones, and wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ushape.picture.gallery import picture_uri
from ushape.picture.overlay import to_display
from ushape.picture.page import paragraph, percent

__all__ = ["Mistake", "mistakes_html"]

MOST_SHOWN = 48
SIDE = 96
"""Pixels of the longer side of a picture, whatever the image's."""


@dataclass(frozen=True)
class Mistake:
    """An image that was given a wrong class.

    image       (C, height, width)
    reference   the name of its class
    estimate    the name of the class it was given
    confidence  how sure the network was, in [0, 1]
    """

    name: str
    image: NDArray[Any]
    reference: str
    estimate: str
    confidence: float


def thumbnail(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with a longer side of SIDE; small images keep their pixels as squares."""
    drawn = PillowImage.fromarray(to_display(image))
    factor = SIDE / max(drawn.size)
    size = (max(1, round(drawn.width * factor)), max(1, round(drawn.height * factor)))
    way = PillowImage.Resampling.NEAREST if factor > 1 else PillowImage.Resampling.BOX
    return np.asarray(drawn.resize(size, way))


def figure(mistake: Mistake) -> str:
    """One picture with what it is and what it was taken for."""
    drawn = thumbnail(mistake.image)
    said = f"{mistake.reference}, taken for {mistake.estimate}"
    return (
        f'<figure><img src="{picture_uri(drawn)}" alt="{escape(f"{mistake.name}: {said}")}" width="{drawn.shape[1]}" '
        f'height="{drawn.shape[0]}"><figcaption>{escape(said)}<br><small>{percent(mistake.confidence)} sure, '
        f"{escape(mistake.name)}</small></figcaption></figure>"
    )


def mistakes_html(mistakes: Sequence[Mistake], n_images: int) -> str:
    """The mistakes, the most confident first; empty without any."""
    if not mistakes:
        return ""
    shown = sorted(mistakes, key=lambda mistake: (-mistake.confidence, mistake.name))[:MOST_SHOWN]
    left = "" if len(shown) == len(mistakes) else f", of which the {len(shown)} most confident are shown"
    told = f"{len(mistakes)} of {n_images} images were given a wrong class{left}."
    figures = "\n".join(figure(mistake) for mistake in shown)
    return paragraph(told) + f'<div class="mistakes">\n{figures}\n</div>'
