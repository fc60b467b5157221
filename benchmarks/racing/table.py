"""The race as tables: our minutes beside those of the peers, and what the peers trained in theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.experiments import Experiment, Run, Variant
from bench.records import Records
from bench.splits import Split, Stage
from bench.tables import Line, lines_of, notes, table
from racing.contest import Peer

__all__ = ["MINUTES", "TITLE", "render_race", "run_of", "what_was_trained"]

TITLE = "The race"
ABOUT = """`python benchmarks/run.py minutes` for ours, `python benchmarks/race.py PEER SPLIT` for the peers, with
`--test` or `--stage test` for the test parts: the same images to learn from and the same scores. The peers' minutes
hold the import of their packages, planning, preprocessing and training; ours hold all but the import. MONAI's and the
plain loop have no way to tell objects: they learn our border class and are read by our watershed with tuned thresholds;
the tuning is not counted."""
MINUTES = 15.0
SEEDS = (0, 1, 2)
"""Seed 0 is expected, the others are shown where they are there."""


def run_of(peer: Peer, split: Split, stage: Stage, minutes: float, seed: int) -> Run:
    """A peer's run; what it is called, and so its row and its folder, follows from it."""
    return Run(split, stage, Variant(peer.title, peer.name), seed, minutes)


def peers_runs(peers: Mapping[str, Peer], split: Split, stage: Stage, records: Records) -> list[Run]:
    """Of all peers on a split."""
    runs = [run_of(peer, split, stage, MINUTES, seed) for peer in peers.values() for seed in SEEDS]
    return [run for run in runs if run.seed == SEEDS[0] or records.row(run) is not None]


def number(value: Any) -> str:
    """Millions as '31.0 million', sides as '96 x 96', anything else as it is."""
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return f"{value / 1e6:.1f} million" if isinstance(value, int) and value >= 1e5 else str(value)


def what_was_trained(lines: Sequence[Line]) -> str:
    """A sentence for each row of a peer."""
    told = []
    for line in lines:
        for run, row in zip(line.runs, line.rows, strict=True):
            facts = ", ".join(f"{name} {number(value)}" for name, value in row.get("trained", {}).items())
            if facts:
                told.append(f"- {run.variant.name} on {line.data}, seed {run.seed} ({row['versions']}): {facts}")
    return "\n".join(told)


def scores_of(split: Split) -> tuple[str, ...]:
    """That stand in the race's table."""
    first = ("pixel error",) if split.membranes and "pixel error" not in split.scores else ()
    return (*first, *split.scores)


def render_race(ours: Experiment, splits: Mapping[str, Split], peers: Mapping[str, Peer], records: Records) -> str:
    """All tables, on tune and on test, as far as there are rows of peers."""
    texts: list[str] = []
    stages: tuple[Stage, ...] = ("tune", "test")
    for stage in stages:
        told = "Scored on tune: used for choosing" if stage == "tune" else "Scored on test, each look counted"
        for name in ours.splits:
            split = splits[name]
            rivals = peers_runs(peers, split, stage, records)
            if not lines_of(rivals, records):
                continue
            runs = [run for run in ours.runs(splits, stage) if run.split == split] + rivals
            lines = lines_of(runs, records)
            texts += [f"{told}.", table(lines, scores_of(split), stage, records), what_was_trained(lines)]
            texts.append(notes(lines, len(runs) - sum(len(line.rows) for line in lines)))
    return "\n\n".join([ABOUT, *texts]) if texts else ""
