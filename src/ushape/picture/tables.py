"""The numbers of a report in rows and columns: of every image, of every class, and which class was taken for which.

Conventions
- The reference stands first: rows of a confusion matrix are reference classes, columns estimate classes.
- Scores of a class are computed of all images together (pooled), and beside that of each image alone, for their mean,
  standard deviation (n - 1) and lowest value. An image where a class occurs on neither side has no score of it.
- Cells are HTML, made here of numbers and escaped names.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.picture.charts import strip_svg
from ushape.picture.page import number, paragraph, percent, swatch, table
from ushape.scoring.pixels import dice_per_class, iou_per_class

__all__ = ["class_table", "confusion_table", "image_table"]

Colour = tuple[int, int, int]
Matrix = NDArray[np.int64]

MOST_ROWS = 1000
# Classes whose matrix still fits a page.
MOST_IN_MATRIX = 40

# Texts of a row that are shown with its numbers: which class an image has, and which it was given.
TEXTS = ("class", "estimate")


def image_table(rows: Sequence[Mapping[str, Any]], order_by: str = "") -> str:
    """Every image's scores, the worst first, under their mean, spread and range.

    Args:
        rows: one mapping per image: `name`, and its scores by name.
        order_by: the score that decides which is the worst, and stands first; where no row has it, their first one.
    """
    if not rows:
        return ""
    columns = _columns(rows)
    if order_by in columns:
        columns.insert(0, columns.pop(columns.index(order_by)))
    ordered = sorted(rows, key=lambda row: _rank(row, columns[0] if columns else ""))
    measures = (("mean", statistics.fmean), ("sd", _sd), ("lowest", min), ("highest", max))
    texts = [name for name in TEXTS if name in rows[0]]
    spread = [
        (name, [""] * len(texts) + [_measured(measure, rows, column) for column in columns])
        for name, measure in measures
    ]
    lines = [
        (
            escape(str(row.get("name", ""))),
            [escape(str(row.get(text, ""))) for text in texts] + [number(row.get(column)) for column in columns],
        )
        for row in ordered[:MOST_ROWS]
    ]
    head = [f"{len(rows)} image{'s' * (len(rows) != 1)}", *texts, *columns]
    note = f"The {MOST_ROWS} lowest of {len(rows)} images." if len(rows) > MOST_ROWS else ""
    return table(head, lines, spread) + paragraph(note)


def class_table(
    confusions: Sequence[Matrix], classes: Sequence[str], colours: Sequence[Colour], *, areas: bool = True
) -> str:
    """For each class its Dice, IoU, precision and recall: of all images together, and how they differ between images.

    Args:
        confusions: one matrix (n_classes, n_classes) per image, as of `scoring.pixels.confusion_matrix`; of a single
            one, that of all images together, no differences between images are shown.
        classes, colours: by class index.
        areas: whether pixels were classified, and not whole images, which do not overlap.
    """
    if not confusions:
        return ""
    measures: dict[str, Callable[[Matrix], NDArray[np.float64]]] = {
        "Dice": dice_per_class,
        "IoU": iou_per_class,
        "precision": lambda matrix: _shares(np.diagonal(matrix), matrix.sum(axis=0)),
        "recall": lambda matrix: _shares(np.diagonal(matrix), matrix.sum(axis=1)),
    }
    if not areas:
        measures = {name: measure for name, measure in measures.items() if name not in ("Dice", "IoU")}
    total = np.sum(confusions, axis=0)
    pooled = {name: measure(total) for name, measure in measures.items()}
    single = {name: np.array([measure(matrix) for matrix in confusions]) for name, measure in measures.items()}
    several = areas and len(confusions) > 1
    lines = []
    for index, (name, colour) in enumerate(zip(classes, colours, strict=True)):
        cells = [_spread_cell(pooled[key][index], single[key][:, index]) for key in measures]
        if several:
            dice = [float(value) for value in single["Dice"][:, index] if not math.isnan(value)]
            cells = [strip_svg(dice) if dice else "", *cells, str(len(dice))]
        lines.append((swatch(colour, name), cells))
    return table(["class", "Dice of each image", *measures, "images"] if several else ["class", *measures], lines)


def confusion_table(total: Matrix, classes: Sequence[str]) -> str:
    """Of what is each reference class (row), pixels or images, the share that was given each class (column).

    Of many classes only the most frequent confusions, which a page can hold and a person can read.
    """
    if len(classes) > MOST_IN_MATRIX:
        return _frequent_confusions(total, classes)
    shares = [_shares(row, np.full(len(row), row.sum())) for row in total]
    lines = [
        (escape(name), [_share_cell(share, right=row == column) for column, share in enumerate(shares[row])])
        for row, name in enumerate(classes)
    ]
    return table(["reference, given as", *classes], lines)


def _frequent_confusions(total: Matrix, classes: Sequence[str]) -> str:
    """The pairs of different classes that were taken for each other most often."""
    wrong = total - np.diag(np.diagonal(total))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_IN_MATRIX]
    pairs = [np.unravel_index(index, wrong.shape) for index in order]
    lines = [
        (escape(classes[row]), [escape(classes[column]), percent(float(wrong[row, column] / total[row].sum()))])
        for row, column in pairs
        if wrong[row, column]
    ]
    return table(["reference", "given as", "share of the reference"], lines)


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


def _rank(row: Mapping[str, Any], name: str) -> float:
    """Its score, or infinity: what has no score is not among the worst."""
    value = row.get(name, math.inf)
    return math.inf if math.isnan(value) else float(value)


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    values = [float(row[column]) for row in rows if row.get(column) is not None]
    return [value for value in values if not math.isnan(value)] or [math.nan]


def _measured(measure: Callable[[list[float]], float], rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """A measure of a column as text; of counts with one decimal, or none where it is whole."""
    value = measure(_values(rows, column))
    if math.isnan(value) or any(isinstance(row.get(column), float) for row in rows):
        return number(float(value))
    return f"{value:.1f}".removesuffix(".0")


def _sd(values: Iterable[float]) -> float:
    """The standard deviation between images (n - 1); nan for a single one."""
    values = list(values)
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _spread_cell(pooled: float, values: NDArray[np.float64]) -> str:
    """The pooled score, and under it the mean of the images with its spread, and the lowest."""
    defined = [float(value) for value in values if not math.isnan(value)]
    if len(defined) < 2:
        return number(float(pooled))
    mean, sd = statistics.fmean(defined), _sd(defined)
    return f"{number(float(pooled))}<small>{mean:.2f} ± {sd:.2f}</small><small>lowest {min(defined):.2f}</small>"


def _share_cell(share: float, *, right: bool) -> str:
    """A share on a ground that is the stronger the larger it is: green where the class is right, else red."""
    if math.isnan(share):
        return number(math.nan)
    tone = "accent" if right else "error"
    strength = round(40 * share) if right else round(min(60, 120 * share))
    ground = f"background:color-mix(in srgb,var(--{tone}) {strength}%,transparent)"
    return f'<span class="share" style="{ground}">{percent(float(share))}</span>'


def _shares(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part / whole, nan where whole is 0."""
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=np.asarray(whole) > 0)
    return shares
