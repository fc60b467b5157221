"""Who hears of a run while it goes on, and how it is asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Listener", "interruptible"]


class Listener:
    """Hears what happens during a run; the command line shows it. Does nothing by itself."""

    def words(self, text: str) -> None:
        """A sentence for a person."""

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """One report of the loop."""

    def close(self) -> None:
        """The run has ended, however."""


class Ask:
    """What a signal does: it sets an event, and the second one interrupts."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Be signalled."""
        if self.asked.is_set():
            raise KeyboardInterrupt
        self.asked.set()


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a step is finished before the run stops; a second Ctrl-C stops at once.

    So does what a cluster sends when the time of a job is over (SIGTERM). Within another one it is the same event.
    """
    ask = Ask()
    if isinstance(around := signal.getsignal(signal.SIGINT), Ask):
        yield around.asked
        return
    # Only the main thread may say what a signal does; elsewhere nobody presses Ctrl-C.
    if threading.current_thread() is not threading.main_thread():
        yield ask.asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ask.asked
    finally:
        for number, action in before.items():
            signal.signal(number, action or signal.SIG_DFL)
