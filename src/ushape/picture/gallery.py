"""Images with what was found in them, chosen so that the reader sees the range: the worst, typical ones, the best.

Conventions
- Each image is shown four times: as it is, with its reference, with its estimate, with the errors.
- Scores are numbers of which higher is better, so the worst image is the one with the lowest score.
- Pictures are shrunk to `MOST_SIDE`, at most `MOST_PANELS` images are shown, fewer where they compress badly, and the
  page says how many were left out. Objects are matched at full size, as they are scored.
- A picture is enlarged by a click, a touch or the space bar, without a script: it lies behind an unseen check box.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ushape.picture.overlay import LEGEND, MISSED, draw_errors, errors, hatch, label_colours, overlay, to_display
from ushape.picture.page import chip, number, paragraph, swatch

__all__ = ["Panel", "class_colours", "gallery"]

Colour = tuple[int, int, int]

# Bytes for all pictures; the curves, the tables and the words have the rest of the page.
PICTURE_BYTES = 3_800_000

# Pixels of a picture's longer side: a quarter of a wide screen, or a whole phone.
MOST_SIDE = 480

MOST_PANELS = 12

# From so many images on, some are called typical and one the best; of fewer the reader sees it.
FEW_PANELS = 4

# A picture narrower than this is shown with its pixels as squares instead of blurred.
FEW_PIXELS = 160

# A picture takes the first of these qualities at which it leaves room for the others: noise compresses badly.
JPEG_QUALITIES = (85, 70, 50)
JPEG_BYTES = PICTURE_BYTES * 3 // 4 // (4 * MOST_PANELS)

# Where there are several classes, a pixel that was given the wrong one is missed too.
MISSED_OR_CONFUSED = "missed or confused"

STRIPED: tuple[str, Colour] = ("not annotated", (128, 128, 128))


@dataclass(frozen=True)
class Panel:
    """One image of the gallery.

    name        as in the table of scores
    score_name  which score orders the gallery
    score       its value for this image, higher is better
    image       (C, height, width)
    reference   (height, width) integers, -1 = ignore
    estimate    (height, width) integers
    instances   whether labels are objects or classes
    note        a few words beside the name, such as which slice of a volume this is
    """

    name: str
    score_name: str
    score: float
    image: NDArray[Any]
    reference: NDArray[np.integer[Any]]
    estimate: NDArray[np.integer[Any]]
    instances: bool
    note: str = ""


def class_colours(classes: Sequence[str], colours: Sequence[Colour] = ()) -> list[Colour]:
    """The colour of each class by index, as `overlay` draws it."""
    drawn = label_colours(np.arange(len(classes)), colours)
    return [(int(red), int(green), int(blue)) for red, green, blue in drawn]


def gallery(panels: Sequence[Panel], classes: Sequence[str] = (), colours: Sequence[Colour] = ()) -> str:
    """The chosen images, the worst first.

    Args:
        panels: of all images, in any order.
        classes: names by class index, the background first, for a legend where labels are classes.
        colours: by class index, where the data set has chosen any.
    """
    order = sorted(panels, key=lambda panel: (math.inf if math.isnan(panel.score) else panel.score, panel.name))
    named = _remarkable(order)
    shown: dict[int, str] = {}
    n_bytes = 0
    keys = _error_keys(several=len(classes) > 2)
    # The very worst, the best and the typical come first, so that a budget spent on more of the worst loses none.
    for index in list(dict.fromkeys([0, *named, *range(len(order))]))[:MOST_PANELS] if order else []:
        html = _panel(order[index], named.get(index, ""), colours, keys)
        if shown and n_bytes + len(html) > PICTURE_BYTES:
            break
        shown[index] = html
        n_bytes += len(html)
    if not shown:
        return ""
    with_classes = not order[0].instances and len(classes) > 1
    return (
        _note(len(order), shown, named)
        + (_legend(classes, colours) if with_classes else "")
        + "\n".join(shown[index] for index in sorted(shown))
    )


def _remarkable(order: Sequence[Panel]) -> dict[int, str]:
    """Which of the ordered images are called typical or best; only those with a score are looked at."""
    n = sum(not math.isnan(panel.score) for panel in order)
    if n <= FEW_PANELS:
        return {}
    return {n - 1: "best", (n - 1) // 2: "typical", (n - 1) // 2 + 1: "typical"}


def _note(n: int, shown: dict[int, str], named: dict[int, str]) -> str:
    """What is shown of how many."""
    kinds = [named.get(index, "") for index in shown]
    typical = {0: "", 1: "a typical one", 2: "two typical ones"}[kinds.count("typical")]
    n_worst = kinds.count("")
    left_out = len(shown) < n
    extra = " and ".join(word for word in (typical, "the best" if "best" in kinds else "") if word)
    said = f"The {n_worst} worst of {n} images" + (f", with {extra}" if extra else "") + ". " if left_out else ""
    return paragraph(said + "A click on a picture enlarges it.")


def _legend(classes: Sequence[str], colours: Sequence[Colour]) -> str:
    """The classes but for the background, which is not drawn."""
    drawn = class_colours(classes, colours)
    items = "\n".join(swatch(colour, name) for colour, name in zip(drawn[1:], classes[1:], strict=True))
    return f'<p class="legend">{items}</p>'


def _error_keys(*, several: bool) -> tuple[tuple[str, Colour], ...]:
    """What the colours of an error map mean; of one class, or of `several`."""
    return tuple((MISSED_OR_CONFUSED if several and colour == MISSED else name, colour) for name, colour in LEGEND)


def _panel(panel: Panel, kind: str, colours: Sequence[Colour], error_keys: Sequence[tuple[str, Colour]]) -> str:
    """An image four times."""
    # Objects are matched at full size, as they are scored, and drawn small: outlines stay one pixel wide on the screen.
    wrong = errors(panel.reference, panel.estimate, instances=panel.instances)
    image = _small_image(panel.image)
    size = (image.shape[1], image.shape[2])
    reference, estimate = _small_labels(panel.reference, size), _small_labels(panel.estimate, size)
    chosen = () if panel.instances else colours
    wrong_drawn = draw_errors(image, *(_small_labels(kind, size) for kind in wrong), instances=panel.instances)
    ignored = reference < 0
    pictures = (
        ("image", to_display(image), ()),
        ("reference", hatch(overlay(image, reference, colours=chosen), ignored), (STRIPED,) if ignored.any() else ()),
        ("estimate", overlay(image, estimate, colours=chosen), ()),
        ("errors", hatch(wrong_drawn, ignored), error_keys),
    )
    figures = "\n".join(_figure(panel.name, what, picture, legend) for what, picture, legend in pictures)
    value = f"{escape(panel.score_name)} {number(float(panel.score))}"
    note = f" <span>{escape(panel.note)}</span>" if panel.note else ""
    said = f" {chip(kind)}" if kind else ""
    return (
        f"<article>\n<h3>{escape(panel.name)} <span>{value}</span>{note}{said}</h3>\n"
        f'<div class="four">{figures}</div>\n</article>'
    )


def _figure(name: str, what: str, picture: NDArray[np.uint8], legend: Sequence[tuple[str, Colour]]) -> str:
    few = ' class="few"' if picture.shape[1] < FEW_PIXELS else ""
    said = f"{escape(name)}: {what}"
    keys = "".join(f" {swatch(colour, key)}" for key, colour in legend)
    return (
        f'<figure><label><input type="checkbox" aria-label="enlarge {said}"><img{few} src="{picture_uri(picture)}" '
        f'alt="{said}" width="{picture.shape[1]}" height="{picture.shape[0]}"></label>'
        f"<figcaption>{what}{keys}</figcaption></figure>"
    )


def _small_image(image: NDArray[Any]) -> NDArray[np.float32]:
    """The channels that can be shown, averaged down until neither side exceeds MOST_SIDE; never enlarged."""
    height, width = image.shape[1:]
    factor = min(1.0, MOST_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    channels = [PillowImage.fromarray(np.asarray(channel, dtype=np.float32)) for channel in image[:3]]
    return np.stack([np.asarray(channel.resize(size, PillowImage.Resampling.BOX)) for channel in channels])


def _small_labels(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The label at the middle of each pixel of the smaller picture."""
    rows, columns = (
        ((np.arange(small) + 0.5) * large / small).astype(np.intp)
        for small, large in zip(size, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def picture_uri(picture: NDArray[np.uint8]) -> str:
    """A JPEG with full colour resolution: at half of it, thin outlines would lose theirs."""
    for quality in JPEG_QUALITIES:
        written = io.BytesIO()
        PillowImage.fromarray(picture).save(written, "JPEG", quality=quality, subsampling=0)
        if written.tell() <= JPEG_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")
