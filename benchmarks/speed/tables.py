"""Measurements become JSON files, and these the tables of docs/performance.md.

A result is what one script measured in one sitting: the machine, its ceilings and some tables, each a list of
competitors in which the first is ours. A result file is written whole or not at all. Rates and ratios are not kept:
they are worked out from the seconds whenever a table is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.tables import insert_block, markdown
from speed.interleave import Outcome, quartiles
from speed.machine import sentence
from ushape.training.checkpoint import write_text

__all__ = ["COLUMNS", "Result", "Table", "draw", "insert_results", "read_results", "render", "write_result"]

NOTHING = "-"
LEAST_FOR_QUARTILES = 5
"""Runs: of two the quartiles are half of their range."""
FORMS = ("full", "quick", "tiny")
"""The ways to measure, the most thorough first; `tiny` only tries the scripts and is never shown in a page."""


@dataclass(frozen=True)
class Table:
    """What is compared, and what is told of it.

    columns   names in COLUMNS, or facts of the outcomes, shown as they are
    outcomes  ours first: others are compared with the first one
    note      a sentence under the table
    """

    caption: str
    columns: Sequence[str]
    outcomes: Sequence[Outcome]
    note: str = ""


@dataclass(frozen=True)
class Result:
    """One script's measurements.

    name      of the file, and of the place in the page
    form      `full`, `quick` or `tiny`
    about     a paragraph above the tables
    machine   from `speed.machine.describe`
    ceilings  thousand million operations (bytes) per second, by name
    seconds   that everything took
    """

    name: str
    title: str
    about: str
    form: str
    machine: dict[str, Any]
    ceilings: dict[str, float]
    tables: list[Table]
    seconds: float = 0.0
    commit: str = ""
    dirty: bool = False
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def write_result(folder: Path, result: Result) -> Path:
    """Keep a result; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    write_text(path, json.dumps(asdict(result), indent=1) + "\n")
    return path


def read_result(path: Path) -> Result:
    """The inverse of `write_result`."""
    values = json.loads(path.read_text("utf-8"))
    tables = [Table(**each | {"outcomes": [Outcome(**one) for one in each["outcomes"]]}) for each in values["tables"]]
    return Result(**values | {"tables": tables})


def read_results(folder: Path) -> tuple[list[Result], list[Path]]:
    """(all results in a folder, by name; JSON files that are none)."""
    found, strange = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_result(path))
        except (ValueError, KeyError, TypeError):
            strange.append(path)
    return found, strange


# The columns of tables.


@dataclass(frozen=True)
class Row:
    """An outcome, the one that it is compared with, and the machine's ceilings."""

    outcome: Outcome
    ours: Outcome
    ceilings: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Thousand million operations per second."""
        return float(self.outcome.facts["GFLOP"]) / self.outcome.median

    @property
    def share(self) -> float:
        """Of the matrix product's rate in the number format that the outcome computed in."""
        return self.rate / self.ceilings[self.outcome.facts["dtype"]]


def with_spread(outcome: Outcome, scale: float, digits: int) -> str:
    """The median and the quartiles; of few runs, whose quartiles lie inside of them all, the least and the most."""
    taken = outcome.seconds
    low, high = quartiles(taken) if len(taken) >= LEAST_FOR_QUARTILES else (min(taken), max(taken))
    return f"{scale * outcome.median:.{digits}f} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def digits_for(value: float) -> int:
    """Digits behind the point that leave three in all, or all in front of it."""
    return 0 if value >= 100 else 1 if value >= 10 else 2


def rounded(value: float) -> str:
    """Three digits, or all in front of the point."""
    return f"{value:.{digits_for(value)}f}"


def milliseconds(row: Row) -> str:
    """Median and quartiles."""
    return with_spread(row.outcome, 1e3, digits_for(1e3 * row.outcome.median))


def seconds(row: Row) -> str:
    """Median and quartiles."""
    return with_spread(row.outcome, 1, digits_for(row.outcome.median))


def times_ours(row: Row) -> str:
    """The ratio of medians: 2 takes twice as long as ours."""
    return f"{row.outcome.median / row.ours.median:.2f}"


def images_per_second(row: Row) -> str:
    """Of those images that one run makes."""
    return rounded(row.outcome.facts["images"] / row.outcome.median)


def megapixels_per_second(row: Row) -> str:
    """Of those pixels that one run answers."""
    return rounded(row.outcome.facts["pixels"] / row.outcome.median / 1e6)


def peak_megabytes(row: Row) -> str:
    """The most memory over all runs."""
    return f"{max(row.outcome.facts['peak']) / 1e6:.0f}"


def memory_of_ours(row: Row) -> str:
    """The ratio of peaks."""
    return f"{max(row.outcome.facts['peak']) / max(row.ours.facts['peak']):.2f}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "ms": milliseconds,
    "s": seconds,
    "x ours": times_ours,
    "images/s": images_per_second,
    "Mpx/s": megapixels_per_second,
    "GFLOP": lambda row: rounded(row.outcome.facts["GFLOP"]),
    "GFLOP/s": lambda row: rounded(row.rate),
    "of the ceiling": lambda row: f"{row.share:.0%}",
    "parameters": lambda row: f"{row.outcome.facts['parameters'] / 1e6:.1f} M",
    "peak MB": peak_megabytes,
    "memory x ours": memory_of_ours,
    "largest difference": lambda row: f"{row.outcome.facts['difference']:.1e}",
    "labels changed": lambda row: f"{row.outcome.facts['changed']:.4%}",
    "runs": lambda row: str(len(row.outcome.seconds)),
}


def cell(name: str, row: Row) -> str:
    """One cell; a dash where the outcome lacks what the column needs."""
    try:
        return COLUMNS[name](row) if name in COLUMNS else str(row.outcome.facts[name])
    except (KeyError, ZeroDivisionError):
        return NOTHING


def draw(table: Table, ceilings: Mapping[str, float]) -> str:
    """A table in Markdown; whoever was not measured has a row that says why."""
    rows = []
    ours = table.outcomes[0]
    for outcome in table.outcomes:
        if outcome.failed:
            rows.append([outcome.name, outcome.failed.replace("|", "/"), *[""] * (len(table.columns) - 1)])
            continue
        row = Row(outcome, ours, ceilings)
        compared = [not (ours.failed and name in ("x ours", "memory x ours")) for name in table.columns]
        cells = [cell(name, row) if ok else NOTHING for name, ok in zip(table.columns, compared, strict=True)]
        rows.append([outcome.name, *cells])
    drawn = markdown(["", *table.columns], rows)
    return "\n\n".join([f"**{table.caption}**", drawn, *([table.note] if table.note else [])])


def render(result: Result) -> str:
    """Everything that stands between a result's markers."""
    source = f"Form `{result.form}`, {result.seconds / 60:.0f} minutes"
    source += f", commit {result.commit}{'+' if result.dirty else ''}" if result.commit else ""
    source += f", {result.date[:10]}" if result.date else ""
    told = ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items()))
    source += f". Beside it: {told}." if told else "."
    drawn = [draw(table, result.ceilings) for table in result.tables if table.outcomes]
    return "\n\n".join([result.about, f"Machine: {sentence(result.machine, result.ceilings)}", *drawn, source])


def insert_results(page: Path, results: Sequence[Result]) -> list[str]:
    """Put results into a page, each between its markers; returns the names of those that were shown."""
    shown = [result for result in results if result.form != "tiny"]
    for result in shown:
        insert_block(page, f"speed {result.name}", result.title, render(result))
    return [result.name for result in shown]
