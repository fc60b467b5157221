"""The most memory that a piece of work needed, on top of what the process held before.

Linux keeps the largest amount of memory a process has held since it began, and can be asked to begin anew
(`/proc/self/clear_refs`); so the peak of one piece of work can be had inside a process. Elsewhere, and where that is
not allowed, it is the growth of `ru_maxrss`, which says too little if the process held more at an earlier moment. Each
measurement should have a process of its own, since memory that was freed may be held and used again.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["peak_over", "status_bytes"]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
Result = TypeVar("Result")


def status_bytes(status: str, name: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS, what is held now; VmHWM, the most that was."""
    for line in status.splitlines():
        head, _, rest = line.partition(":")
        if head == name:
            return int(rest.split()[0]) * 1024
    raise KeyError(f"expected a line {name} in the status of a process, found none; measure on Linux")


def largest_so_far() -> int:
    """ru_maxrss in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_over(work: Callable[[], Result]) -> tuple[Result, int]:
    """(what the work gives, bytes that it needed at most on top of those held before it)."""
    gc.collect()
    try:
        CLEAR.write_text(RESET_PEAK)
        before = status_bytes(STATUS.read_text(), "VmRSS")
    except OSError:
        before = largest_so_far()
        return work(), largest_so_far() - before
    result = work()
    return result, status_bytes(STATUS.read_text(), "VmHWM") - before
