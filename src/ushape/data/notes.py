"""What is noted while a folder is read: sentences about what was understood and about what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Notes", "counted", "first_of", "reason_of", "told"]

MAX_NAMES_TOLD = 5
MAX_REASON = 120  # characters


@dataclass
class Notes:
    """Sentences gathered while a folder is read: `findings` were understood, `problems` were left out."""

    findings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def told(names: Sequence[str]) -> str:
    """A few names in words: 'a, b, c and 4 more'."""
    shown = ", ".join(names[:MAX_NAMES_TOLD])
    return shown if len(names) <= MAX_NAMES_TOLD else f"{shown} and {len(names) - MAX_NAMES_TOLD} more"


def first_of(problems: Sequence[str]) -> str:
    """The first of several sentences and how many more there are; '' without any."""
    if not problems:
        return ""
    return problems[0] if len(problems) == 1 else f"{problems[0]}, and {len(problems) - 1} more"


def counted(n: int, thing: str) -> str:
    """A number and its noun: '1 image', '3 images'."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def reason_of(error: Exception) -> str:
    """What a decoder says is wrong, in one short line; the kind of error where it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__)[:MAX_REASON]
