"""What is kept of runs: a row for each, and every look at a test part.

A row is a JSON file in `benchmarks/rows`, written whole or not at all, called as its run. It is current as long as its
inputs are; one of other inputs is made again, and marked in tables until it is. `benchmarks/looks.jsonl` has one line
for each scoring on a test part, and lines are only ever added: how often a part, or some of it, was looked at stands
beside every result on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.experiments import Run
from bench.provenance import commit
from bench.splits import common, part_called
from ushape.training.checkpoint import write_text

__all__ = ["Records", "Row", "differing", "now"]

Row = dict[str, Any]
BENCHMARKS = Path(__file__).parent.parent


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def differing(row: Row, inputs: Mapping[str, str]) -> list[str]:
    """Names of the inputs that are others than those of a row."""
    return [name for name, value in inputs.items() if row["inputs"].get(name) != value]


@dataclass(frozen=True)
class Records:
    """Where rows and looks are kept.

    inputs_today  what the inputs of a run are now; None where nobody asks, because finding out opens the data
    """

    rows: Path = BENCHMARKS / "rows"
    looks: Path = BENCHMARKS / "looks.jsonl"
    inputs_today: Callable[[Run], Mapping[str, str]] | None = None

    def row(self, run: Run) -> Row | None:
        """The row of a run, whatever its inputs were; None where there is none."""
        path = self.rows / f"{run.slug}.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def current(self, run: Run, inputs: Mapping[str, str]) -> Row | None:
        """The row of a run with these inputs."""
        row = self.row(run)
        return row if row is not None and row["inputs"] == inputs else None

    def is_of_other_inputs(self, run: Run, row: Row) -> bool:
        """Whether a run's row is of another recipe or of other data than today's; False where nobody asks."""
        return self.inputs_today is not None and bool(differing(row, self.inputs_today(run)))

    def write(self, run: Run, row: Row) -> None:
        """Keep a row."""
        self.rows.mkdir(parents=True, exist_ok=True)
        write_text(self.rows / f"{run.slug}.json", json.dumps(row, indent=1) + "\n")

    def log_look(self, run: Run, experiment: str, scores: Mapping[str, float]) -> None:
        """Note that a test part was looked at."""
        name, dirty = commit()
        look = {
            "date": now(),
            "commit": name,
            "dirty": dirty,
            "part": str(run.split.test),
            "split": run.split.name,
            "experiment": experiment,
            "variant": run.variant.name,
            "budget": run.budget,
            "seed": run.seed,
            "scores": {key: scores[key] for key in run.split.scores if key in scores},
        }
        with self.looks.open("a", encoding="utf-8") as file:
            file.write(json.dumps(look) + "\n")

    def n_looks(self, part: str) -> int:
        """How often a test part, or some of it, was looked at: also as a part of another split, of another name."""
        if not self.looks.exists():
            return 0
        looks = map(json.loads, self.looks.read_text("utf-8").splitlines())
        wanted = part_called(part)
        return sum(common(part_called(look["part"]), wanted) is not None for look in looks)
