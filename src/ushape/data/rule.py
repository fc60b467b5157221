"""How the mask files of one dataset are read, once it is known what their values mean.

A mask is (*space) int32, 0 background, -1 ignore; the values of a file become classes or objects by a `MaskRule`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ushape.data.colours import is_packed, read_palette
from ushape.data.dataset import Colour, Dataset, Task
from ushape.data.description import DESCRIPTION_FILE
from ushape.data.ghosts import count_values
from ushape.data.values import MaskFacts, find_pieces, listed, read_values, replace_values, values_to_colours
from ushape.errors import DataError

__all__ = ["MaskRule", "Reading", "find_rule", "read_mask_by_rule"]

Mask = NDArray[np.int32]
Reading = Literal["values", "ids", "pieces", "foreground"]
Mapping = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MaskRule:
    """How the masks of one dataset are read.

    reading    "values": each file value becomes a class by `mapping`; "ids": values are objects already;
               "pieces": each connected piece of one value above background is an object, after `mapping` if there is
               one; "foreground": everything above background becomes class 1
    mapping    (file value, class) pairs; class -1 is ignore
    finding    one sentence for the user
    notes      further sentences, if any
    colours    of the classes, where the masks tell any
    background the value of background where there is no mapping
    ignore     values that become -1 where there is no mapping
    by_colour  whether the values are packed colours, also of palette and grey pictures
    """

    task: Task
    classes: tuple[str, ...]
    reading: Reading
    mapping: Mapping
    finding: str
    notes: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    background: int = 0
    ignore: tuple[int, ...] = ()
    by_colour: bool = False

    @property
    def findings(self) -> tuple[str, ...]:
        """All sentences for the user, the main one first."""
        return (self.finding, *self.notes)

    @property
    def is_binary(self) -> bool:
        """Whether masks hold two values, so that blurred ones can be taken to them."""
        return len({c for _, c in self.mapping if c >= 0}) == 2

    @property
    def values(self) -> tuple[int, ...]:
        """The value that stands for each of three and more classes in the files; empty where that is not one number.

        Two values number nothing: 1 and 255 are the same foreground.
        """
        if self.task != "semantic" or self.reading != "values" or self.by_colour or len(self.classes) < 3:
            return ()
        values = {c: v for v, c in self.mapping if c >= 0}
        one_each = len(values) == len(self.classes) == sum(c >= 0 for _, c in self.mapping)
        if not one_each or any(is_packed(v) for v in values.values()):
            return ()
        return tuple(values[c] for c in range(len(self.classes)))

    def is_empty(self, facts: MaskFacts) -> bool:
        """Whether the mask with these facts is all background, or ignored."""
        values = (facts.to_colours() if self.by_colour else facts).values
        if self.mapping:
            return all(dict(self.mapping).get(v, 1) <= 0 for v in values)
        return set(values) <= {self.background, *self.ignore}


def _map_values(mask: Mask, mapping: Mapping, path: Path) -> Mask:
    values = count_values(mask)[0]
    classes = dict(mapping) | {-1: -1}
    unknown = [v for v in values.tolist() if v not in classes]
    if unknown:
        raise DataError(
            f"{path}: expected only the mask values {listed([v for v, _ in mapping])}, found also {listed(unknown)}; "
            f"correct the mask, name the value in {DESCRIPTION_FILE}, or leave the mask out"
        )
    return replace_values(mask, values, [classes[v] for v in values.tolist()])


def _above_background(mask: Mask, rule: MaskRule) -> Mask:
    """The mask with 0 for background and -1 for what is ignored; colours become ids 1..n in their order."""
    if not rule.by_colour and not rule.ignore:
        return mask
    values = count_values(mask)[0]
    ignored, background = np.isin(values, (-1, *rule.ignore)), values == rule.background
    ids = np.cumsum(~ignored & ~background) if rule.by_colour else values
    return replace_values(mask, values, np.where(ignored, -1, np.where(background, 0, ids)).tolist())


def read_mask_by_rule(path: Path, page: int | None, rule: MaskRule, axes: str | None = None) -> Mask:
    """A mask file as (*space) int32 by the dataset's rule; DataError for a value that the rule does not know."""
    values = read_values(path, page, axes, snap=rule.is_binary)
    if rule.by_colour:
        values = values_to_colours(values, read_palette(path))
    mask = _map_values(values, rule.mapping, path) if rule.mapping else _above_background(values, rule)
    if rule.reading == "pieces":
        return np.where(mask < 0, -1, find_pieces(mask)).astype(np.int32)
    return np.minimum(mask, 1).astype(np.int32) if rule.reading == "foreground" else mask


def find_rule(dataset: Dataset) -> MaskRule | None:
    """The rule that the masks of a folder are read by; None for a dataset without masks or from another reader."""
    for sample in dataset.samples:
        bound = sample.mask.args if isinstance(sample.mask, partial) else ()
        rules = [each for each in bound if isinstance(each, MaskRule)]
        if rules:
            return rules[0]
    return None
