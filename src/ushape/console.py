"""What commands share: where an answer goes, what becomes of an error, tables of scores.

Standard output carries results (with --json one object and nothing else, for a mistake its sentence as "error"); words
and progress go to standard error.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ushape.data.dataset import Dataset, Task
    from ushape.tally import Evaluation
    from ushape.training.listening import Listener

__all__ = ["Output", "answering", "listener", "open_data", "path_list", "score_table", "show_scores"]

FIRST_SCORES = ("AP@0.5", "AP@0.75", "SEG", "pixel error", "mean Dice", "accuracy", "confidence")
"""What the table of images shows, where it is there."""
MOST_LINES = 60
"""Images in that table, and results that are named one by one, at most; a file takes all of them."""


@dataclass
class Output:
    """Where a command's answer goes: words for a person, or one JSON object."""

    as_json: bool

    def say(self, text: str) -> None:
        """Words for a person, on standard error."""
        print(text, file=sys.stderr, flush=True)

    def result(self, values: dict[str, Any], text: str) -> None:
        """The answer, on standard output: `values` as JSON or `text`."""
        print(json.dumps(values, default=str) if self.as_json else text, flush=True)

    def error(self, text: str) -> None:
        """What is the answer instead where there is none: for programs only, a person reads the line."""
        if self.as_json:
            self.result({"error": text}, "")


def sentence_of(error: Exception) -> str | None:
    """What a person should read of an error; None for a mistake of the program, which needs its traceback."""
    from ushape.errors import UshapeError

    if isinstance(error, UshapeError):
        return str(error)
    if not isinstance(error, (OSError, MemoryError, RuntimeError)):
        return None
    from ushape import files

    return files.sentence_of(error)


@contextmanager
def answering(as_json: bool, debug: bool) -> Iterator[Output]:
    """Run a command: mistakes of the user become one line and status 1, Ctrl-C status 130."""
    out = Output(as_json)
    try:
        yield out
    except (typer.Exit, BrokenPipeError):
        raise
    except typer.BadParameter as error:
        out.error(error.message)
        raise
    except KeyboardInterrupt:
        out.error("interrupted")
        out.say("interrupted")
        raise typer.Exit(130) from None
    except Exception as error:
        sentence = sentence_of(error)
        out.error(sentence or f"{type(error).__name__}: {error}")
        if sentence is None or debug:
            raise
        out.say(f"error: {sentence}")
        raise typer.Exit(1) from None


def open_data(data: str, out: Output, task: Task | None = None, classes: Sequence[str] | None = None) -> Dataset:
    """The dataset behind DATA; what was understood is told. Its problems are told by what is done with it.

    classes  that the data are known to have, though some may not occur: a model's, or the training data's
    """
    from ushape.data.catalog import open_dataset

    dataset = open_dataset(data, task=task, classes=classes)
    for finding in dataset.findings:
        out.say(f"  {finding}")
    return dataset


def number(value: Any) -> str:
    """A score with four decimals, anything else as it is."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def score_table(scores: Mapping[str, Any], intervals: Mapping[str, tuple[float, float]] | None = None) -> str:
    """Scores as lines of name and value, and the interval where there is one."""
    width = max(map(len, scores), default=0)
    lines = []
    for name, value in scores.items():
        low, high = (intervals or {}).get(name, (None, None))
        lines.append(f"{name:<{width}}  {number(value)}" + ("" if low is None else f"  ({low:.4f} to {high:.4f})"))
    return "\n".join(lines)


def image_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The images with their first few scores, as many as a screen takes."""
    first = [name for name in FIRST_SCORES if any(name in row for row in rows)]
    lines = [f"{'image':<28}" + "".join(f"{name:>14}" for name in first)]
    lines += [
        f"{row['name']:<28}" + "".join(f"{number(row.get(name, '-')):>14}" for name in first)
        for row in rows[:MOST_LINES]
    ]
    if len(rows) > MOST_LINES:
        lines.append(f"and {len(rows) - MOST_LINES} more; --csv FILE writes all of them")
    return "\n".join(lines)


def kind_of(path: Path) -> str:
    """What results of many images have in common: *.tif, *_overlay.png; of a table its name."""
    if path.suffix == ".csv":
        return path.name
    stem = path.name.removesuffix(path.suffix)
    part = next((part for part in ("_overlay", "_probabilities") if stem.endswith(part)), "")
    return f"*{part}{'.nii.gz' if path.name.endswith('.nii.gz') else path.suffix}"


def path_list(paths: Sequence[Path], folder: Path) -> str:
    """The results in a folder, one a line; how many of each kind where a screen would not take them."""
    if len(paths) <= MOST_LINES:
        return "\n".join(map(str, paths))
    counts = Counter(map(kind_of, paths))
    kinds = ", ".join(kind if "*" not in kind else f"{n} {kind}" for kind, n in counts.items())
    return f"{len(paths)} results in {folder}: {kinds}; --json names all of them"


def show_scores(
    out: Output,
    found: Evaluation,
    csv: Path | None,
    warning: str = "",
    computing: Mapping[str, str | float] | None = None,
) -> None:
    """Print scores of all images and of each, and write each one's to a file; status 1 where some images failed.

    warning    what has to be known about the scores
    computing  what computed the predictions, where there were any to be computed
    """
    from ushape import files

    for problem in found.problems:
        out.say(f"error: {problem}")
    if found.warning:
        out.say(f"warning: {found.warning}")
    if csv is not None:
        files.write_rows(csv, found)
    note = "in brackets: the middle 95 % when the images are drawn anew (bootstrap)" if found.intervals else ""
    parts = [image_table(found.rows), score_table(found.scores, found.intervals), note]
    values = files.evaluation_to_dict(found) | ({"warning": warning} if warning else {}) | dict(computing or {})
    out.result(values, "\n\n".join(filter(None, parts)))
    if found.problems:
        raise typer.Exit(1)


def listener() -> Listener:
    """A progress bar on a terminal, a line now and then elsewhere; both on standard error."""
    from ushape.progress import BarListener, LineListener

    return BarListener() if sys.stderr.isatty() else LineListener()
