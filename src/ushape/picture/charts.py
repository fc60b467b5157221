"""Small drawings of numbers, as `<svg>` elements written by hand.

Conventions
- A chart takes numbers and gives one `<svg>` element for an HTML page. Its colours are the page's classes (`reference`
  blue and filled, `estimate` orange and drawn as a line, so that they differ without colour too), and so it follows a
  dark page; words in it are text.
- Lengths are in units of the drawing, of which the page makes pixels; y runs down.
- `role="img"` and `aria-label` say in words what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ushape.scoring.calibration import Calibration

__all__ = ["Scale", "counts_svg", "histogram_svg", "reliability_svg", "strip_svg"]

T = TypeVar("T")

# The drawing of a histogram, and what the numbers and names of axes take of it. Where both axes measure the same thing
# they are of one length, so that the line of agreement is a diagonal.
WIDTH, HEIGHT = 390, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44
SIDE = 260

# Bins of a histogram: about twice the root of the number of objects, within these limits.
FEWEST_BINS, MOST_BINS = 8, 24

# From this ratio of the largest to the smallest value on, an axis is logarithmic.
WIDE = 12

# More dots than this are not seen, and make the file large.
MOST_DOTS = 400

# Where two values of a strip fall together they stand beside each other on so many lines.
STRIP_LINES = 5


@dataclass(frozen=True)
class Scale:
    """Values of [low, high] on a line from `start` to `stop`, evenly or by their logarithm; `whole` numbers or not."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    whole: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies on the line."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Some four round values inside the range."""
        if not self.log:
            step = max(_round_step((self.high - self.low) / 4), 1.0 * self.whole)
            first = math.ceil(self.low / step - 1e-9)
            return [float(f"{n * step:.6g}") for n in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        digits = (1,) if self.high > 200 * self.low else (1, 2, 5)
        return [digit * 10.0**e for e in decades for digit in digits if self._holds(digit * 10.0**e)]

    def _holds(self, value: float) -> bool:
        return self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)


def histogram_svg(reference: Sequence[float], estimate: Sequence[float], label: str) -> str:
    """How often which value occurs in the reference (bars) and in the estimate (a line).

    Args:
        reference, estimate: positive values, at least one of them not empty.
        label: what the values are, with their unit, below the axis.
    """
    every = np.concatenate([np.asarray(reference, float), np.asarray(estimate, float)])
    x = _value_axis(every)
    n_bins = min(MOST_BINS, max(FEWEST_BINS, round(2 * math.sqrt(max(len(reference), len(estimate))))))
    bounds = np.geomspace(x.low, x.high, n_bins + 1) if x.log else np.linspace(x.low, x.high, n_bins + 1)
    # The bounds' own rounding must not lose the largest and the smallest value.
    bounds[0], bounds[-1] = min(bounds[0], every.min()), max(bounds[-1], every.max())
    counts = [np.histogram(values, bounds)[0] for values in (reference, estimate)]
    y = Scale(0, max(1, int(max(c.max() for c in counts))), HEIGHT - BOTTOM, TOP, whole=True)
    places = [x(bound) for bound in np.clip(bounds, x.low, x.high)]
    bars = "".join(
        f'<rect class="reference" x="{_n(left)}" y="{_n(y(n))}" width="{_n(right - left)}" height="{_n(y(0) - y(n))}"/>'
        for left, right, n in zip(places, places[1:], counts[0], strict=False)
        if n
    )
    steps = "".join(f"V{_n(y(n))}H{_n(right)}" for right, n in zip(places[1:], counts[1], strict=True))
    line = f'<path class="estimate" d="M{_n(places[0])} {_n(y(0))}{steps}V{_n(y(0))}"/>'
    words = f"Histogram of {label}: {len(reference)} objects of the reference, {len(estimate)} of the estimate"
    return _svg(words, x, y, _axes(x, y, label, "objects") + bars + line)


def counts_svg(counts: Sequence[tuple[int, int]]) -> str:
    """Objects in the reference against objects in the estimate, a dot for each image; on the dashed line both agree."""
    highest = max(1, *(max(pair) for pair in counts))
    top = highest * 1.06
    x, y = _square(top, whole=True)
    dots = "".join(
        f'<circle class="dot" cx="{_n(x(reference))}" cy="{_n(y(estimate))}" r="5"/>'
        for reference, estimate in _spread(counts)
    )
    words = f"Objects in each of {len(counts)} images, reference against estimate"
    frame = _axes(x, y, "objects in the reference", "in the estimate")
    return _svg(words, x, y, frame + _diagonal(x, y, 0, top) + dots)


def reliability_svg(calibration: Calibration) -> str:
    """Stated probability against what is true of it, a dot for each bin; its area grows with the bin's pixels."""
    x, y = _square(1)
    filled = np.flatnonzero(calibration.n)
    confidence, share = calibration.mean_confidence[filled], calibration.share_correct[filled]
    # Areas by the root of the number: background alone would leave no other dot to be seen.
    radii = 3 + 6 * (calibration.n[filled] / max(1, calibration.n.max())) ** 0.25
    points = [(x(p), y(q)) for p, q in zip(confidence, share, strict=True)]
    line = "M" + "L".join(f"{_n(px)} {_n(py)}" for px, py in points) if points else ""
    dots = "".join(
        f'<circle class="dot" cx="{_n(px)}" cy="{_n(py)}" r="{_n(r)}"/>'
        for (px, py), r in zip(points, radii, strict=True)
    )
    what = "share that is foreground" if calibration.foreground else "share that is right"
    words = f"Stated probability against the {what}, {calibration.n_pixels} pixels"
    frame = _axes(x, y, "stated probability", what)
    return _svg(words, x, y, frame + _diagonal(x, y, 0, 1) + f'<path class="estimate" d="{line}"/>' + dots)


def strip_svg(values: Sequence[float]) -> str:
    """The scores of one class, a dot for each image between 0 and 1, and a stroke at their mean."""
    width, height = 176, 26
    x = Scale(0, 1, 6, width - 6)
    dots = "".join(
        f'<circle class="dot" cx="{_n(x(value))}" cy="{_n(6 + 14 * (index % STRIP_LINES) / (STRIP_LINES - 1))}" r="3"/>'
        for index, value in enumerate(_spread(values))
    )
    mean = _n(x(sum(values) / len(values)))
    words = f"{len(values)} images from {min(values):.2f} to {max(values):.2f}"
    frame = f'<path class="axis" d="M{_n(x(0))} 13H{_n(x(1))}M{_n(x(0))} 9v8M{_n(x(1))} 9v8"/>'
    stroke = f'<path class="estimate" d="M{mean} 1V25"/>'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{words}">{frame}{dots}{stroke}</svg>'


def _value_axis(values: NDArray[np.float64]) -> Scale:
    """The horizontal axis of a histogram: logarithmic where values are wide apart, never without width."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > WIDE * low:
        return Scale(low, high, LEFT, WIDTH - RIGHT, log=True)
    slack = 0.05 * (high - low) or 0.5 * (high or 1.0)
    return Scale(max(0.0, low - slack), high + slack, LEFT, WIDTH - RIGHT)


def _square(top: float, *, whole: bool = False) -> tuple[Scale, Scale]:
    """Two axes of one length from 0 to `top`."""
    return Scale(0, top, LEFT, LEFT + SIDE, whole=whole), Scale(0, top, TOP + SIDE, TOP, whole=whole)


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    """Lines, numbers and names of both axes."""
    bottom, middle, centre = y.start, (y.start + y.stop) / 2, (x.start + x.stop) / 2
    lines = "".join(f'<path class="axis" d="M{_n(x.start)} {_n(y(tick))}H{_n(x.stop)}"/>' for tick in y.ticks())
    left = "".join(
        f'<text x="{_n(x.start - 8)}" y="{_n(y(tick) + 4)}" text-anchor="end">{tick:g}</text>' for tick in y.ticks()
    )
    below = "".join(
        f'<path class="axis" d="M{_n(x(tick))} {_n(bottom)}v4"/>'
        f'<text x="{_n(x(tick))}" y="{_n(bottom + 18)}" text-anchor="middle">{tick:g}</text>'
        for tick in x.ticks()
    )
    names = (
        f'<text x="{_n(centre)}" y="{_n(bottom + 38)}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="14" y="{_n(middle)}" text-anchor="middle" transform="rotate(-90 14 {_n(middle)})">'
        f"{escape(y_label)}</text>"
    )
    return lines + left + below + names


def _diagonal(x: Scale, y: Scale, low: float, high: float) -> str:
    """Where both axes say the same."""
    return f'<path class="even" d="M{_n(x(low))} {_n(y(low))}L{_n(x(high))} {_n(y(high))}"/>'


def _svg(words: str, x: Scale, y: Scale, content: str) -> str:
    """The drawing around two axes."""
    width, height = _n(x.stop + RIGHT), _n(y.start + BOTTOM)
    kind = ' class="square"' if x.stop == LEFT + SIDE else ""
    return f'<svg{kind} viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}">{content}</svg>'


def _spread(values: Sequence[T]) -> Sequence[T]:
    """At most MOST_DOTS of them, evenly from first to last."""
    return values if len(values) <= MOST_DOTS else [values[n * len(values) // MOST_DOTS] for n in range(MOST_DOTS)]


def _round_step(step: float) -> float:
    """The nearest larger of 1, 2, 5, 10, ... and of their tenths."""
    decade = 10.0 ** math.floor(math.log10(step))
    return next(d * decade for d in (1, 2, 5, 10) if d * decade >= step * (1 - 1e-9))


def _n(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
