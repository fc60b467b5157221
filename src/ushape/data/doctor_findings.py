"""How the data doctor says what it found.

Findings are made for people: a place, a sentence and what is done about it. Those that many files have in common are
one finding, which names a few of the files and counts the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ushape.data.dataset import Dataset
from ushape.data.doctor_facts import Annotation, Facts

__all__ = ["Finding", "Severity", "Study", "about", "told"]

Severity = Literal["error", "warning", "note"]

NAMES_TOLD = 3  # in one finding; a person wants to know which files, not all of them
LONGEST_NAME = 32  # characters; identifiers made by machines are known by their beginning


@dataclass(frozen=True)
class Finding:
    """One thing to know about the data.

    severity  "error": cannot be used; "warning": can be used, but is probably not what was meant; "note": good to know
    where     the file, a few names, or the dataset
    sentence  what was found
    action    what training does about it, or what to do; may be empty
    """

    severity: Severity
    where: str
    sentence: str
    action: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}" + (f"; {self.action}" if self.action else "")


@dataclass(frozen=True)
class Study:
    """A dataset and the facts of its samples, sorted for the checks.

    facts    of the samples that training takes
    refused  of those that it leaves out, or that cannot be read
    """

    dataset: Dataset
    facts: tuple[Facts, ...]
    refused: tuple[Facts, ...]

    @property
    def masked(self) -> list[tuple[Facts, Annotation]]:
        """The usable facts with a mask, each with what is known of it."""
        return [(facts, facts.annotation) for facts in self.facts if facts.annotation is not None]


def told(names: Sequence[str], most: int = NAMES_TOLD) -> str:
    """A few names and how many more: 'a, b, c and 4 more'."""
    shown = ", ".join(n if len(n) <= LONGEST_NAME else f"{n[:LONGEST_NAME]}..." for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def about(
    severity: Severity,
    facts: Sequence[Facts],
    sentence: str,
    action: str,
    detail: Callable[[Facts], str] | None = None,
) -> list[Finding]:
    """One finding for all of these samples, or none without any.

    detail  what to add in brackets of the one sample, or of the first of several
    """
    if not facts:
        return []
    first = facts[0]
    where = first.where if len(facts) == 1 else told([each.name for each in facts])
    if detail is not None:
        sentence += f" ({detail(first) if len(facts) == 1 else f'{first.name}: {detail(first)}'})"
    return [Finding(severity, where, sentence, action)]
