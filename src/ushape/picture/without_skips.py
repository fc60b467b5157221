"""What is lost without each skip: the answer of the whole network, and of the same weights with one skip cut.

Conventions: those of `ushape.picture.overlay` for error maps; levels from 0 at full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.network.skips import Filling
from ushape.picture.overlay import Colour, error_map, overlay, to_display
from ushape.picture.plate import Panel, Plate, draw_panels

__all__ = ["Loss", "draw_losses", "share_changed"]

CAVEAT = (
    "The weights were trained with all skips, so this shows what this network relies on, and not how well one trained "
    "without that skip would do."
)
"""What cutting a skip of a trained network does not show."""

FILLED = {
    "zero": "zeros stand in its place",
    "mean": "the mean of each of its channels stands in its place",
}

MOST_COLUMNS = 4
"""More panels than this stand in two rows."""


@dataclass(frozen=True)
class Loss:
    """The answer without one or more skips.

    levels   of the skips that were cut; none for the whole network
    labels   (height, width) integers
    changed  share of pixels with another class than the whole network gives them
    scores   against a reference, by name; empty without one
    """

    levels: tuple[int, ...]
    labels: NDArray[np.integer[Any]]
    changed: float
    scores: dict[str, float]

    @property
    def name(self) -> str:
        """Such as "without skip 0"."""
        if not self.levels:
            return "errors with all skips"
        return f"without skip {self.levels[0]}" if len(self.levels) == 1 else "without any skip"


def share_changed(before: NDArray[np.integer[Any]], after: NDArray[np.integer[Any]], *, instances: bool) -> float:
    """Share of pixels whose class has changed; of instances only object and background are told apart."""
    changed = ((before > 0) != (after > 0)) if instances else before != after
    return float(changed.mean())


def draw_losses(
    image: NDArray[Any],
    losses: Sequence[Loss],
    *,
    instances: bool,
    reference: NDArray[np.integer[Any]] | None = None,
    colours: Sequence[Colour] = (),
    filling: Filling = "zero",
    side: float = 260.0,
    width: int = 1600,
) -> Plate:
    """A panel for the image, one for the whole network's answer, and one for what changes without each skip.

    Args:
        image: (C, height, width), as it is to be shown.
        losses: the whole network first, as `skip_losses` gives them; segmentations only.
        instances: whether labels are objects or classes.
        reference: (height, width), to compare with; None: the whole network's own answer.
        colours: of classes, where the data set has chosen any.
        filling: what stood in for a skip, for the words.
        side: of a panel, in units.
        width: of a row of four panels, in pixels.
    """
    whole = losses[0]
    compared = whole.labels if reference is None else reference
    shown = () if instances else colours
    panels = [Panel(to_display(image), "Image")]
    if reference is not None:
        panels.append(Panel(overlay(image, reference, colours=shown), "Reference"))
    panels.append(Panel(overlay(image, whole.labels, colours=shown), "Answer with all skips", (_scores(whole),)))
    # The errors with all skips are what those without one are to be held against.
    drawn = losses if reference is not None else losses[1:]
    for loss in drawn:
        picture = error_map(image, compared, loss.labels, instances=instances)
        said = () if loss is whole else (_lost(loss, whole, instances=instances),)
        panels.append(Panel(picture, _title(loss), said))
    found, missed, new = ("found", "missed", "invented") if reference is not None else ("kept", "lost", "new")
    against = "the reference" if reference is not None else "the answer with all skips"
    note = (
        f"One skip after the other is cut, and {FILLED[filling]}; at last all of them. Against {against}: green is "
        f"{found}, orange {missed}, sky blue {new}."
    )
    columns = len(panels) if len(panels) <= MOST_COLUMNS else -(-len(panels) // 2)
    plate = draw_panels("What is lost without a skip", panels, columns=columns, note=note, side=side, width=width)
    lost = " ".join(f"{_title(loss)}: {_lost(loss, whole, instances=instances)}" for loss in losses[1:])
    return Plate(plate, f"{note} {lost} {CAVEAT}")


def _title(loss: Loss) -> str:
    return loss.name[0].upper() + loss.name[1:]


def _lost(loss: Loss, whole: Loss, *, instances: bool) -> str:
    """What has changed, in a sentence."""
    words = f"{100 * loss.changed:.1f} % of the pixels change"
    if instances:
        words += f", {int(whole.labels.max(initial=0))} objects become {int(loss.labels.max(initial=0))}"
    return f"{words}{'; ' + _scores(loss) if loss.scores else '.'}"


def _scores(loss: Loss) -> str:
    return (", ".join(f"{name} {value:.3f}" for name, value in loss.scores.items()) + ".") if loss.scores else ""
