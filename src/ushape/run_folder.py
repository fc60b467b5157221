"""A run's folder: which one it is, that no other run writes to it, what was asked for, and the log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ushape.errors import RecipeError
from ushape.training.clock import is_tenth
from ushape.training.listening import Listener

__all__ = [
    "SHORTEST_MINUTES",
    "Asked",
    "Logged",
    "alone_in",
    "check_minutes",
    "new_run_folder",
    "read_asked",
    "refuse_earlier_run",
]

SHORTEST_MINUTES = 0.25


@dataclass(frozen=True)
class Asked:
    """What a run was asked for; kept in `run.json`, so that it can be resumed and repeated."""

    data: str
    validation: str | None
    seed: int
    minutes: float | None
    steps: int | None
    command: str = ""

    def resumed_from(self, folder: Path) -> Asked:
        """What the interrupted run in the folder was asked for; a new number of minutes or steps overrules it."""
        before = read_asked(folder)
        if before is None:
            raise RecipeError(f"expected an interrupted run in {folder} to resume, found none; train without --resume")
        if (before.data, before.validation) != (self.data, self.validation):
            raise RecipeError(
                f"expected the data that the run in {folder} was trained and validated on, found other data; name the "
                "same data, or train a new run"
            )
        if self.seed not in (0, before.seed):
            raise RecipeError(f"expected the run's seed {before.seed}, found {self.seed}; resume without --seed")
        if self.minutes is None and self.steps is None:
            return before
        return replace(before, minutes=self.minutes, steps=self.steps)


def read_asked(folder: Path) -> Asked | None:
    """What the run in a folder was asked for; None where none is, RecipeError where the file is damaged."""
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return Asked(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RecipeError(
            f"{path}: expected what the run was asked for, found a damaged file ({error}); train anew into another "
            "folder"
        ) from error


def check_minutes(minutes: float | None) -> None:
    """RecipeError for a time in which nothing can be trained."""
    if minutes is not None and not minutes >= SHORTEST_MINUTES:
        raise RecipeError(f"expected at least {SHORTEST_MINUTES} minutes, found {minutes}; raise --minutes")
    if minutes is not None and not math.isfinite(minutes):
        raise RecipeError(
            f"expected a number of minutes, found {minutes}; say how many, or how many steps with --steps"
        )


class Logged(Listener):
    """Passes on what it hears, and writes it to the run's `log.txt`, line by line as it comes."""

    def __init__(self, listener: Listener, path: Path) -> None:
        self.listener, self.path = listener, path

    def write(self, text: str) -> None:
        """Add a line with the time of day; what cannot be written is no reason to stop training."""
        with suppress(OSError), self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text.strip()}\n")

    def words(self, text: str) -> None:
        """Write and pass on."""
        self.write(text)
        self.listener.words(text)

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """Write where there is a validation score and after every tenth of the steps, and pass on."""
        if validation is not None:
            self.write(f"step {step} of {stop}: loss {loss:.4f}, validation {validation:.4f}")
        elif is_tenth(step, stop):
            self.write(f"step {step} of {stop}: loss {loss:.4f}")
        self.listener.progress(step, stop, loss, validation, seconds_left)

    def close(self) -> None:
        """Pass on."""
        self.listener.close()


def new_run_folder(name: str) -> Path:
    """A new folder `runs/NAME`, or with the next free number behind it; made at once, so that no other run takes it."""
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def refuse_earlier_run(folder: Path) -> None:
    """RecipeError when the folder holds another run, which this one was not asked to resume."""
    if any((folder / name).exists() for name in ("model.safetensors", "checkpoint", "members")):
        raise RecipeError(
            f"expected a new folder for the run, found an earlier run in {folder}; continue it with --resume, or "
            "name another folder with -o"
        )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder; RecipeError while another process trains in it. One that died has no lock any more."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RecipeError(
            f"expected a folder that no other run is writing to, found one at work in {folder}; wait until it has "
            "ended, or name another folder with -o"
        ) from None
    except (NotImplementedError, OSError):
        pass  # some network drives have no locks
    try:
        yield
    finally:
        lock.release()
        # Windows lets no file be removed that another run is just trying to lock.
        with suppress(OSError):
            (folder / ".lock").unlink()
