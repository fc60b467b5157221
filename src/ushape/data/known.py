"""Mask values by the classes that data are known to have: those of a model, or of the training data.

What a mask means is recognised over a whole dataset. A few masks to score may lack some of the classes, and 0 and 2
alone would be background and foreground. The names of the classes tell more: "class 2" was the value 2, "red" was
painted in red, and names that somebody wrote down are taken to be in the order of the values 0, 1, 2, ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ushape.data.colours import is_packed, name_of_colour, unpack_colour
from ushape.data.evidence import IGNORE_VALUE

__all__ = ["MIN_KNOWN", "known_mapping", "values_by_names"]

MIN_KNOWN = 3  # two classes need no names: they are background and the other one
BY_VALUE = re.compile(r"class (\d+)")


def _by_names(values: Sequence[int], named: dict[int, int]) -> dict[int, int] | None:
    """Values with names, and at most one without, which is the background: lower than the others, or another colour."""
    others = [v for v in values if v not in named]
    if not others:
        return named if is_packed(min(named)) or min(named) == 0 else {0: 0} | named
    lower = is_packed(others[0]) or others[0] < min(named)
    return {others[0]: 0} | named if len(others) == 1 and lower else None


def values_by_names(classes: Sequence[str]) -> tuple[int, ...]:
    """The mask value of each class by its name, the background's being 0; empty where the names do not tell.

    classes  at least three, background first: models of the first release keep no values, but "class 128" was 128
    """
    found = [BY_VALUE.fullmatch(name) for name in classes[1:]]
    values = (0, *(int(match[1]) for match in found if match is not None))
    return values if len(values) == len(classes) >= MIN_KNOWN and 0 not in values[1:] else ()


def known_mapping(values: Sequence[int], known: Sequence[str]) -> dict[int, int] | None:
    """The class of each mask value: -1 is ignored, 0 the background; None where the values do not fit the classes.

    values  of all masks, in order: numbers or packed colours
    known   the names of the classes, at least three, background first
    """
    if len(known) < MIN_KNOWN:
        return None
    if any(is_packed(v) for v in values):
        named = {v: known.index(name) for v in values if (name := name_of_colour(unpack_colour(v))) in known}
        return _by_names(values, named) if named else None
    kept = list(values)
    found = [BY_VALUE.fullmatch(name) for name in known[1:]]
    by_value = {int(match[1]): i for i, match in enumerate(found, start=1) if match is not None}
    if len(by_value) < len(known) - 1:
        by_value = {}
    ignored = len(kept) > 2 and kept[-1] == IGNORE_VALUE and IGNORE_VALUE not in by_value
    if ignored:
        kept.pop()
    mapping = _by_names(kept, by_value) if by_value else {i: i for i in range(len(known))}
    if mapping is None or not set(kept) <= set(mapping):
        return None
    return mapping | ({IGNORE_VALUE: -1} if ignored else {})
