"""One page that tells a whole run: how good, where it fails, what was done, and how to do it again.

Conventions
- The page is one HTML file without scripts that asks for nothing outside itself (`ushape.picture.page`), and stays
  below `MOST_BYTES` (`ushape.picture.gallery` limits the pictures).
- It begins with the answer in words; then comes what to look out for, then what can be seen, then what can be counted,
  and last how it was made.
- Scores are numbers of which higher is better. Empty parts are left out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ushape.picture.charts import counts_svg, histogram_svg, reliability_svg
from ushape.picture.curves import curves_svg
from ushape.picture.gallery import Panel, class_colours, gallery
from ushape.picture.glossary import answer, meaning
from ushape.picture.mistakes import Mistake, mistakes_html
from ushape.picture.page import (
    chip,
    code,
    facts,
    folded,
    number,
    page,
    paragraph,
    section,
    sentences,
    table,
    words,
)
from ushape.picture.tables import class_table, confusion_table, image_table
from ushape.scoring.calibration import Calibration
from ushape.scoring.sizes import Sizes
from ushape.training.checkpoint import write_text

__all__ = ["Check", "Panel", "Report", "report_html", "write_report"]

# What a mail or an issue tracker takes without complaint.
MOST_BYTES = 5_000_000

# Scores shown in large type; the others stand in a table that opens.
N_HEADLINES = 4

INTERVALS = (
    "An interval says how far a score can be off by the chance of which images were scored: it holds 95 % of the "
    "scores of as many images, drawn again and again from these (bootstrap)."
)

SEVERITIES = ("error", "warning", "note")

# So many of one severity are written out; a check of thousands of files would hide everything else.
MOST_CHECKS = 30

# What rows of classified images are ordered by: 0 where the class is wrong.
CLASSIFIED = "right"

# From so many notes on they are folded: they ask for nothing.
MANY_NOTES = 4

# The matrix of two classes says no more than their precision and recall.
FEWEST_CONFUSED = 3


class Check(Protocol):
    """What a check of the data found, as `ushape.data.doctor` says it.

    severity  "error", "warning" or "note"
    where     which file, or empty
    sentence  what was found
    action    what was or should be done about it, or empty
    """

    @property
    def severity(self) -> str: ...  # noqa: D102

    @property
    def where(self) -> str: ...  # noqa: D102

    @property
    def sentence(self) -> str: ...  # noqa: D102

    @property
    def action(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Report:
    """What the page says; empty parts are left out.

    title        one line
    command      the exact command that repeats the run
    plan         what was decided and why, one sentence each
    findings     what was understood of the data, one sentence each
    problems     warnings, one sentence each
    scores       by name, the most telling first
    score_note   which images these scores are of, and what else these were used for
    rows         one mapping per image: `name`, and its scores by name
    gallery      panels of all images, in any order; the worst, typical ones and the best are chosen and shown
    history      records of the loop, as `ushape.picture.curves` takes them
    events       events of the run, likewise
    facts        time, memory, device, versions and the like, by name
    summary      what was trained on what, one or two sentences; the page begins with them
    intervals    95 % confidence intervals (low, high) of some of the scores, by their names
    checks       what the data doctor found
    classes      names by class index, the background first
    colours      by class index, where the data set has chosen any
    confusions   where there are classes: one matrix (n_classes, n_classes) per image, or a single one of all together
    sizes        where there are objects: of all images together
    unit         of the sizes
    calibration  of all images together
    mistakes     images that were given a wrong class
    """

    title: str
    command: str = ""
    plan: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    score_note: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()
    gallery: tuple[Panel, ...] = ()
    history: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    classes: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    confusions: Sequence[NDArray[np.int64]] = ()
    sizes: Sizes | None = None
    unit: str = "px"
    calibration: Calibration | None = None
    mistakes: tuple[Mistake, ...] = ()


def write_report(path: Path, report: Report) -> None:
    """Write the page to `path`, complete or not at all."""
    write_text(path, report_html(report))


def report_html(report: Report) -> str:
    """The whole page."""
    order_by = report.gallery[0].score_name if report.gallery else CLASSIFIED
    data = section("Data", sentences(report.findings))
    return page(
        report.title,
        [
            section("Result", _result(report)),
            section("Checks", _checks(report)),
            section("Images", gallery(report.gallery, report.classes, report.colours)),
            section("Mistakes", mistakes_html(report.mistakes, len(report.rows))),
            section("Scores of each image", image_table(report.rows, order_by)),
            section("Classes", _classes(report)),
            section("Objects", _objects(report)),
            section("Calibration", _calibration(report)),
            _side_by_side(section("Plan", sentences(report.plan)) + data, section("Training", _curves(report))),
            section("To do it again", code(report.command) + facts(report.facts)),
        ],
    )


def _result(report: Report) -> str:
    """The answer in words and in large numbers, and all scores with what they mean."""
    said = " ".join(text for text in (report.summary, answer(report.scores, report.intervals)) if text)
    cards = "\n".join(_card(report, name) for name in list(report.scores)[:N_HEADLINES])
    large = f'<div class="scores">\n{cards}\n</div>\n' if cards else ""
    every = folded("All scores, and what they mean", _all_scores(report))
    return paragraph(said, "answer") + large + paragraph(report.score_note) + every


def _interval(report: Report, name: str) -> str:
    """The interval of a score as text, or nothing."""
    low, high = report.intervals.get(name, (math.nan, math.nan))
    return "" if math.isnan(low) else f"{low:.3f} to {high:.3f}"


def _card(report: Report, name: str) -> str:
    """One score in large type, its interval and the first part of its meaning."""
    interval = _interval(report, name)
    lines = [f"95 %: {interval}" if interval else "", meaning(name).split(";")[0]]
    small = "".join(f"<small>{escape(line)}</small>" for line in lines if line)
    return f'<div class="score"><b>{number(report.scores[name])}</b><span>{escape(name)}</span>{small}</div>'


def _all_scores(report: Report) -> str:
    """Every score, its interval and its meaning."""
    if not report.scores:
        return ""
    head, with_intervals = ["score", "value", "meaning"], bool(report.intervals)
    if with_intervals:
        head.insert(2, "95 % interval")
    lines = [
        (
            escape(name),
            [
                number(value),
                *([_interval(report, name)] * with_intervals),
                f'<div class="words">{escape(meaning(name))}</div>',
            ],
        )
        for name, value in report.scores.items()
    ]
    return table(head, lines) + paragraph(INTERVALS if with_intervals else "")


def _checks(report: Report) -> str:
    """What was noticed, by severity, the gravest first."""
    lines: dict[str, list[str]] = {severity: [] for severity in SEVERITIES}
    lines["warning"] += [_check("warning", "", problem, "") for problem in report.problems]
    for check in report.checks:
        # A severity that is not known here is better read as a warning than not at all.
        severity = check.severity if check.severity in lines else "warning"
        lines[severity].append(_check(severity, check.where, check.sentence, check.action))
    return "\n".join(_check_list(severity, items) for severity, items in lines.items() if items)


def _check(severity: str, where: str, sentence: str, action: str) -> str:
    place = f" <code>{escape(where)}</code>" if where and where not in sentence else ""
    doing = f"<small>{words(action)}</small>" if action else ""
    return f"<li><div>{chip(severity, severity)}</div><div>{words(sentence)}{place}{doing}</div></li>"


def _check_list(severity: str, items: Sequence[str]) -> str:
    """The checks of one severity; many notes are folded."""
    written = f'<ul class="checks">\n{"".join(items[:MOST_CHECKS])}\n</ul>'
    if len(items) > MOST_CHECKS:
        written += paragraph(f"And {len(items) - MOST_CHECKS} more; `ushape check` lists them all.")
    return folded(f"{len(items)} notes", written) if severity == "note" and len(items) >= MANY_NOTES else written


def _classes(report: Report) -> str:
    """The scores of each class, and which was taken for which."""
    if not report.confusions:
        return ""
    note = "Large: all images together. Small: mean ± standard deviation over the images, and the lowest one."
    note = note if len(report.confusions) > 1 else ""
    drawn = class_colours(report.classes, report.colours)
    of_images = bool(report.rows) and CLASSIFIED in report.rows[0]
    content = class_table(report.confusions, report.classes, drawn, areas=not of_images) + paragraph(note)
    if len(report.classes) >= FEWEST_CONFUSED:
        content += (
            "<h3>Which class was taken for which</h3>\n"
            + confusion_table(np.sum(report.confusions, axis=0), report.classes)
            + paragraph("Each row: of what is that class in the reference, the share that was given each class.")
        )
    return content


def _objects(report: Report) -> str:
    """Sizes and numbers of objects, reference beside estimate."""
    sizes = report.sizes
    if sizes is None or not (sizes.reference or sizes.estimate):
        return ""
    label = f"equivalent diameter ({report.unit})"
    medians = [
        f"{statistics.median(values):.3g} {report.unit} ({len(values)} object{'s' * (len(values) > 1)})"
        if values
        else "none (no objects)"
        for values in (sizes.reference, sizes.estimate)
    ]
    key = (
        '<span class="swatch"><i class="reference"></i>reference, median '
        f'{escape(medians[0])}</span> <span class="swatch"><i class="estimate"></i>estimate, median '
        f"{escape(medians[1])}</span>"
    )
    drawings = [_drawing(histogram_svg(sizes.reference, sizes.estimate, label), key)]
    if len(sizes.counts) > 1:
        agree = statistics.fmean(abs(a - b) for a, b in sizes.counts)
        said = f"Objects per image, a dot for each: off by {agree:.1f} on average; the dashed line is agreement."
        drawings.append(_drawing(counts_svg(sizes.counts), escape(said)))
    return f'<div class="drawings">{"".join(drawings)}</div>' + paragraph(
        "The equivalent diameter is that of a circle (or ball) of the object's area (or volume); objects cut by the "
        "frame count with what is seen of them."
    )


def _calibration(report: Report) -> str:
    """Whether probabilities mean what they say."""
    counted = report.calibration
    if counted is None or not counted.n_pixels:
        return ""
    error = counted.expected_calibration_error
    what = "are foreground" if counted.foreground else "have that class"
    things = "images" if report.rows and CLASSIFIED in report.rows[0] else "pixels"
    said = (
        f"Expected calibration error {error:.3f}: stated probabilities are off by {100 * error:.1f} percentage points "
        "on average. "
        f"On the dashed line, of the {things} given a probability of 0.8, 80 % {what}; "
        + (
            "dots above it mean that there is more foreground than stated, dots below it less."
            if counted.foreground
            else "dots below it mean that the network is surer than it is right."
        )
        + f" Larger dots stand for more {things}."
    )
    return f'<div class="drawings">{_drawing(reliability_svg(counted), "")}<div>{paragraph(said)}</div></div>'


def _drawing(svg: str, caption: str) -> str:
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{svg}{below}</figure>"


def _curves(report: Report) -> str:
    """The curves, and what happened on the way."""
    if not report.history:
        return ""
    happened = folded("What happened when", sentences(_event(event) for event in report.events))
    return f'<div class="curves">{curves_svg(report.history, report.events)}</div>\n{happened}'


def _event(event: Mapping[str, Any]) -> str:
    """An event as words: its step, its name, its details."""
    details = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("step", "event"))
    return f"step {event['step']}: {event['event']}" + (f" ({details})" if details else "")


def _side_by_side(left: str, right: str) -> str:
    """Two parts beside each other where the screen is wide enough."""
    return f'<div class="beside">\n<div>{left}</div>\n<div>{right}</div>\n</div>' if left and right else left or right
