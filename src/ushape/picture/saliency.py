"""Which pixels a decision rests on, as far as a gradient can tell.

Conventions: those of `ushape.picture.plate`; the numbers are those of `ushape.prediction.gradients`.

References: Simonyan, Vedaldi and Zisserman 2013 (arXiv 1312.6034); Smilkov et al. 2017 (arXiv 1706.03825); Adebayo et
al. 2018, Sanity checks for saliency maps (arXiv 1810.03292).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError
from ushape.picture.overlay import INVENTED, Picture, to_display
from ushape.picture.plate import Panel, Plate, colour_map, draw_panels, heat
from ushape.picture.receptive import glow

__all__ = ["CAVEAT", "draw_saliency"]

CAVEAT = (
    "A gradient says how much the decision would move if one pixel changed by very little. It does not say that the "
    "decision would be another without that pixel, nor that the network is right for the right reason: bright pixels "
    "are often simply edges, and what is dark can still matter, as where a whole region speaks for a class."
)
"""What a saliency map does and does not say."""


def draw_saliency(
    image: NDArray[Any],
    found: NDArray[np.floating[Any]] | Sequence[tuple[str, NDArray[np.floating[Any]]]],
    decision: str,
    *,
    where: NDArray[np.bool_] | None = None,
    side: float = 300.0,
    width: int = 1600,
) -> Plate:
    """The image, how much each pixel moves a decision, and both on top of each other.

    Args:
        image: (C, height, width), as it is to be shown.
        found: (height, width) as `saliency` gives it; or several with their names, a row of two panels for each.
        decision: in words, such as "the class 7".
        where: (height, width) bool, the pixels whose decision it is, outlined; None for that of the whole image.
        side, width: as in `draw_receptive_field`.
    """
    several = [("Saliency", found)] if isinstance(found, np.ndarray) else list(found)
    size = image.shape[1:]
    for _, values in several:
        if values.shape != size:
            raise DataError(
                f"expected saliency of the image's size {size}, found {values.shape}; ask it of the same image"
            )
    shown = to_display(image)
    panels = [Panel(_outlined(shown, where), "Image")]
    for name, values in several:
        shares = glow(values)
        panels.append(Panel(colour_map(shares, 1.0, "inferno"), name))
        panels.append(Panel(_outlined(heat(shown, shares), where), f"{name}, on the image"))
    note = f"The decision: {decision}. Brightness is the square root of the saliency, so that small values show too."
    title = "Which pixels move the decision"
    picture = draw_panels(title, panels, columns=len(panels), note=note, side=side, width=width)
    means = (
        "Saliency is the magnitude of the gradient of the decision's log odds with respect to each pixel"
        + (", SmoothGrad its mean over noisy copies of the image" if any("mooth" in n for n, _ in several) else "")
        + "."
    )
    return Plate(picture, f"The decision: {decision}. {means} {CAVEAT}")


def _outlined(picture: Picture, where: NDArray[np.bool_] | None) -> Picture:
    """The picture with the rim of a region painted just outside of it."""
    if where is None:
        return picture
    from scipy import ndimage

    rim = ndimage.binary_dilation(where, np.ones((3, 3), bool)) & ~where
    painted = picture.copy()
    painted[rim] = INVENTED
    return painted
