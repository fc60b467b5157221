"""What a person sees of a run on standard error: a progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ushape.training.listening import Listener

__all__ = ["BarListener", "LineListener"]

LINE_SECONDS = 10.0


def readable_seconds(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def time_left(seconds: float) -> str:
    """Words for the end of a line; none before a step has been timed."""
    return "" if math.isnan(seconds) else f"  {readable_seconds(seconds)} left"


class LineListener(Listener):
    """Plain lines, at most one every ten seconds, for logs and pipes."""

    def __init__(self) -> None:
        self.last, self.validation = 0.0, ""

    def words(self, text: str) -> None:
        """A sentence on a line."""
        print(text, file=sys.stderr, flush=True)

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """A line of numbers."""
        if validation is not None:
            self.validation = f"  validation {validation:.3f}"
        if time.perf_counter() - self.last < LINE_SECONDS and step < stop:
            return
        self.last = time.perf_counter()
        self.words(f"step {step:>5} of {stop}  loss {loss:.4f}{self.validation}{time_left(seconds_left)}")

    def close(self) -> None:
        """The score of a network that is trained next is another one."""
        self.validation = ""


class BarListener(Listener):
    """A live bar with loss, validation score and time left."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task("", total=1, numbers="")
        self.validation = ""

    def words(self, text: str) -> None:
        """A sentence above the bar."""
        self.bar.console.print(text, highlight=False, markup=False)

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """Move the bar."""
        if not self.bar.live.is_started:
            self.bar.start()
        if validation is not None:
            self.validation = f"  validation {validation:.3f}"
        numbers = f"loss {loss:.4f}{self.validation}{time_left(seconds_left)}"
        self.bar.update(self.task, completed=step, total=stop, numbers=numbers)

    def close(self) -> None:
        """Leave the bar as it is; the score of a network that is trained next is another one."""
        self.bar.stop()
        self.validation = ""
