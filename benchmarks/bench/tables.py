"""Rows become Markdown tables, between two markers of a page; what people wrote around them stays.

Runs whose splits show the same scores share a table. A line of it is a variant on a split in a budget: means over the
seeds, and their range where there are several. Lines without a row yet are left out, and counted. Rows of earlier days
are shown as they are and marked: those that other code made, and those of another recipe or of other data than today's.

A block whose first marker says `kept` is history, of rows that are not there any more or stand for something else by
now: it is replaced only when its list is asked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.experiments import Experiment, Run
from bench.provenance import code_version
from bench.records import Records, Row
from bench.splits import Split, Stage, chosen_by, read_splits
from ushape.errors import DataError
from ushape.training.checkpoint import write_text

__all__ = [
    "Line",
    "commits",
    "digits",
    "insert_block",
    "insert_table",
    "is_kept",
    "lines_of",
    "looks_at",
    "markdown",
    "mean_lines",
    "notes",
    "render",
    "with_range",
]

OLDER = "°"
"""Marks rows that other code made than is here now."""
CHANGED = "‡"
"""Marks rows of another recipe or of other data than today's."""
BEST_THRESHOLDS = (
    "Scores of membranes (V_rand, V_info, Rand error, warping error and their like) are each at the best of ten "
    "thresholds, found on the very slices that are scored, as in the challenge: a little flattering, and not at the "
    "model's own threshold."
)
AS_PREDICTED = "Pixel error and IoU are those of the labels as predicted, at the model's own threshold."
"""Both stand under tables of splits with membranes."""
DIGITS = {"warping error": 5, "split and merger error": 5}
DIGITS |= dict.fromkeys(("pixel error", "least pixel error", "pixel F error"), 4)
"""Digits behind the point of scores that say more than three."""


@dataclass(frozen=True)
class Line:
    """A line of a table: its runs, one for each seed, and their rows.

    changed  whether one of them is of another recipe or of other data than today's
    """

    data: str
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    changed: bool = False

    @property
    def variant(self) -> str:
        """Its variant's name."""
        return self.runs[0].variant.name

    @property
    def budget(self) -> str:
        """Its budget in words."""
        return self.runs[0].budget

    def values(self, score: str) -> list[float]:
        """A score of all rows that have it."""
        stage = self.runs[0].stage
        return [row["scores"][stage][score] for row in self.rows if score in row["scores"][stage]]


def digits(score: str) -> str:
    """How a score is written; three digits behind the point are as much as most say."""
    return f"{{:.{DIGITS.get(score, 3)}f}}"


def with_range(values: Sequence[float], text: str = "{:.3f}") -> str:
    """The mean, and the range where there are several values that differ; - without any.

    text  how a number is written
    """
    if not values:
        return "-"
    low, high = text.format(min(values)), text.format(max(values))
    mean = text.format(sum(values) / len(values))
    return mean if low == high else f"{mean} ({low} to {high})"


def of_one_recipe(pairs: Sequence[tuple[Run, Row]]) -> list[tuple[Run, Row]]:
    """Those rows of the newest one's recipe and kind of device: a mean over two of either would say nothing."""

    def kind(row: Row) -> tuple[str | None, str]:
        """The recipe, and whether a CPU or a GPU has learnt in the minutes."""
        return row["inputs"].get("recipe"), row["machine"].replace(",", " ").split()[0]

    newest = max((row for _, row in pairs), key=lambda row: str(row["date"]))
    return [(run, row) for run, row in pairs if kind(row) == kind(newest)]


def lines_of(runs: Iterable[Run], records: Records) -> list[Line]:
    """The lines of some runs, in their order; runs without a row are left out, and seeds of an older recipe in a line.

    A line whose rows are all of an earlier recipe is there, and marked where `records` tell what today's is.
    """
    grouped: dict[tuple[str, str, str], list[tuple[Run, Row]]] = {}
    for run in runs:
        row = records.row(run)
        if row is not None:
            grouped.setdefault((run.split.name, run.variant.name, run.budget), []).append((run, row))
    lines = []
    for (name, _, _), found in grouped.items():
        pairs = of_one_recipe(found)
        changed = any(records.is_of_other_inputs(run, row) for run, row in pairs)
        lines.append(Line(name, tuple(run for run, _ in pairs), tuple(row for _, row in pairs), changed))
    return lines


def mean_lines(experiment: Experiment, lines: Sequence[Line]) -> list[Line]:
    """A line for each of the experiment's means whose splits are all there, with the runs and rows of them all."""
    made = []
    for name, splits in (experiment.means or {}).items():
        for variant, budget in dict.fromkeys((line.variant, line.budget) for line in lines):
            parts = [line for line in lines if (line.variant, line.budget) == (variant, budget) and line.data in splits]
            if len(parts) == len(splits):
                # Only seeds that all splits have, or one split would count more.
                seeds = set.intersection(*({row["seed"] for row in line.rows} for line in parts))
                pairs = [
                    (run, row)
                    for line in parts
                    for run, row in zip(line.runs, line.rows, strict=True)
                    if row["seed"] in seeds
                ]
                if pairs:
                    changed = any(line.changed for line in parts)
                    made.append(Line(name, tuple(run for run, _ in pairs), tuple(row for _, row in pairs), changed))
    return made


def looks_at(line: Line, records: Records) -> str:
    """How often each test part of a line, or some of it, was looked at."""
    parts = dict.fromkeys(str(run.split.test) for run in line.runs)
    return " + ".join(str(records.n_looks(part)) for part in parts)


def commits(line: Line) -> str:
    """The commits of a line's rows; marked where code, recipe or data are others now, or were not committed."""
    names = [row["commit"] + ("+" if row["dirty"] else "") for row in line.rows]
    older = any(row["code"] != code_version() for row in line.rows)
    return " ".join(dict.fromkeys(names)) + (OLDER if older else "") + (CHANGED if line.changed else "")


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of texts."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def table(lines: Sequence[Line], scores: Sequence[str], stage: Stage, records: Records) -> str:
    """One Markdown table; columns in which all lines say the same are kept, so that each line stands alone."""
    heads = ["data", "recipe", "budget", *scores, "steps", "seconds", "seeds"]
    rows = []
    for line in lines:
        seeds = dict.fromkeys(str(row["seed"]) for row in line.rows)
        cells = [line.data, line.variant, line.budget, *(with_range(line.values(s), digits(s)) for s in scores)]
        cells += [with_range([row[key] for row in line.rows], "{:.0f}") for key in ("steps", "seconds")]
        cells += [", ".join(seeds)]
        rows.append([*cells, *([looks_at(line, records)] if stage == "test" else []), commits(line)])
    heads += [*(["looks"] if stage == "test" else []), "commit"]
    return markdown(heads, rows)


def also_chosen_by(lines: Sequence[Line], splits: Mapping[str, Split]) -> list[str]:
    """A sentence about what of the test parts is the tune part of other splits; none where nothing is."""
    tests = dict.fromkeys(run.split.test for line in lines for run in line.runs if run.stage == "test")
    shared = [f"{name} by {part}" for test in tests for name, part in chosen_by(test, splits.values()).items()]
    told = f"Other splits choose by some of what is scored here: {'; '.join(dict.fromkeys(shared))}."
    return [told] if shared else []


def notes(lines: Sequence[Line], n_missing: int, splits: Mapping[str, Split] | None = None) -> str:
    """What stands under a table: what was scored, on which machine, what is missing, what the marks mean.

    splits  all there are, for what test parts share with tune parts; default: those of splits.toml
    """
    rows = [row for line in lines for row in line.rows]
    parts = dict.fromkeys(f"{row['split']}: {row['trained on']} to {row['scored on']}" for row in rows)
    told = [f"Trained on and scored on: {'; '.join(parts)}."]
    told += also_chosen_by(lines, read_splits() if splits is None else splits)
    of_membranes = [run.split.scores for line in lines for run in line.runs if run.split.membranes]
    told += [BEST_THRESHOLDS] if of_membranes else []
    told += [AS_PREDICTED] if any("pixel error" in scores for scores in of_membranes) else []
    told += [f"Machine: {'; '.join(dict.fromkeys(row['machine'] for row in rows))}."]
    told += [f"{n_missing} of {n_missing + len(rows)} runs are still missing."] if n_missing else []
    marks = "".join(map(commits, lines))
    told += [f"{OLDER}: other code than this made the row."] if OLDER in marks else []
    told += [f"{CHANGED}: of another recipe or of other data than today's."] if CHANGED in marks else []
    told += ["+: with changes that were not committed."] if any(row["dirty"] for row in rows) else []
    return "\n".join(told)


def render(experiment: Experiment, splits: dict[str, Split], records: Records) -> str:
    """All tables of a list, on tune and on test, as far as there are rows."""
    texts: list[str] = []
    stages: tuple[Stage, ...] = ("tune", "test") if experiment.test else ("tune",)
    for stage in stages:
        runs = experiment.runs(splits, stage)
        found = lines_of(runs, records)
        for scores in dict.fromkeys(line.runs[0].split.scores for line in found):
            lines = [line for line in found if line.runs[0].split.scores == scores]
            lines += mean_lines(experiment, lines)
            told = "Scored on tune: used for choosing" if stage == "tune" else "Scored on test, each look counted"
            texts += [f"{told}.", table(lines, scores, stage, records)]
        if found:
            texts.append(notes(found, len(runs) - sum(len(line.rows) for line in found), splits))
    return "\n\n".join([experiment.about, *texts]) if texts else ""


def first_marker(page: Path, name: str) -> str:
    """The first marker of a block as a page has it: the name, perhaps with `, kept` behind it; '' without a block."""
    old = page.read_text("utf-8") if page.exists() else ""
    found = re.search(f"<!-- {re.escape(name)}(, kept)? -->", old)
    return found[0] if found else ""


def is_kept(page: Path, experiment: Experiment) -> bool:
    """Whether a list's block in a page is history, and to be left as it is."""
    return first_marker(page, f"benchmark {experiment.name}").endswith(", kept -->")


def insert_block(page: Path, name: str, title: str, text: str) -> None:
    """Put a text into a page: between the markers of this name, or with a heading at the end where there are none."""
    end = f"<!-- end of {name} -->"
    old = page.read_text("utf-8") if page.exists() else ""
    block = f"<!-- {name} -->\n{text}\n{end}"
    begin = first_marker(page, name)
    if begin:
        before, _, rest = old.partition(begin)
        _, closed, after = rest.partition(end)
        if not closed:
            raise DataError(f"{page}: expected {end} behind {begin}, found none; add it")
        write_text(page, before + block + after)
    else:
        write_text(page, old.rstrip("\n") + f"\n\n## {title}\n\n{block}\n")


def insert_table(page: Path, experiment: Experiment, text: str) -> None:
    """Put a list's tables into a page."""
    insert_block(page, f"benchmark {experiment.name}", experiment.title, text)
