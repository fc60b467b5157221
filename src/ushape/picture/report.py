"""One page that tells a whole run: how good, where it fails, what was done, and how to do it again.

Conventions
- The page is one HTML file that asks for nothing outside itself: styles and curves stand in it, pictures are data URIs,
  and its security policy forbids everything else. It follows the reader's light or dark setting and fits a phone.
- Scores are numbers of which higher is better, so the worst image is the one with the lowest score.
- Every string that comes from outside is escaped.
- The file stays below `MOST_BYTES`: pictures are shrunk to `MOST_SIDE`, at most `MOST_PANELS` images are shown, fewer
  where they compress badly, and the page says how many were left out.
"""

from __future__ import annotations

import base64
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ushape.picture.curves import curves_svg
from ushape.picture.overlay import LEGEND, draw_errors, errors, overlay, to_display
from ushape.training.checkpoint import write_text

__all__ = ["Panel", "Report", "report_html", "write_report"]

# What a mail or an issue tracker takes without complaint.
MOST_BYTES = 5_000_000

# Of these, the bytes for pictures; the curves, the tables and the words have the rest.
PICTURE_BYTES = 3_800_000

# Pixels of a picture's longer side: a quarter of a wide screen, or a whole phone.
MOST_SIDE = 480

MOST_PANELS = 12
MOST_ROWS = 1000

# Scores shown in large type; the others stand in a table below.
N_HEADLINES = 4

# A picture narrower than this is shown with its pixels as squares instead of blurred.
FEW_PIXELS = 160

JPEG_QUALITY = 85


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
    """

    name: str
    score_name: str
    score: float
    image: NDArray[Any]
    reference: NDArray[np.integer[Any]]
    estimate: NDArray[np.integer[Any]]
    instances: bool


@dataclass(frozen=True)
class Report:
    """What the page says; empty parts are left out.

    title       one line
    command     the exact command that repeats the run
    plan        what was decided and why, one sentence each
    findings    what was understood of the data, one sentence each
    problems    warnings, one sentence each
    scores      by name, the most telling first
    score_note  which images these scores are of, and what else these were used for
    rows        one mapping per image: `name`, and its scores by name
    gallery     panels in any order; the worst are shown, the worst first
    history     records of the loop, as `ushape.picture.curves` takes them
    events      events of the run, likewise
    facts       time, device, versions and the like, by name
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


def write_report(path: Path, report: Report) -> None:
    """Write the page to `path`, complete or not at all."""
    write_text(path, report_html(report))


def report_html(report: Report) -> str:
    """The whole page."""
    body = [
        _section("Scores", _headlines(report.scores) + _paragraph(report.score_note)),
        _section("Warnings", _sentences(report.problems), kind="warning"),
        _section("Worst images first", _gallery(report.gallery)),
        _section("Every image", _table(report)),
        _side_by_side(
            _section("The plan", _sentences(report.plan)) + _section("The data", _sentences(report.findings)),
            _section("Training", _curves(report)),
        ),
        _section("To do it again", _code(report.command) + _facts(report.facts)),
    ]
    return PAGE.substitute(title=escape(report.title), style=STYLE, body="\n".join(part for part in body if part))


# Words and numbers.


def _section(heading: str, content: str, kind: str = "") -> str:
    """A part of the page, or nothing when it is empty."""
    return f'<section class="{kind}">\n<h2>{heading}</h2>\n{content}\n</section>' if content else ""


def _side_by_side(left: str, right: str) -> str:
    """Two parts beside each other where the screen is wide enough."""
    return f'<div class="beside">\n<div>{left}</div>\n<div>{right}</div>\n</div>' if left and right else left or right


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _sentences(texts: Iterable[str]) -> str:
    items = "\n".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>\n{items}\n</ul>" if items else ""


def _code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>" if text else ""


def _facts(facts: Mapping[str, Any]) -> str:
    items = "\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(str(fact))}</dd></div>" for name, fact in facts.items())
    return f"<dl>\n{items}\n</dl>" if items else ""


def _number(value: float | None) -> str:
    """A score with three decimals, a count without, a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3f}" if isinstance(value, (float, np.floating)) else f"{value:d}"


def _headlines(scores: Mapping[str, float]) -> str:
    """The first scores in large type, the others in a list to be opened."""
    named = list(scores.items())
    large = "\n".join(
        f'<div class="score"><b>{_number(value)}</b><span>{escape(name)}</span></div>'
        for name, value in named[:N_HEADLINES]
    )
    others = _facts({name: _number(value) for name, value in named[N_HEADLINES:]})
    more = f"<details><summary>all scores</summary>\n{others}\n</details>" if others else ""
    return f'<div class="scores">\n{large}\n</div>\n{more}' if large else ""


# The table of images.


def _table(report: Report) -> str:
    """Every image's scores, the worst first, under their mean, spread and range."""
    if not report.rows:
        return ""
    columns = _columns(report.rows)
    rows = sorted(report.rows, key=lambda row: _rank(row, _order_by(report, columns)))
    spread = [
        _row(name, [measure(_values(report.rows, column)) for column in columns])
        for name, measure in (("mean", statistics.fmean), ("sd", _sd), ("lowest", min), ("highest", max))
    ]
    lines = [_row(str(row.get("name", "")), [row.get(column) for column in columns]) for row in rows[:MOST_ROWS]]
    left_out = len(rows) - MOST_ROWS
    note = f"The {MOST_ROWS} lowest of {len(rows)} images." if left_out > 0 else ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return (
        f'<div class="table"><table>\n<thead><tr><th>{len(rows)} images</th>{head}</tr>\n'
        + "\n".join(spread)
        + "</thead>\n<tbody>\n"
        + "\n".join(lines)
        + f"\n</tbody></table></div>\n{_paragraph(note)}"
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the numbers, as they first appear.

    Of one image, "X per image" says what X says and the number of images says nothing: both are left out.
    """
    names = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, (int, float)))
    suffix = " per image"
    return [
        name
        for name in names
        if name != "n_images" and not (name.endswith(suffix) and name.removesuffix(suffix) in names)
    ]


def _order_by(report: Report, columns: Sequence[str]) -> str:
    """The score that orders the gallery orders the table too, if it is there."""
    name = report.gallery[0].score_name if report.gallery else ""
    return name if name in columns or not columns else columns[0]


def _rank(row: Mapping[str, Any], name: str) -> float:
    """Its score, or infinity: what has no score is not among the worst."""
    value = row.get(name, math.inf)
    return math.inf if math.isnan(value) else float(value)


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    values = [float(row[column]) for row in rows if row.get(column) is not None]
    return [value for value in values if not math.isnan(value)] or [math.nan]


def _sd(values: Sequence[float]) -> float:
    """The standard deviation between images (n - 1); nan for a single one."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _row(name: str, values: Iterable[float | None]) -> str:
    cells = "".join(f"<td>{_number(value)}</td>" for value in values)
    return f"<tr><th>{escape(name)}</th>{cells}</tr>"


# Pictures.


def _gallery(panels: Sequence[Panel]) -> str:
    """The worst images, as many as fit."""
    worst = sorted(panels, key=lambda panel: (math.inf if math.isnan(panel.score) else panel.score, panel.name))
    shown: list[str] = []
    for panel in worst[:MOST_PANELS]:
        html = _panel(panel)
        if shown and sum(map(len, shown)) + len(html) > PICTURE_BYTES:
            break
        shown.append(html)
    note = f"The {len(shown)} worst of {len(panels)} images." if len(shown) < len(panels) else ""
    return _paragraph(note) + "\n".join(shown) if shown else ""


def _panel(panel: Panel) -> str:
    """An image four times: as it is, with its reference, with its estimate, with the errors."""
    # Objects are matched at full size, as they are scored, and drawn small: outlines stay one pixel wide on the screen.
    wrong = errors(panel.reference, panel.estimate, instances=panel.instances)
    image = _small_image(panel.image)
    size = (image.shape[1], image.shape[2])
    pictures = (
        ("image", to_display(image)),
        ("reference", overlay(image, _small_labels(panel.reference, size))),
        ("estimate", overlay(image, _small_labels(panel.estimate, size))),
        ("errors", draw_errors(image, *(_small_labels(kind, size) for kind in wrong), instances=panel.instances)),
    )
    figures = "\n".join(_figure(name, picture, _legend() if name == "errors" else "") for name, picture in pictures)
    value = f"{escape(panel.score_name)} {_number(float(panel.score))}"
    return (
        f'<article>\n<h3>{escape(panel.name)} <span>{value}</span></h3>\n<div class="four">{figures}</div>\n</article>'
    )


def _figure(name: str, picture: NDArray[np.uint8], legend: str) -> str:
    few = ' class="few"' if picture.shape[1] < FEW_PIXELS else ""
    return (
        f'<figure><img{few} src="{_data_uri(picture)}" alt="{name}" width="{picture.shape[1]}" '
        f'height="{picture.shape[0]}"><figcaption>{name}{legend}</figcaption></figure>'
    )


def _legend() -> str:
    return "".join(f' <span><i style="background:rgb{colour}"></i>{name}</span>' for name, colour in LEGEND)


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


def _data_uri(picture: NDArray[np.uint8]) -> str:
    """A JPEG with full colour resolution: at half of it, thin outlines would lose theirs."""
    written = io.BytesIO()
    PillowImage.fromarray(picture).save(written, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _curves(report: Report) -> str:
    """The curves, and what happened on the way."""
    if not report.history:
        return ""
    lines = [_event(event) for event in report.events]
    happened = f"<details><summary>what happened when</summary>\n{_sentences(lines)}\n</details>" if lines else ""
    return f'<div class="curves">{curves_svg(report.history, report.events)}</div>\n{happened}'


def _event(event: Mapping[str, Any]) -> str:
    """An event as words: its step, its name, its details."""
    details = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("step", "event"))
    return f"step {event['step']}: {event['event']}" + (f" ({details})" if details else "")


# The frame.

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
</body>
</html>
""")

STYLE = """
:root { --ink: #1c2024; --soft: #5f6b76; --page: #f6f7f8; --card: #fff; --line: #dfe3e7; --accent: #00805d;
  --warn: #fff4dd; --warn-line: #e69f00 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #98a4af; --page: #14171a; --card: #1d2125; --line: #32383e; --accent: #3fc79a;
    --warn: #33290f; --warn-line: #b27b00 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 76rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1.2rem }
h2 { font-size: 1.1rem; margin: 0 0 .7rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere }
h3 span { color: var(--soft); font-weight: normal; white-space: nowrap; margin-left: .5rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem;
  margin-bottom: 1rem }
section.warning { background: var(--warn); border-color: var(--warn-line) }
p { margin: .5rem 0 0; color: var(--soft); max-width: 46rem }
ul { margin: 0; padding-left: 1.2rem; max-width: 60rem; overflow-wrap: anywhere }
.scores { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .8rem }
.score b { display: block; font-size: 2rem; line-height: 1.2; color: var(--accent);
  font-variant-numeric: tabular-nums }
.score span { color: var(--soft) }
details { margin-top: .8rem }
summary { cursor: pointer; color: var(--soft) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .3rem 1.5rem; margin: .7rem 0 0 }
dl div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--line) }
dt { color: var(--soft) }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
.four { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem }
figure { margin: 0 }
img { display: block; width: 100%; height: auto; border-radius: 4px }
img.few { image-rendering: pixelated }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .2rem }
figcaption span { white-space: nowrap }
i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin: 0 .25em 0 .4em }
.table { overflow: auto; max-height: 32rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line) }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); font-weight: normal }
thead { position: sticky; top: 0; z-index: 1; background: var(--card) }
thead tr:first-child th { font-weight: 600; border-bottom: 2px solid var(--line) }
thead td { color: var(--soft) }
.beside { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem }
.curves { max-width: 40rem }
.curves svg { display: block; width: 100%; height: auto; font-family: inherit }
.curves text { font-family: system-ui, sans-serif !important }
pre { margin: 0; padding: .7rem .9rem; background: var(--page); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere }
@media (max-width: 960px) { .beside { grid-template-columns: 1fr } }
@media (max-width: 700px) {
  main { padding: .6rem }
  .four { grid-template-columns: repeat(2, 1fr) }
  dl { grid-template-columns: 1fr } }
"""
