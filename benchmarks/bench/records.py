"""What is kept of runs: a row for each, and every look at a test part.

A row is a JSON file in `benchmarks/rows`, written whole or not at all, called as its run. It is current as long as its
inputs are; of other inputs it is nothing. `benchmarks/looks.jsonl` has one line for each scoring on a test part, and
lines are only ever added: how often a part was looked at stands beside every result on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.experiments import Run
from bench.provenance import commit
from ushape.training.checkpoint import write_text

__all__ = ["Records"]

Row = dict[str, Any]
BENCHMARKS = Path(__file__).parent.parent


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Records:
    """Where rows and looks are kept."""

    rows: Path = BENCHMARKS / "rows"
    looks: Path = BENCHMARKS / "looks.jsonl"

    def row(self, run: Run) -> Row | None:
        """The row of a run, whatever its inputs were; None where there is none."""
        path = self.rows / f"{run.slug}.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def current(self, run: Run, inputs: Mapping[str, str]) -> Row | None:
        """The row of a run with these inputs."""
        row = self.row(run)
        return row if row is not None and row["inputs"] == inputs else None

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
        """How often a test part was looked at."""
        if not self.looks.exists():
            return 0
        looks = map(json.loads, self.looks.read_text("utf-8").splitlines())
        return sum(look["part"] == part for look in looks)
