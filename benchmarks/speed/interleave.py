"""Competitors of one table are measured in one process, in turns: what disturbs the machine disturbs them alike.

Each is prepared and run once uncounted (caches, kernels chosen for the shapes, pages of memory); one that fails is a
row that says so. Then rounds follow, each with every competitor once, forwards and backwards by turns, so that
nobody always comes after the same neighbour and a slow drift falls on all. Rounds end when the time is up. What is told
are medians with their quartiles, and ratios of medians.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Competitor", "Limits", "Outcome", "Prepared", "interleave", "quartiles", "timed"]

Run = Callable[[], float]
"""Does the work once and says how many seconds it took."""


@dataclass(frozen=True)
class Limits:
    """How often: at least `least` and at most `most` rounds, in between as many as fit into `seconds`."""

    least: int
    most: int
    seconds: float

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"expected 1 <= least <= most, found least {self.least} and most {self.most}; correct it")


@dataclass(frozen=True)
class Prepared:
    """What is timed, and what is to be told of it.

    warm  no uncounted run is needed, as where each run is a process of its own
    """

    run: Run
    facts: dict[str, Any] = field(default_factory=dict)
    warm: bool = False


@dataclass(frozen=True)
class Competitor:
    """A name, and what prepares the work; it may fail, as where a package is not there."""

    name: str
    prepare: Callable[[], Prepared]


@dataclass
class Outcome:
    """What was measured of a competitor; `failed` says why nothing was."""

    name: str
    seconds: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    failed: str = ""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third; of a single value itself, twice."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def timed(work: Callable[[], object]) -> Run:
    """A run that takes the time itself."""

    def run() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return run


def reason(error: BaseException) -> str:
    """One line that says why a competitor is not there."""
    lines = str(error).splitlines() or [""]
    said = " ".join(lines[0].split())[:160]
    if isinstance(error, ImportError):
        return f"does not import here: {said}"
    return f"failed: {type(error).__name__}: {said}"


def prepared(competitor: Competitor, outcome: Outcome) -> Run | None:
    """The run, after one uncounted time; None where it failed, which the outcome then says."""
    try:
        ready = competitor.prepare()
        outcome.facts = ready.facts
        if not ready.warm:
            ready.run()
    except Exception as error:
        # A peer may fail in any way of its own; the others are measured all the same.
        outcome.failed = reason(error)
        return None
    return ready.run


def interleave(
    competitors: Sequence[Competitor],
    limits: Limits,
    *,
    clock: Callable[[], float] = time.perf_counter,
    told: Callable[[str], None] = lambda text: None,
) -> list[Outcome]:
    """The outcomes, in the competitors' order.

    clock  decides when rounds end; it does not take the competitors' times
    told   called with the name of each competitor before it runs
    """
    outcomes = [Outcome(competitor.name) for competitor in competitors]
    runs: list[tuple[Outcome, Run]] = []
    for competitor, outcome in zip(competitors, outcomes, strict=True):
        told(competitor.name)
        run = prepared(competitor, outcome)
        if run is not None:
            runs.append((outcome, run))
    begun = clock()
    for index in range(limits.most):
        if index >= limits.least and clock() - begun >= limits.seconds:
            break
        for outcome, run in list(runs) if index % 2 == 0 else list(reversed(runs)):
            told(outcome.name)
            gc.collect()
            try:
                outcome.seconds.append(run())
            except Exception as error:
                outcome.failed, outcome.seconds = reason(error), []
                runs.remove((outcome, run))
    return outcomes
