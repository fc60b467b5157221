"""The paper's separation of touching objects, drawn: the ridge between them and the weights that defend it.

References: P14, P15 of docs/paper.md; the numbers are those of `ushape.targets.borders`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.picture.overlay import label_colours, overlay, to_display
from ushape.picture.plate import Panel, Plate, colour_map, draw_panels
from ushape.targets.borders import border_weights, separate_touching

__all__ = ["draw_borders"]

RIDGE = (255, 255, 255)
"""What the ridge has taken from the objects."""


def draw_borders(
    image: NDArray[Any],
    mask: NDArray[np.integer[Any]],
    *,
    ridge_width: int = 1,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_balance: bool = True,
    side: float = 260.0,
    width: int = 1600,
) -> Plate:
    """The image, its objects, what separates them, and how much each pixel weighs in the loss.

    Args:
        image: (C, height, width), as it is to be shown.
        mask: (height, width) instances, -1 = ignore.
        ridge_width, w0, sigma, class_balance: as in `separate_touching` and `border_weights`.
        side: of a panel, in units.
        width: of the plate, in pixels.
    """
    mask = np.asarray(mask, np.int32)
    separate = separate_touching(mask, ridge_width)
    weights = border_weights(separate, w0, sigma, class_balance)
    taken = (mask > 0) & (separate == 0)
    ridge = label_colours(np.maximum(separate, 0)) // 2
    ridge[taken] = RIDGE
    background = weights[separate == 0]
    objects = weights[separate > 0]
    top = float(weights.max(initial=0.0))
    n_taken = int(taken.sum())
    panels = [
        Panel(to_display(image), "Image"),
        Panel(overlay(image, np.maximum(mask, 0)), "Objects", (f"{len(np.unique(mask[mask > 0]))} objects.",)),
        Panel(ridge, "Ridge between touching objects", (f"White: {n_taken} px become background.",)),
        Panel(
            colour_map(weights, top, "viridis"),
            "Weight in the loss",
            (f"From 0 (dark) to {top:.3g} (yellow).",),
        ),
    ]
    picture = draw_panels("How touching objects are kept apart", panels, columns=4, side=side, width=width)
    return Plate(picture, _caption(n_taken, ridge_width, w0, sigma, objects, background))


def _caption(
    n_taken: int, ridge_width: int, w0: float, sigma: float, objects: NDArray[Any], background: NDArray[Any]
) -> str:
    """What was done, with its numbers."""
    middle = f"{float(objects[0]):.2f}" if objects.size else "nothing"
    highest = f"{float(background.max()):.1f}" if background.size else "nothing"
    return (
        f"Where objects touch, a ridge of background {ridge_width} px thick is opened before training: {n_taken} px of "
        f"this image. In the loss a pixel of an object weighs {middle}, and background that lies between two near "
        f"objects up to {highest}: w0 exp(-(d1 + d2)² / (2 sigma²)) on top of the weight of its class, with "
        f"w0 = {w0:g} and sigma = {sigma:g} px, d1 and d2 being the distances to the two nearest objects."
    )
