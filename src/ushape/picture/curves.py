"""How a training run went: loss, validation score and learning rate over the steps.

Conventions
- A record is what the training loop yields: a mapping with `step`, `loss`, `learning_rate`, `images_per_second`,
  `elapsed` (seconds) and, at some steps, `validation` (a score, higher is better). Other keys are not looked at.
- An event is a mapping with `step`, `event` (its name) and whatever details belong to it.
- Panels stand above each other and share the steps: two scales in one panel would suggest crossings that mean nothing.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from mpl_toolkits.axes_grid1 import make_axes_locatable
from numpy.typing import NDArray

__all__ = ["curves_svg", "draw_history"]

Record = Mapping[str, Any]

# Mid tones, to be read on white and on black: blue, orange and bluish green after Okabe and Ito.
LOSS, RATE, VALIDATION = "#3a8fd0", "#d98e04", "#12a07a"

# Text and frames take the colour of the text around the picture, so that it follows a dark page. matplotlib knows no
# such colour, so this one stands for it until the SVG is written.
INK = "#010203"

# The bold loss line is a mean over this share of the records, enough to see a trend through the noise of batches.
SMOOTHED_SHARE = 0.04

# More points than this are not seen, and make the file large.
MOST_POINTS = 800

# Width and height in inches, to be read at the width of a phone, and the panels' place in it (left, bottom, width,
# height as shares), which leaves room for the numbers and names of the axes.
SIZE = (4.4, 4.2)
PLACE = (0.2, 0.12, 0.76, 0.86)


def draw_history(ax: Axes, records: Sequence[Record], events: Sequence[Record] = ()) -> Axes:
    """Draw a run into the place of `ax`: loss on top, validation score (if there is any) and learning rate below.

    Args:
        ax: is divided; it keeps the loss.
        records: in the order of their steps; none leaves empty axes.
        events: drawn as vertical lines through all panels and named on top.

    Returns:
        `ax`.
    """
    validated = [record for record in records if record.get("validation") is not None]
    divider = make_axes_locatable(ax)
    _draw_loss(ax, _column(records, "step"), _column(records, "loss"))
    panels = [ax]
    if validated:
        panels.append(divider.append_axes("bottom", size="55%", pad=0.12, sharex=ax))
        _draw_validation(panels[-1], _column(validated, "step"), _column(validated, "validation"))
    panels.append(divider.append_axes("bottom", size="35%", pad=0.12, sharex=ax))
    _draw_rate(panels[-1], _column(records, "step"), _column(records, "learning_rate"))
    for panel in panels:
        _plain(panel, last=panel is panels[-1])
    _draw_events(panels, events)
    return ax


def curves_svg(history: Sequence[Record], events: Sequence[Record] = ()) -> str:
    """`draw_history` as one `<svg>` element that asks for nothing outside itself, for a page or a file of its own.

    Text stays text, in the colour and with the fonts of the page; the same run gives the same string.
    """
    figure = Figure(figsize=SIZE)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ushape", "font.size": 10}):
        draw_history(figure.add_axes(PLACE), history, events)
        written = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    svg = written.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _draw_loss(ax: Axes, steps: NDArray[Any], losses: NDArray[Any]) -> None:
    every = max(1, len(steps) // MOST_POINTS)
    ax.plot(steps[::every], losses[::every], color=LOSS, alpha=0.3, linewidth=0.8)
    ax.plot(steps[::every], _smoothed(losses)[::every], color=LOSS, linewidth=1.8)
    ax.set_ylabel("training\nloss")
    if len(losses) and losses.min() > 0 and losses.max() > 10 * losses.min():
        ax.set_yscale("log")
        # Plain numbers at 1, 2 and 5: a loss seldom spans enough decades for powers of ten.
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())


def _draw_validation(ax: Axes, steps: NDArray[Any], scores: NDArray[Any]) -> None:
    ax.plot(steps, scores, color=VALIDATION, linewidth=1.6, marker=".", markersize=5)
    best = int(np.argmax(scores))
    ax.plot(steps[best], scores[best], "o", markersize=8, markerfacecolor="none", markeredgecolor=VALIDATION)
    # In the lower corner on the right: a score rises, so that its curve runs above.
    words = f"best {scores[best]:.3f}"
    ax.text(0.99, 0.06, words, transform=ax.transAxes, ha="right", va="bottom", color=INK)
    ax.set_ylabel("validation\nscore")


def _draw_rate(ax: Axes, steps: NDArray[Any], rates: NDArray[Any]) -> None:
    every = max(1, len(steps) // MOST_POINTS)
    ax.plot(steps[::every], rates[::every], color=RATE, linewidth=1.6)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("learning\nrate")
    ax.set_xlabel("step")


def _draw_events(panels: Sequence[Axes], events: Sequence[Record]) -> None:
    """A dotted line for each event, its name on top where there is room beside the name before.

    Of several events of one name in a row (a plan that is revised again and again) only the first is drawn.
    """
    low, high = panels[0].get_xlim()
    name, named = "", -np.inf
    for event in sorted(events, key=lambda event: float(event["step"])):
        step = float(event["step"])
        if event["event"] == name:
            continue
        name = str(event["event"])
        for panel in panels:
            panel.axvline(step, color=INK, alpha=0.45, linewidth=0.8, linestyle=":")
        if step - named > 0.04 * (high - low):
            _write_name(panels[0], step, name)
            named = step


def _write_name(ax: Axes, step: float, name: str) -> None:
    """Upright along the left side of an event's line, from the top."""
    place: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "rotation": 90, "ha": "right", "va": "top"}
    ax.text(step, 0.98, name, fontsize="small", color=INK, alpha=0.75, **place)


def _plain(ax: Axes, *, last: bool) -> None:
    """Only the lines that carry meaning, in the colour of the text."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(INK)
    ax.spines[["bottom", "left"]].set_alpha(0.4)
    ax.tick_params(colors=INK, labelcolor=INK, labelbottom=last, which="both")
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.yaxis.set_label_coords(-0.13, 0.5)
    ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    ax.patch.set_visible(False)


def _column(records: Sequence[Record], key: str) -> NDArray[np.float64]:
    return np.array([record[key] for record in records], dtype=np.float64)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A centred moving mean over SMOOTHED_SHARE of the values; at the ends over those there are."""
    window = np.ones(2 * int(len(values) * SMOOTHED_SHARE / 2) + 1)
    if len(values) < 2:
        return values
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
